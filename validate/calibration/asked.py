"""A calibration as a user asks for it: where, on how many ranks, for how long."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from topologies.catalogue import accelerator_names, load_accelerator, load_cluster
from topologies.errors import Collected, Problem, SpecError, raise_if_any
from topologies.whole_file import check_place
from validate.checks import WORLDS, parse_device, require_torch
from validate.processes import launched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from topologies.accelerator import Accelerator
    from topologies.cluster import Cluster

#: The cluster that processes of this machine are.
LOCAL = "cpu-gloo"
#: Vendor of accelerators that are processes on a CPU.
CPU_VENDOR = "cpu"
SHORTEST_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A calibration as a user asks for it.

    Parameters
    ----------
    out
        Where the profile shall be.
    device
        ``cpu`` or ``cuda``.
    world
        Ranks: processes that are started, or those of the launcher.
    accelerator
        What the device is in the catalogue.
    cluster
        What the ranks are part of, with as many accelerators; None for one alone.
    cluster_name
        As it was given.
    rounds, budget_s, seed
        How often everything is measured, for how long at most, in which orders.
    timeout_s
        How long a rank may be silent.
    fresh
        Whether to leave aside what an earlier run kept.
    """

    out: str
    device: str
    world: int
    accelerator: Accelerator
    cluster: Cluster | None
    cluster_name: str | None
    rounds: int
    budget_s: float
    seed: int
    timeout_s: float
    fresh: bool

    @classmethod
    def parse(
        cls,
        *,
        out: str,
        device: str,
        world: int | None,
        accelerator: str | None,
        cluster: str | None,
        rounds: int,
        budget_s: float,
        seed: int,
        timeout_s: float,
        fresh: bool,
    ) -> Asked:
        """Return what options ask for.

        Raises
        ------
        SpecError
            With every one that cannot be.
        """
        require_torch()
        found = Collected()
        chosen, problems = parse_device(device)
        found.problems += problems
        ranks = _ranks(world, chosen, found.problems)
        found.problems += [*_numbers(rounds, budget_s, seed, timeout_s), *_place(out)]
        loaded = found.attempt(lambda: _accelerator(accelerator, chosen, problems))
        cluster = cluster or (LOCAL if chosen == "cpu" and ranks > 1 else None)
        whole = found.attempt(lambda: _cluster(cluster, loaded, ranks))
        found.raise_if_any()
        return cls(
            out=out,
            device=chosen,
            world=ranks,
            accelerator=loaded,
            cluster=whole,
            cluster_name=cluster,
            rounds=rounds,
            budget_s=budget_s,
            seed=seed,
            timeout_s=timeout_s,
            fresh=fresh,
        )


def _ranks(world: int | None, device: str, found: list[Problem]) -> int:
    if launched():
        if world is not None:
            found.append(Problem("--world", world, "leave it out: the launcher says how many"))
        return int(os.environ["WORLD_SIZE"])
    if device == "cuda":
        if world not in (None, 1):
            mend = "1 without a launcher: torchrun --nproc-per-node N $(which meshwright) calibrate"
            found.append(Problem("--world", world, mend))
        return 1
    ranks = 2 if world is None else world
    if ranks not in WORLDS:
        found.append(Problem("--world", ranks, f"of {', '.join(map(str, WORLDS))}"))
        return WORLDS[0]
    return ranks


def _numbers(rounds: int, budget_s: float, seed: int, timeout_s: float) -> list[Problem]:
    found = []
    if rounds < 1:
        found.append(Problem("--rounds", rounds, "1 and more"))
    if not (math.isfinite(budget_s) and budget_s >= SHORTEST_S):
        found.append(Problem("--budget", budget_s, f"seconds, {SHORTEST_S:g} and more"))
    if seed < 0:
        found.append(Problem("--seed", seed, "0 and more"))
    if not (math.isfinite(timeout_s) and timeout_s > 0):
        found.append(Problem("--timeout", timeout_s, "seconds above 0"))
    return found


def _place(out: str) -> list[Problem]:
    """Return why a profile cannot be written there, before anything is measured for it."""
    if Path(out).suffix.lower() != ".json":
        return [Problem("--out", out, "a file that ends in .json, as --profile reads it")]
    try:
        check_place(out, "--out")
    except SpecError as error:
        return list(error.problems)
    return []


def _accelerator(name: str | None, device: str, problems: Sequence[Problem]) -> Accelerator:
    """Return what is named, or what the device is, if there is nothing wrong with that."""
    from validate.calibration import machine

    if name is None:
        raise_if_any(problems)
        name = machine.accelerator_name(device)
    if name is None:
        called = machine.device_name(device)
        mend = f"name what the catalogue calls it: {', '.join(accelerator_names())}"
        raise SpecError([Problem("--accelerator", called, mend)])
    found = load_accelerator(name, "--accelerator")
    if not problems and (found.vendor == CPU_VENDOR) != (device == "cpu"):
        raise SpecError([Problem("--accelerator", name, f"what is measured is a {device} device")])
    return found


def _cluster(spec: str | None, accelerator: Accelerator | None, ranks: int) -> Cluster | None:
    """Return what several ranks are part of; of one only whether it could be."""
    if spec is None:
        if ranks == 1:
            return None
        mend = "name what these ranks are part of, such as h100-dgx: see `topologies list`"
        raise SpecError([Problem("--cluster", f"{ranks} ranks", mend)])
    found = load_cluster(spec, ranks if ranks > 1 else None)
    if accelerator is not None and found.accelerator.name != accelerator.name:
        mend = f"a cluster of {accelerator.name}: this one has {found.accelerator.name}"
        raise SpecError([Problem("--cluster", spec, mend)])
    return found if ranks > 1 else None
