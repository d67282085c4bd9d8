"""A whole model: its layers, embedding, head and sizes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING

from models.architecture.layer import NORM_VECTORS
from topologies.errors import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.architecture.layer import Layer


@dataclass(frozen=True, kw_only=True, eq=False)
class Architecture:
    """A decoder-only language model; compared by identity, so that it can key caches.

    Parameters
    ----------
    name, title, source
        Catalogue name or file, the name people read, and where the numbers were read.
    hidden, vocab
        Width of the residual stream and rows of the embedding.
    layers
        Every layer, first to last.
    predict_layers
        Layers that predict tokens further ahead (DeepSeek-V3's multi-token prediction), counted
        apart: published totals and transformers leave them out.
    tied
        Whether the output head reuses the embedding.
    embedding_norm
        Whether the embedding has a norm of its own (BLOOM).
    learned_positions
        Rows of a learned position table; 0 with rotary positions.
    max_positions
        Longest sequence the published model was made for.
    notes
        Sentences about what was read.
    """

    name: str
    title: str
    source: str
    hidden: int
    vocab: int
    layers: tuple[Layer, ...]
    predict_layers: tuple[Layer, ...] = ()
    tied: bool = False
    embedding_norm: bool = False
    learned_positions: int = 0
    max_positions: int | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def kinds(self) -> tuple[Layer, ...]:
        """Distinct layers, most frequent first."""
        return tuple(layer for layer, _ in Counter(self.layers).most_common())

    @cached_property
    def kind_of_layer(self) -> tuple[int, ...]:
        """For each layer its position in :attr:`kinds`."""
        return tuple(self.kinds.index(layer) for layer in self.layers)

    @cached_property
    def cut_heads(self) -> tuple[tuple[int, str], ...]:
        """What tensor parallelism and Ulysses cut in any layer: numbers they must divide."""
        return _distinct(kind.mixer.cut_heads for kind in self.kinds if kind.mixer)

    @cached_property
    def shared_heads(self) -> tuple[tuple[int, str], ...]:
        """What they cut or, being more, replicate."""
        return _distinct(kind.mixer.shared_heads for kind in self.kinds if kind.mixer)

    @cached_property
    def cut_widths(self) -> tuple[tuple[int, str], ...]:
        """What only tensor parallelism cuts."""
        return _distinct(kind.mlp.cut_widths for kind in self.kinds if kind.mlp)

    @property
    def embedding_params(self) -> int:
        """Parameters of the token embedding with its norm, and of the learned positions."""
        norm = self.final_norm_params if self.embedding_norm else 0
        return (self.vocab + self.learned_positions) * self.hidden + norm

    @property
    def head_params(self) -> int:
        """Parameters of an untied output head."""
        return 0 if self.tied else self.vocab * self.hidden

    @property
    def final_norm_params(self) -> int:
        """Parameters of the norm before the head."""
        return self.hidden * NORM_VECTORS[self.layers[-1].norm]

    @cached_property
    def params(self) -> int:
        """All parameters, a tied head counted once, without :attr:`predict_layers`.

        >>> from models import load_architecture
        >>> load_architecture("llama-3.1-8b").params
        8030261248
        """
        return self._around + sum(layer.params(self.hidden) for layer in self.layers)

    @cached_property
    def active_params(self) -> int:
        """Parameters a token uses: all but those of experts it does not visit.

        Embedding and head count whole, as DeepSeek's and Mistral's published figures have it;
        OpenAI's leave the embedding out.

        >>> from models import load_architecture
        >>> load_architecture("mixtral-8x7b").active_params
        12879925248
        """
        return self._around + sum(layer.active_params(self.hidden) for layer in self.layers)

    @property
    def predict_params(self) -> int:
        """Parameters of multi-token prediction that are not the model's own.

        Each of its layers has two norms for what it joins, a projection of the joined pair, and
        a norm before the head (DeepSeek-V3, arXiv:2412.19437, section 2.2); embedding and head
        are shared.
        """
        hidden = self.hidden
        return sum(x.params(hidden) + x.joining_params(hidden) for x in self.predict_layers)

    def predicting(self, depth: int) -> Architecture:
        """Return the model with some of :attr:`predict_layers` among its layers.

        Raises
        ------
        SpecError
            If it has fewer.
        """
        return _predicting(self, depth)

    @property
    def _around(self) -> int:
        return self.embedding_params + self.head_params + self.final_norm_params


@cache
def _predicting(architecture: Architecture, depth: int) -> Architecture:
    most = len(architecture.predict_layers)
    if not 0 <= depth <= most:
        has = f"{most} layers" if most > 1 else "one layer" if most else "no layers"
        mend = f"{architecture.title} has {has} of multi-token prediction"
        mend += f": from 0 to {most}" if most else ": leave it out"
        raise SpecError([Problem("--predict-depth", depth, mend)])
    if not depth:
        return architecture
    asked = architecture.predict_layers[:depth]
    more = tuple(replace(layer, predicts=architecture.vocab) for layer in asked)
    return replace(
        architecture,
        layers=architecture.layers + more,
        predict_layers=architecture.predict_layers[depth:],
    )


def _distinct(found: Iterable[tuple[tuple[int, str], ...]]) -> tuple[tuple[int, str], ...]:
    """Return the pairs of all, each once, the smallest numbers first."""
    return tuple(sorted({pair for pairs in found for pair in pairs}))
