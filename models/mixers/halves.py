"""The halves that a layer is made of, by the types of its mixers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.architecture import Moe
from models.mixers.attention import AttentionWork
from models.mixers.half import Half
from models.mixers.mlp import MlpWork
from models.mixers.moe import MoeWork

if TYPE_CHECKING:
    from models.architecture import Layer
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
    works: list[MixerWork] = [AttentionWork(layer.attention, layer.norm, hidden, shapes)]
    if isinstance(layer.mlp, Moe):
        works.append(MoeWork(layer.mlp, hidden, shapes))
    else:
        works.append(MlpWork(layer.dense, hidden, shapes))
    return tuple(Half(layer, hidden, shapes, work, first=not at) for at, work in enumerate(works))
