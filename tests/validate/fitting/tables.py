"""The measured kernels that the tests read, and what profiles say of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from models.compute import Device
from models.profile import load_profile
from topologies.catalogue import load_accelerator
from topologies.figure import Figure, Provenance
from validate.fitting import rules, work
from validate.fitting.formats import samples
from validate.fitting.sample import BACKWARD, DECODE, FORWARD, NARROW_PRODUCT, PRODUCT
from validate.fitting.table import Table

FILES = sorted(str(path) for path in (Path(__file__).parents[2] / "data" / "kernels").glob("*.csv"))
KINDS = (PRODUCT, NARROW_PRODUCT, FORWARD, BACKWARD, DECODE)


def figures(profile, **values):
    """Return a profile with other values of some figures."""
    made = {
        name: Figure(value=value, kind=Provenance.FITTED, source="a test")
        for name, value in values.items()
    }
    return replace(profile, **made)


def burst(name):
    """Return a device as kernels run on it alone, before any limit of power."""
    return Device(load_accelerator(name), figures(load_profile(name), gemm_sustained=1.0))


def measured(name, kind):
    """Return the usable samples of a device's kernels of one kind."""
    every = [each for path in FILES for each in samples(Table.read(path), name)]
    good, _ = rules.kept(every, load_accelerator(name))
    return [each for each in good if each.kind == kind and not each.check]


def errors(device, found, seconds=None):
    """Return relative errors of a device's predictions of samples."""
    told = np.concatenate([work.seconds(each, device) for each in found])
    taken = np.concatenate([each.seconds for each in found]) if seconds is None else seconds
    return told / taken - 1.0
