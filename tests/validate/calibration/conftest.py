"""Calibrations whose ranks are this process, and whose checks and samples cost nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from validate import processes
from validate.calibration import rounds, written
from validate.calibration.bench import Bench, Sample
from validate.processes import Rank

CHECK = {"name": "ring causal", "ok": True}
PEAK = {"name": "peak of a block", "how": "a test", "error": 0.0}


@pytest.fixture
def here(monkeypatch):
    """Have jobs of one rank run in this process, and checks take no time."""

    def run(world, job, told, *, timeout_s, progress):
        assert world == 1
        return [job(Rank(rank=0, world=1, report=lambda what: progress(0, what)), told)]

    monkeypatch.setattr(processes, "run", run)
    monkeypatch.setattr(written, "exactness", lambda device: [CHECK])
    monkeypatch.setattr(written, "peaks", lambda device, scale: [PEAK])


@pytest.fixture
def sampled(monkeypatch):
    """Have samples take no time; return the items that were sampled, in order."""
    taken = []

    def sample(self, key, call, burst_s):
        taken.append(key)
        self.calls[key] = 7
        return Sample(1e-3 * len(taken), 2e-3 * len(taken))

    monkeypatch.setattr(Bench, "sample", sample)
    return taken


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.json"


@pytest.fixture
def budget(monkeypatch):
    """Have a clock that goes on by a second for every item."""
    clock = iter(range(10**6))
    monkeypatch.setattr(rounds, "time", SimpleNamespace(monotonic=lambda: next(clock)))
