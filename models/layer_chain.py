"""Layers of a pass whose parameters are gathered for it: what each waits for.

Parameters of a layer are gathered while the layer before it in the pass runs, and its gradients
reduced while the one after it does (ZeRO-3; FSDP prefetches one unit ahead). Layers differ: the
experts of one are not there in time beside the little that a dense one computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.overlap import beside

if TYPE_CHECKING:
    from models.layout import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A quantity of a model by its parts: one layer of each kind, the embedding, the head."""

    layers: tuple[Array, ...]
    embedding: Array
    head: Array


@dataclass(frozen=True, slots=True)
class LayerChain:
    """The layers of a model one after the other, the ends with the first and the last.

    Parameters
    ----------
    kinds
        The kind of each layer.
    shares
        What share each part has of the parameters.
    """

    kinds: tuple[int, ...]
    shares: Parts

    def forward(self, gather: Array, busy: Parts, steal: Array) -> Array:
        """Return what a forward pass waits for its parameters.

        Parameters
        ----------
        gather
            Seconds that gathering all of them takes.
        busy
            Seconds of the pass by its parts.
        steal
            Share of the compute that sending takes away.
        """
        waiting = self._at(0, self.shares) * gather
        for at, many in self._alike(range(len(self.kinds) - 1), (0, 1)):
            ahead = self._at(at + 1, self.shares) * gather
            waiting = waiting + many * beside(ahead, self._at(at, busy), steal)
        return waiting

    def backward(self, gather: Array, reduce: Array, busy: Parts, steal: Array) -> Array:
        """Return what a backward pass waits for, that gathers ahead and reduces behind.

        Parameters
        ----------
        gather, reduce
            Seconds that all parameters and gradients take.
        busy, steal
            As forward.
        """
        last = len(self.kinds) - 1
        waiting = self._at(last, self.shares) * gather + self._at(0, self.shares) * reduce
        for at, many in self._alike(range(last + 1), (-1, 0, 1)):
            sent = 0.0 * gather
            if at > 0:
                sent = sent + self._at(at - 1, self.shares) * gather
            if at < last:
                sent = sent + self._at(at + 1, self.shares) * reduce
            waiting = waiting + many * beside(sent, self._at(at, busy), steal)
        return waiting

    def _at(self, layer: int, parts: Parts) -> Array:
        """Return a layer's part of a quantity, with the end that goes with it."""
        found = parts.layers[self.kinds[layer]]
        if layer == 0:
            found = found + parts.embedding
        return found + parts.head if layer == len(self.kinds) - 1 else found

    def _alike(self, layers: range, offsets: tuple[int, ...]) -> list[tuple[int, int]]:
        """Return one layer of each neighbourhood, and how many are in such a one."""
        last = len(self.kinds) - 1
        found: dict[tuple[object, ...], list[int]] = {}
        for layer in layers:
            near = [layer + offset for offset in offsets if 0 <= layer + offset <= last]
            key = tuple((at - layer, self.kinds[at], at == 0, at == last) for at in near)
            found.setdefault(key, []).append(layer)
        return [(group[0], len(group)) for group in found.values()]
