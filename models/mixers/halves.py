"""The halves that a layer is made of, by the types of its mixers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.architecture import (
    Attention,
    GatedDeltaNet,
    LatentAttention,
    Mamba1,
    Mamba2,
    Moe,
    SideBySide,
)
from models.mixers.attention import AttentionWork
from models.mixers.delta_net import DeltaNetWork
from models.mixers.half import Half
from models.mixers.latent_attention import LatentAttentionWork
from models.mixers.mamba1 import Mamba1Work
from models.mixers.mamba2 import Mamba2Work
from models.mixers.mlp import MlpWork
from models.mixers.moe import MoeWork
from models.mixers.side_by_side import SideBySideWork

if TYPE_CHECKING:
    from models.architecture import Layer, Mixer
    from models.mixers.half import MixerWork
    from models.shape import Shapes


def halves(layer: Layer, hidden: int, shapes: Shapes) -> tuple[Half, ...]:
    """Return the halves of a layer, in the order in which they run forward.

    Parameters
    ----------
    layer
        Its mixers and norms; one of the mixers may be missing.
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
    match layer.mixer:
        case LatentAttention():
            return LatentAttentionWork(layer.mixer, hidden, shapes)
        case Mamba1():
            return Mamba1Work(layer.mixer, hidden, shapes)
        case Mamba2():
            return Mamba2Work(layer.mixer, hidden, shapes)
        case GatedDeltaNet():
            return DeltaNetWork(layer.mixer, hidden, shapes)
        case SideBySide():
            return SideBySideWork(
                Mamba2Work(layer.mixer.state_space, hidden, shapes),
                AttentionWork(layer.attention, layer.norm, hidden, shapes),
                hidden,
                shapes,
            )
        case _:
            return AttentionWork(layer.attention, layer.norm, hidden, shapes)


def _products(mixer: Mixer | None) -> int:
    """Return the matrix products of a token mixer's eager kernels."""
    if isinstance(mixer, LatentAttention):
        return 4 if mixer.q_rank is None else 5
    return 2 if isinstance(mixer, Attention) and mixer.joint else 4
