"""Where the ranks of one layout could sit instead: every order of the axes that differs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from models.layout import LayoutBatch
from models.legality import legal
from models.named_axes import CpPlacement, RankOrder

if TYPE_CHECKING:
    from models.layout import Layout
    from planner.plans import Plan
    from planner.scenario import Scenario


def placements(scenario: Scenario, layout: Layout) -> tuple[Plan, ...]:
    """Return a layout's plans under all orders of its axes, fastest first.

    Of orders that put every rank in the same place only one is kept, the layout's own before
    others; and both ways to nest Ulysses and ring where it has both.

    Parameters
    ----------
    scenario
        Model, cluster, workload.
    layout
        Legal there.
    """
    nested = list(CpPlacement) if layout.ulysses > 1 < layout.ring else [layout.cp_placement]
    orders = sorted(RankOrder, key=lambda order: order != layout.rank_order)
    tried = [
        replace(layout, rank_order=order, cp_placement=inner)
        for order, inner in product(orders, nested)
    ]
    batch = LayoutBatch.of(tried)
    plans = scenario.evaluate(batch.take(legal(batch, scenario.job)))
    apart = {(plan.placement.axes, plan.placement.experts): plan for plan in reversed(plans)}
    return tuple(sorted(apart.values(), key=lambda plan: plan.step_time_s))
