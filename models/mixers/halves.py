"""The halves that a layer is made of, by the types of its mixers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.architecture.linear_attention import GatedDeltaNet
from models.architecture.side_by_side import SideBySide
from models.architecture.state_space import Mamba1, Mamba2
from models.mixers.attention import AttentionWork
from models.mixers.delta_net import DeltaNetWork
from models.mixers.half import Half
from models.mixers.mamba1 import Mamba1Work
from models.mixers.mamba2 import Mamba2Work
from models.mixers.mlp import MlpWork
from models.mixers.side_by_side import SideBySideWork

if TYPE_CHECKING:
    from models.architecture import Layer
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
    if layer.mlp is not None:
        works.append(MlpWork(layer.dense, hidden, shapes))
    return tuple(Half(layer, hidden, shapes, work, first=not at) for at, work in enumerate(works))


def _token_mixer(layer: Layer, hidden: int, shapes: Shapes) -> MixerWork:
    match layer.mixer:
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
