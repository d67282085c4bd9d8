"""Ulysses: all-to-all between tokens of all heads and all tokens of some heads.

Jacobs et al., arXiv:2309.14509. Key/value heads are repeated where the axis exceeds them (DeepSpeed
``sequence/ulysses_sp.py``), and their gradients summed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from topologies.errors import Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from validate.kernels.axis import Axis


def check_heads(size: int, heads: int, kv_heads: int) -> None:
    """Check that heads can be divided.

    Raises
    ------
    SpecError
        With each that cannot.
    """
    found = []
    if heads % size:
        found.append(Problem("--ulysses", size, f"a divisor of the {heads} query heads"))
    if kv_heads % size and size % kv_heads:
        mend = f"a divisor or a multiple of the {kv_heads} key/value heads"
        found.append(Problem("--ulysses", size, mend))
    raise_if_any(found)


def to_heads(axis: Axis, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Exchange ``[batch, heads, tokens, width]`` for some heads of the tokens of all ranks."""
    if axis.size == 1:
        return list(tensors)
    rows = [_repeated(each, axis.size).unflatten(1, (axis.size, -1)) for each in tensors]
    found = axis.exchange([each.movedim(1, 0) for each in rows])
    return [each.movedim(0, 2).flatten(2, 3) for each in found]


def to_tokens(axis: Axis, tensors: Sequence[Tensor], heads: int) -> list[Tensor]:
    """Exchange back; what was repeated of fewer `heads` is summed."""
    if axis.size == 1:
        return list(tensors)
    rows = [each.unflatten(2, (axis.size, -1)).movedim(2, 0) for each in tensors]
    found = [each.movedim(0, 1).flatten(1, 2) for each in axis.exchange(rows)]
    if found[0].shape[1] > heads:
        found = [each.unflatten(1, (heads, -1)).sum(2) for each in found]
    return found


def _repeated(tensor: Tensor, size: int) -> Tensor:
    heads: int = tensor.shape[1]
    return tensor if heads >= size else tensor.repeat_interleave(size // heads, dim=1)
