"""Which tokens of a sequence a rank of the mesh holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.sequence_parallel.schedule import chunks
from topologies.errors import Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.named_axes import SequenceOrder


def check_length(documents: Sequence[int], ulysses: int, ring: int, order: SequenceOrder) -> None:
    """Check that a sequence, of one document or several, can be cut.

    Raises
    ------
    SpecError
        If ranks would hold different numbers of tokens.
    """
    found = uneven("tokens", documents, ring, order)
    if sum(documents) % (ring * ulysses):
        mend = f"a multiple of {ring * ulysses}: every rank holds as many"
        found.append(Problem("tokens", sum(documents), mend))
    raise_if_any(found)


def uneven(field: str, documents: Sequence[int], ring: int, order: SequenceOrder) -> list[Problem]:
    """Return what is wrong with documents that a ring cannot cut into chunks of one length."""
    parts = len(chunks(order, ring, 0)) * ring
    return [
        Problem(field, tokens, f"a multiple of {parts}: the ring cuts it into as many")
        for tokens in documents
        if tokens % parts
    ]


def places(ulysses: int, ring: int) -> list[tuple[int, int]]:
    """Return every rank's place along the two axes, ulysses inside.

    >>> places(2, 2)
    [(0, 0), (1, 0), (0, 1), (1, 1)]
    """
    return [(u, r) for r in range(ring) for u in range(ulysses)]


def tokens_of(
    tokens: int | Sequence[int],
    ulysses: int,
    ring: int,
    order: SequenceOrder,
    place: tuple[int, int],
) -> Tensor:
    """Return the numbers of the tokens that a rank holds, in its order.

    The ring cuts the sequence, or every document packed into it, into chunks; Ulysses cuts what a
    ring rank holds into runs.

    Raises
    ------
    SpecError
        If ranks would hold different numbers of tokens.
    """
    inside, at = place
    own = list(chunks(order, ring, at))
    documents = [tokens] if isinstance(tokens, int) else list(tokens)
    check_length(documents, ulysses, ring, order)
    numbers = torch.arange(sum(documents)).split(documents)
    of_ring = [each.view(len(own) * ring, -1)[own].flatten() for each in numbers]
    return torch.cat(of_ring).chunk(ulysses)[inside]


def cut(whole: Tensor, dim: int, numbers: Sequence[Tensor]) -> list[Tensor]:
    """Return every rank's tokens of a whole tensor."""
    return [whole.index_select(dim, own) for own in numbers]


def join(parts: Sequence[Tensor], dim: int, numbers: Sequence[Tensor]) -> Tensor:
    """Return the whole tensor of every rank's tokens."""
    order = torch.argsort(torch.cat(list(numbers)))
    return torch.cat(list(parts), dim).index_select(dim, order)
