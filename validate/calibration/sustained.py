"""What lasts of a rate: a product for seconds on end, beside the same in a burst.

A GPU that draws all its power lowers its clock after a moment; a burst does not see that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from validate.calibration import products
from validate.calibration.item import Item, Scale
from validate.calibration.measurement import of_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from validate.calibration.bench import Bench
    from validate.calibration.measurement import Measurement

KIND = "sustained"
#: How long, in seconds.
LASTING_S = 3.0


def items(scale: Scale, device: str) -> list[Item]:
    """Return the largest product, on devices that have a power limit of their own."""
    if device != "cuda":
        return []
    columns, depth = max(scale.weights, key=lambda weight: weight[0] * weight[1])
    return [Item.of(KIND, m=scale.rows[-1], n=columns, k=depth, way="forward")]


def prepare(item: Item, bench: Bench) -> Callable[[], object]:
    """Return the product."""
    return products.prepare(item, bench)


def share(found: Sequence[Measurement]) -> float | None:
    """Return the lasting rate over that of a burst; None where it was not measured."""
    lasting = {each.item.args: each.t for each in of_kind(found, KIND)}
    bursts = {each.item.args: each.t for each in of_kind(found, products.KIND)}
    both = [bursts[args] / seconds for args, seconds in lasting.items() if args in bursts]
    return min(both[0], 1.0) if both else None
