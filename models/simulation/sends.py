"""Sends between pipeline stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.simulation.operations import load
from models.simulation.program import Task
from models.simulation.timeline import Call, Stream
from models.stage_sends import StageSends
from topologies.collective import Collective

if TYPE_CHECKING:
    from models.compute import Device
    from models.prepared import Prepared
    from topologies.fabric import Fabric


def send_task(prepared: Prepared, device: Device, fabric: Fabric) -> Task:
    """Return the sending of one micro-batch's activations, or of their gradients, to a neighbour.

    Parameters
    ----------
    prepared, device, fabric
        One layout, accelerator with profile, links.
    """
    sends = StageSends(prepared, device.profile, fabric)
    nbytes, alone = prepared.sent_bytes(), np.zeros(1, dtype=np.intp)
    call = Call(
        name="send activations",
        stream=Stream.SEND,
        collective=Collective.SHIFT,
        nbytes=float(nbytes[0]),
        group=2,
    )
    if sends.meshes.pp[0] == 1:
        return Task(call, 0.0)
    return Task(
        call,
        float(sends.seconds(alone, alone)[0]),
        float(sends.steal[0]),
        load(Collective.SHIFT, sends.links, sends.cost.chosen(nbytes)[0]),
    )
