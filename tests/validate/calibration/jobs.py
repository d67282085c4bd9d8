"""What test calibrations measure, and what goes wrong in them: module-level, for processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from validate.calibration import everything, rounds
from validate.calibration.asked import Asked
from validate.calibration.item import Scale

#: Small enough for a round to take a second, large enough for every fit to have its points.
TINY = Scale(
    rows=(8, 16),
    weights=((16, 32), (32, 16)),
    tokens=(16, 32),
    heads=((2, 1, 8),),
    elements=(1024, 2048),
    message_bytes=(64, 256, 1024),
    blocks=((32, 4, 2, 48, 24),),
    burst_s=1e-4,
)
#: Items that a rank takes before it dies: two batches have been told of.
LAST = 2 * rounds.BATCH + 5


def ask(out, **changes):
    """Return a calibration of two ranks on CPUs, three rounds of everything."""
    usual = {
        "device": "cpu", "world": 2, "accelerator": None, "cluster": None, "rounds": 3,
        "budget_s": 600.0, "seed": 0, "timeout_s": 60.0, "fresh": False,
    }  # fmt: skip
    return Asked.parse(out=str(out), **(usual | changes))


def measure_until_one_dies(rank, told):
    """Measure, and have one rank killed on the way."""
    prepare, taken = everything.prepare, []

    def prepared(item, bench):
        taken.append(item)
        if rank.rank == 1 and len(taken) > LAST:
            os.kill(os.getpid(), signal.SIGKILL)
        return prepare(item, bench)

    everything.prepare = prepared
    return rounds.measure(rank, told)


def below(pid):
    """Return processes whose parent's parent a process is: ranks, below the server that forks."""
    parents = {}
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                parents[int(each.name)] = int(
                    (each / "stat").read_text().rsplit(")", 1)[1].split()[1]
                )
            except (FileNotFoundError, ProcessLookupError):
                continue
    return [each for each, parent in parents.items() if parents.get(parent) == pid]
