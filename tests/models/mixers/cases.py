"""Layers with recurrent mixers, and parts of their work, that several tests share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from models.architecture import Recurrent, SideBySide
from models.catalogue import load_architecture
from models.inventory import layer_work
from models.operation import Axis, Communication
from tests.models.cases import shapes

if TYPE_CHECKING:
    from models.architecture import Architecture, Layer
    from models.operation import Work


def recurrent(architecture: Architecture) -> Layer:
    """Return the first recurrent mixer's layer, without its channel mixer."""
    layer = next(
        kind for kind in architecture.kinds if isinstance(kind.mixer, Recurrent | SideBySide)
    )
    mixer = layer.mixer.state_space if isinstance(layer.mixer, SideBySide) else layer.mixer
    return replace(layer, mixer=mixer, mlp=None, norms=1)


def recurrent_work(name: str, seq_len: int, **axes: object) -> Work:
    """Return the work of a catalogue model's recurrent layer, without its channel mixer."""
    architecture = load_architecture(name)
    return layer_work(recurrent(architecture), architecture.hidden, shapes(seq_len, **axes))


def flop(work: Work, *names: str, backward: bool = False) -> float:
    """Return the FLOP of the operations whose names begin with the words of one of some."""
    operations = work.backward_compute() if backward else work.forward_compute()
    begin = tuple(f"{name} " for name in names)
    return sum(float(op.flop[0]) for op in operations if f"{op.name} ".startswith(begin))


def sent(work: Work, axis: Axis, *, backward: bool = False) -> dict[str, tuple[float, float]]:
    """Return bytes of a call and calls of what is sent on an axis, by name."""
    operations = work.backward if backward else work.forward
    return {
        op.name: (float(op.nbytes[0]), float(op.calls[0]))
        for op in operations
        if isinstance(op, Communication) and op.axis is axis and op.calls[0] > 0
    }


def kept(work: Work) -> dict[str, float]:
    """Return what is kept, by name."""
    return {item.name: float(item.nbytes[0]) for item in work.saved}
