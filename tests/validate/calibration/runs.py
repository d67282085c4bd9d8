"""Calibrations of one rank, and what they leave behind."""

from __future__ import annotations

import json

import pytest

from tests.validate.calibration.jobs import TINY, ask
from validate.calibration import everything
from validate.calibration.calibrate import calibrate

ITEMS = everything.items("cpu", 1, TINY)
OLD = b'{"what was": "there"}'


def nobody(done, total):
    pass


def run(path, count=nobody, **changes):
    return calibrate(ask(path, **{"world": 1, **changes}), count, TINY)


def interrupted(path, after, **changes):
    """Have a user stop a calibration once so many batches were told of; return what is kept."""
    told = []

    def count(done, total):
        told.append(done)
        if len(told) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, count, **changes)
    return kept_of(path)


def kept_of(path):
    return json.loads((path.parent / f".{path.name}.kept.json").read_text())


def samples_in(kept):
    return sum(len(samples) for *_, samples in kept["samples"])


def names_in(folder):
    return sorted(each.name for each in folder.iterdir())
