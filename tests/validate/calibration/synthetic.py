"""Measurements as a device of known figures would give them, with noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.collectives import cost
from models.compute import Device
from topologies.collective import Collective
from topologies.fabric import Fabric
from topologies.figure import Figure, Provenance
from validate.calibration import (
    attentions,
    everything,
    host,
    messages,
    overlap,
    probe,
    products,
    streams,
    sustained,
    targets,
)
from validate.calibration.item import SCALES, Item
from validate.calibration.measurement import Measurement
from validate.calibration.predict import predictions

ROUNDS = 5
WORKS = {
    streams.KIND: streams.work,
    products.KIND: products.work,
    products.OF_WEIGHTS: products.work,
    sustained.KIND: products.work,
    attentions.FORWARD: attentions.work,
    attentions.BACKWARD: attentions.work,
}


def figures(profile, **values):
    """Return a profile with other values of some figures, collectives aside."""
    made = {
        name: Figure(value=value, kind=Provenance.MEASURED, source="a test")
        for name, value in values.items()
    }
    return replace(profile, **made)


def measured(item, *seconds, wall=None):
    """Return a measurement of an item with these seconds of its rounds."""
    return Measurement(item=item, seconds=seconds, wall_s=wall or seconds, calls=1)


def exact(items, device, cluster=None, *, cores=1.0, stolen=0.0, lasting=1.0):
    """Return every item's seconds without noise, held-out ones as the inventory has them."""
    found = [(item, _seconds(item, device, cluster, stolen, lasting)) for item in items]
    held = [measured(item, 1.0) for item in items if item.kind in (targets.LAYER, targets.BLOCK)]
    told = {one.measurement.item: one.seconds for one in predictions(held, device, cluster, None)}
    ranks = cluster.accelerators if cluster else 1
    return {item: (told.get(item, seconds), max(ranks / cores, 1.0)) for item, seconds in found}


def synthesised(items, device, cluster=None, *, noise=0.0, seed=0, slow=0.0, cores=1.0, **more):
    """Return measurements of items, each round's with noise and some items three times as slow."""
    draw = np.random.default_rng(seed)
    found = []
    for item, (seconds, waiting) in exact(items, device, cluster, cores=cores, **more).items():
        late = 3.0 if slow and item.kind != probe.KIND and draw.random() < slow else 1.0
        each = seconds * late * np.exp(noise * draw.standard_normal(ROUNDS))
        wall = tuple(map(float, each * waiting))
        found.append(measured(item, *map(float, each), wall=wall))
    return found


def device_items(device, world, scale=None):
    """Return all there is to measure, held-out things too."""
    return everything.items(device, world, scale or SCALES[device])


def _seconds(item, device, cluster, stolen, lasting):
    if item.kind in WORKS:
        work = WORKS[item.kind]([_as_product(item)])
        seconds = float(device.host_bound(device.seconds(work), work.launches)[0])
        return seconds / lasting if item.kind == sustained.KIND else seconds
    if item.kind == messages.KIND:
        return _sent(Collective(str(item["collective"])), item, device.profile, cluster)
    if item.kind == overlap.KIND:
        return _beside(item, device, cluster, stolen)
    if item.kind == host.REPLAY:
        return host.REPLAYED * device.profile.kernel_s.value
    if item.kind == host.LAUNCH:
        return device.profile.host_launch_s.value or 1e-6
    return 1e-3


def _as_product(item):
    return Item(products.KIND, item.args) if item.kind == sustained.KIND else item


def _sent(collective, item, profile, cluster):
    place = np.array([float(item["size"])]), np.array([float(item["stride"])])
    links = Fabric(cluster).links(place)
    return float(cost(collective, links, profile).seconds(np.array([float(item["nbytes"])]))[0])


def _beside(item, device, cluster, stolen):
    hop = _sent(Collective.SHIFT, item, device.profile, cluster)
    shape = {"q": item["q"], "k": item["q"], "causal": False}
    heads = {name: item[name] for name in ("heads", "kv_heads", "d")}
    block = attentions.work([Item.of(attentions.FORWARD, **shape, **heads)])
    compute = float(device.seconds(block)[0])
    both = compute + stolen * min(hop, compute)
    return {"compute": compute, "hop": hop, "both": both}[str(item["what"])]


def on(accelerator, profile):
    """Return a device."""
    return Device(accelerator, profile)
