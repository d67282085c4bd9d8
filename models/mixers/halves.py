"""The halves that a layer is made of, by the types of its mixers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.architecture import Attention, LatentAttention, Moe
from models.mixers.attention import AttentionWork
from models.mixers.half import Half
from models.mixers.latent_attention import LatentAttentionWork
from models.mixers.mlp import MlpWork
from models.mixers.moe import MoeWork

if TYPE_CHECKING:
    from models.architecture import Layer, Mixer
    from models.mixers.half import MixerWork
    from models.shape import Shapes


def halves(layer: Layer, hidden: int, shapes: Shapes) -> tuple[Half, ...]:
    """Return the halves of a layer, in the order in which they run forward.

    Parameters
    ----------
    layer
        Its mixers and norms.
    hidden
        Width of the residual stream.
    shapes
        Shapes of work to take it for.
    """
    works: list[MixerWork] = []
    if layer.mixer is not None:
        works.append(_token_mixer(layer, hidden, shapes))
    if isinstance(layer.mlp, Moe):
        works.append(MoeWork(layer.mlp, hidden, shapes))
    elif layer.mlp is not None:
        before = _products(layer.mixer)
        works.append(MlpWork(layer.mlp, hidden, shapes, products_before=before))
    return tuple(Half(layer, hidden, shapes, work, first=not at) for at, work in enumerate(works))


def _token_mixer(layer: Layer, hidden: int, shapes: Shapes) -> MixerWork:
    if isinstance(layer.mixer, LatentAttention):
        return LatentAttentionWork(layer.mixer, hidden, shapes)
    return AttentionWork(layer.attention, layer.norm, hidden, shapes)


def _products(mixer: Mixer | None) -> int:
    """Return the matrix products of a token mixer's eager kernels."""
    if isinstance(mixer, LatentAttention):
        return 4 if mixer.q_rank is None else 5
    return 2 if isinstance(mixer, Attention) and mixer.joint else 4
