"""What was asked, as answers in JSON say it."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from planner.scenario import Scenario

_Value = TypeVar("_Value")


def job_block(scenarios: Sequence[Scenario]) -> dict[str, Any]:
    """Return the job of one scenario, or of several that differ in size, length or batch alone.

    Parameters
    ----------
    scenarios
        One or more. What they differ in is a list; nodes go with the accelerators.
    """
    first = scenarios[0]
    work, model, cluster = first.workload, first.architecture, first.cluster
    nodes = {each.cluster.accelerators: each.cluster.nodes for each in scenarios}
    return {
        "model": {"name": model.name, "title": model.title},
        "parameters": model.params,
        "cluster": {"name": cluster.name, "title": cluster.title},
        "gpus": _one_or_all(nodes),
        "nodes": _one_or_all(nodes.values()),
        "seq_len": _one_or_all(dict.fromkeys(each.workload.seq_len for each in scenarios)),
        "global_batch": _one_or_all(
            dict.fromkeys(each.workload.global_batch for each in scenarios)
        ),
        "precision": work.precision,
        "software": work.software,
        "fit_chance": first.fit_chance,
        "version": version("meshwright"),
    }


def _one_or_all(values: Iterable[_Value]) -> _Value | list[_Value]:
    """Return the only value, or a list of several."""
    several = list(values)
    return several[0] if len(several) == 1 else several
