"""Sends between pipeline stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.collectives import cost, steal
from models.layout import strides
from models.simulation.operations import load
from models.simulation.program import Task
from models.simulation.timeline import Call, Stream
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
    meshes = prepared.meshes
    nbytes = prepared.sent_bytes()
    links = fabric.links((meshes.pp * 1.0, strides(meshes).pp))
    what = cost(Collective.SHIFT, links, device.profile)
    call = Call(
        name="send activations",
        stream=Stream.SEND,
        collective=Collective.SHIFT,
        nbytes=float(nbytes[0]),
        group=2,
    )
    if meshes.pp[0] == 1:
        return Task(call, 0.0)
    return Task(
        call,
        float(what.seconds(nbytes)[0]),
        float(steal(links, device.profile)[0]),
        load(Collective.SHIFT, links, what.chosen(nbytes)[0]),
    )
