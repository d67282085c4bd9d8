"""Held-out layers and blocks, predicted from the inventory with a profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.architecture import Attention, Layer, Mlp
from models.collectives import cost
from models.inventory import layer_work
from models.layout import LayoutBatch
from models.operation import Communication
from models.sequence_parallel.sent import CORE_ATTENTION
from models.shape import Shapes
from topologies.fabric import Fabric
from validate.calibration import targets
from validate.calibration.measurement import of_kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.compute import Device
    from models.operation import Operation
    from topologies.cluster import Cluster
    from validate.calibration.item import Item
    from validate.calibration.measurement import Measurement

#: Operations of the inventory that sequence-parallel attention alone has.
OF_ATTENTION = (CORE_ATTENTION, "ring merge", "ulysses pack")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A held-out layer or block.

    Parameters
    ----------
    measurement
        What was measured.
    seconds
        Predicted of the device.
    wall_s
        Predicted to pass, with the cores there were.
    """

    measurement: Measurement
    seconds: float
    wall_s: float

    @property
    def error(self) -> float:
        """Predicted over measured seconds of the device, less one."""
        return self.seconds / self.measurement.t - 1.0

    @property
    def wall_error(self) -> float:
        """The same of what passed."""
        return self.wall_s / self.measurement.wall - 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "kind": self.measurement.item.kind,
            "args": dict(self.measurement.item.args),
            "measured_s": self.measurement.t,
            "predicted_s": self.seconds,
            "error": self.error,
            "measured_wall_s": self.measurement.wall,
            "predicted_wall_s": self.wall_s,
            "wall_error": self.wall_error,
        }


def predictions(
    found: Sequence[Measurement],
    device: Device,
    cluster: Cluster | None,
    cores: float | None,
) -> list[Prediction]:
    """Return the prediction of every held-out layer and block.

    Parameters
    ----------
    found
        All measurements.
    device
        With the profile that was fitted to the others.
    cluster
        With as many accelerators as ranks; None for one alone.
    cores
        That all ranks really had together; None where every rank has a device of its own.
    """
    fabric = None if cluster is None else Fabric(cluster)
    ranks = 1 if cluster is None else cluster.accelerators
    waiting = 1.0 if cores is None else max(ranks / cores, 1.0)
    told = []
    for each in of_kind(found, targets.LAYER, targets.BLOCK):
        seconds = _seconds(each.item, device, fabric)
        told.append(Prediction(measurement=each, seconds=seconds, wall_s=seconds * waiting))
    return told


def _seconds(item: Item, device: Device, fabric: Fabric | None) -> float:
    chosen = targets.layout(item)
    ranks = chosen.ulysses * chosen.ring
    shapes = Shapes(batch=LayoutBatch.of([chosen]), seq_len=item.number("tokens") * ranks)
    computed, launches, sent = 0.0, 0.0, 0.0
    for operation in _operations(item, shapes):
        if not isinstance(operation, Communication):
            computed += float(device.seconds(operation)[0])
            launches += float(operation.launches[0])
        elif fabric is not None:
            sent += _sent(operation, shapes, device, fabric)
    # The host starts what comes next while ranks wait for each other.
    taken = float(device.host_bound(np.array(computed + sent), np.array(launches)))
    # A rank that is alone plays all of them, one after the other.
    return (ranks if fabric is None else 1) * taken


def _operations(item: Item, shapes: Shapes) -> Iterator[Operation]:
    hidden, heads = item.number("hidden"), item.number("heads")
    mixer = Attention(heads=heads, kv_heads=item.number("kv_heads"), head_dim=hidden // heads)
    whole = item.kind == targets.BLOCK
    mlp = Mlp(intermediate=item.number("mlp") if whole else 1)
    work = layer_work(Layer(mixer=mixer, mlp=mlp), hidden, shapes)
    for operation in (*work.forward, *work.backward):
        if whole or isinstance(operation, Communication) or operation.name in OF_ATTENTION:
            yield operation


def _sent(operation: Communication, shapes: Shapes, device: Device, fabric: Fabric) -> float:
    """Return the seconds of an operation's calls, each at its place among the ranks."""
    size = np.broadcast_to(getattr(shapes, operation.axis), (1,)) * 1.0
    calls = float(np.broadcast_to(operation.calls, (1,))[0])
    if calls == 0.0 or size[0] < 2.0:
        return 0.0
    stride = np.broadcast_to(shapes.strides()[operation.axis], (1,)) * 1.0
    costs = cost(operation.collective, fabric.links((size, stride)), device.profile)
    return calls * float(costs.seconds(np.broadcast_to(operation.nbytes, (1,)) * 1.0)[0])
