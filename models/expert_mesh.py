"""Where the ranks of experts lie: the expert mesh, folded over the ranks of attention's.

Of the ranks that share a pipeline stage, attention makes ``dp x cp x tp`` and experts make
``edp x ep x etp``, in the same rank order with ``etp`` in the place of ``tp`` and nothing in that
of ``cp`` (Megatron-Core's parallel folding, arXiv:2504.14960 section 3.2;
NVIDIA/Megatron-LM@d98e8a64 core/parallel_state.py, ``expert_decoder_rank_generator``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.named_axes import RankOrder

if TYPE_CHECKING:
    from models.layout import Bools, Ints, LayoutBatch

#: Axes of the expert mesh by the places they take in a rank order.
_AXES = {"tp": "etp", "ep": "ep", "dp": "edp", "pp": "pp"}


def _inside_of(place: str, order: RankOrder) -> list[str]:
    places = order.label.split("-")
    return places[: places.index(place)]


#: For a pair of places, under which rank orders (a column each) the second lies inside the first.
_INSIDE: dict[tuple[str, str], Bools] = {
    (place, inner): np.array([inner in _inside_of(place, order) for order in RankOrder])
    for place in _AXES
    for inner in _AXES
    if inner != place
}


def expert_data_ranks(batch: LayoutBatch) -> Ints:
    """Return the ranks that hold the same experts: ``dp x cp x tp / (ep x etp)``."""
    return batch.dp * batch.cp * batch.tp // (batch.ep * batch.etp)


def expert_stride(batch: LayoutBatch, axis: str) -> Ints:
    """Return the ranks from one member of an expert axis to the next.

    Parameters
    ----------
    batch
        The layouts.
    axis
        ``etp``, ``ep``, ``edp`` or ``pp``, as the expert mesh has it.
    """
    sizes = {"etp": batch.etp, "ep": batch.ep, "edp": expert_data_ranks(batch), "pp": batch.pp}
    (place,) = (place for place, name in _AXES.items() if name == axis)
    product = np.ones(len(batch), dtype=np.int32)
    for (outer, inner), orders in _INSIDE.items():
        if outer == place:
            inside = orders.take(batch.rank_order)
            product = np.where(inside, product * sizes[_AXES[inner]], product)
    return product
