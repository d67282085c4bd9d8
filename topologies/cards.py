"""Which accelerators of a node have which of its network cards."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class CardShare(NamedTuple):
    """What an accelerator has of a network card, in parts: all it has is as many as a node's cards.

    Parameters
    ----------
    accelerator, card
        Their numbers.
    parts
        The part of the accelerator's rate that goes through the card.
    """

    accelerator: int
    card: int
    parts: int


def card_shares(total: int, node: int, cards: int) -> Iterator[CardShare]:
    """Yield which accelerators of nodes have which cards, even where one does not divide the other.

    >>> [share[:2] for share in card_shares(4, 4, 2)]
    [(0, 0), (1, 0), (2, 1), (3, 1)]
    """
    for accelerator in range(total):
        host, place = divmod(accelerator, node)
        first, last = place * cards, (place + 1) * cards
        for card in range(first // node, (last - 1) // node + 1):
            parts = min(last, (card + 1) * node) - max(first, card * node)
            yield CardShare(accelerator, host * cards + card, parts)
