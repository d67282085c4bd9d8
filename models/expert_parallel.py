"""What expert parallelism sends: tokens to the ranks of their experts, and back.

*All-to-all*: every copy of a token goes straight to its expert's rank (GShard, arXiv:2006.16668;
Megatron-Core's ``alltoall`` dispatcher). *Hierarchical*: the same bytes twice, between the ranks of
a fast domain and then between those of one place in each domain, in fewer and longer messages
(Tutel, arXiv:2206.03382 section 4.2). *DeepEP*: a token goes once to every domain that has experts
of its own, to the rank of the same place, and from there once to every rank that has, while others
still arrive (deepseek-ai/DeepEP, normal kernels). Experts that are cut (`etp`) have their tokens
gathered, and what they made of them reduced, over the ranks that cut them.

Where some experts are wanted more, all wait for what their rank receives and sends back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16
from models.named_axes import Dispatch
from models.operation import Axis, Communication
from models.routing import parts_visited
from topologies.collective import Collective

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.architecture import Moe
    from models.layout import Array
    from models.shape import Shapes


def busiest(moe: Moe, shapes: Shapes, parts: Array) -> Array:
    """Return the tokens of the busiest of some equal parts of the experts over the mean."""
    return _each(parts, lambda part: shapes.routing.busiest(moe.experts, part))


def exchange(
    name: str,
    moe: Moe,
    width: int,
    shapes: Shapes,
    hidden_by: str,
    *,
    to_experts: bool,
) -> tuple[Communication, ...]:
    """Return one exchange between the ranks that experts are spread over.

    Parameters
    ----------
    name
        What travels.
    moe, width, shapes
        The experts, columns of what travels, and shapes of work.
    hidden_by
        The product of shared experts that it may run beside, where layouts have it so.
    to_experts
        Whether it goes there, which some precisions do in fewer bits, or comes back.
    """
    element_bytes = shapes.precision.dispatched_bytes if to_experts else BF16
    row = shapes.own_tokens * width * element_bytes
    spread = np.where(shapes.ep > 1, 1.0, 0.0)
    way = shapes.batch.dispatch
    uneven = busiest(moe, shapes, shapes.ep)
    copies = row * moe.top_k * uneven
    beside = shapes.batch.shared_overlap * spread
    flat = np.where(way == Dispatch.ALL_TO_ALL, spread, 0.0)
    staged = np.where(way == Dispatch.HIERARCHICAL, spread, 0.0)
    once = np.where(way == Dispatch.DEEPEP, spread, 0.0)
    inside = shapes.ep_inside
    across = shapes.ep / inside
    near, far = np.where(inside > 1, 1.0, 0.0), np.where(across > 1, 1.0, 0.0)
    ranks = _each(shapes.ep, lambda parts: parts_visited(moe, parts))
    domains = _each(across, lambda parts: parts_visited(moe, parts))
    # No more reach a rank, or a domain, than there are.
    ranks = np.minimum(ranks * uneven, shapes.ep)
    domains = np.minimum(domains * busiest(moe, shapes, across), across)
    found = [
        _sent(name, Axis.EP, copies, flat * (1.0 - beside)),
        _sent(f"{name} in domains", Axis.EP_INSIDE, copies, staged * near),
        _sent(f"{name} between domains", Axis.EP_ACROSS, copies, staged * far),
        _sent(f"{name} to domains", Axis.EP_ACROSS, row * domains, once * far),
        _sent(f"{name} forwarded", Axis.EP_INSIDE, row * ranks, once * near, with_last=True),
    ]
    if hidden_by:
        found.append(_sent(name, Axis.EP, copies, flat * beside, hidden_by=hidden_by))
    return tuple(found)


def gather(name: str, moe: Moe, width: int, shapes: Shapes) -> Communication:
    """Return how ranks that cut an expert gather its tokens."""
    return _cut(name, Collective.ALL_GATHER, moe, width, shapes)


def scatter(name: str, moe: Moe, width: int, shapes: Shapes) -> Communication:
    """Return how they sum up, and divide, what they made of them."""
    return _cut(name, Collective.REDUCE_SCATTER, moe, width, shapes)


def _each(parts: Array, figure: Callable[[int], float]) -> Array:
    """Return a figure of every number of parts, found once for those that are alike."""
    kinds, place = np.unique(parts, return_inverse=True)
    found: Array = np.array([figure(int(kind)) for kind in kinds])[place]
    return found


def _cut(name: str, what: Collective, moe: Moe, width: int, shapes: Shapes) -> Communication:
    rows = shapes.own_tokens * moe.top_k * shapes.etp * busiest(moe, shapes, shapes.ep)
    return Communication(
        name=name,
        collective=what,
        axis=Axis.ETP,
        nbytes=rows * width * BF16,
        calls=np.where(shapes.etp > 1, 1.0, 0.0),
    )


def _sent(
    name: str,
    axis: Axis,
    nbytes: Array,
    calls: Array,
    *,
    hidden_by: str = "",
    with_last: bool = False,
) -> Communication:
    return Communication(
        name=name,
        collective=Collective.ALL_TO_ALL,
        axis=axis,
        nbytes=nbytes,
        calls=calls,
        hidden_by=hidden_by,
        with_last=with_last,
    )
