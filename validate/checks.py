"""Checks of kernels as a user asks for them: where, on how many ranks, in which dtypes."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from topologies.errors import Problem, SpecError, raise_if_any, unknown_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from validate.exactness import Checked
    from validate.lessons import Compared

#: What runs on each device.
RUNS = {"cpu": ("f64", "f32", "bf16", "f16"), "cuda": ("bf16", "f16")}
USUAL = {"cpu": ("f64", "f32", "bf16"), "cuda": ("bf16", "f16")}
#: Processes that divide the heads and tokens of the checks.
WORLDS = (1, 2, 4, 8)
#: What a model is trained in.
TRAINED = ("f32", "bf16")
#: Ranks that one process plays.
VIRTUAL = (4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to check.

    Parameters
    ----------
    worlds
        Numbers of processes, one job each; those of the launcher where there is one.
    dtypes
        By name.
    device
        ``cpu`` or ``cuda``.
    steps
        Of the training; 0 for none.
    timeout_s
        How long a rank may be silent.
    """

    worlds: tuple[int, ...]
    dtypes: tuple[str, ...]
    device: str
    steps: int
    timeout_s: float

    @classmethod
    def parse(
        cls, world: str, dtype: str | None, device: str, steps: int, timeout_s: float
    ) -> Asked:
        """Return what options ask for.

        Raises
        ------
        SpecError
            With every one that cannot be.
        """
        require_torch()
        found: list[Problem] = []
        chosen, problem = parse_device(device)
        found += problem
        worlds = [_world(part.strip(), found) for part in world.split(",")]
        wanted = [part.strip() for part in dtype.split(",")] if dtype is not None else USUAL[chosen]
        found += [
            unknown_name("--dtype", name, RUNS[chosen])
            for name in wanted
            if name not in RUNS[chosen]
        ]
        if steps < 0 or steps == 1:
            found.append(Problem("--steps", steps, "0 for none, or 2 and more"))
        if not (isfinite(timeout_s) and timeout_s > 0):
            found.append(Problem("--timeout", timeout_s, "seconds above 0"))
        raise_if_any(found)
        return cls(
            worlds=tuple(worlds),
            dtypes=tuple(wanted),
            device=chosen,
            steps=steps,
            timeout_s=timeout_s,
        )


def check(asked: Asked, count: Callable[[int], None]) -> list[Checked] | None:
    """Return what was checked; None on ranks of a launcher other than the first.

    Parameters
    ----------
    asked
        What to check.
    count
        Called with how many attentions are done.

    Raises
    ------
    RankError
        If a rank dies, fails or hangs.
    """
    from validate import exactness, processes
    from validate.cases import cases

    if processes.launched():
        return _launched(asked)
    found: list[Checked] = []
    virtual = [case for ranks in VIRTUAL for case in cases(ranks, asked.dtypes)]
    if asked.device == "cuda":
        for each in exactness.check_virtually(virtual, "cuda"):
            found.append(each)
            count(len(found))
        return found
    for world in asked.worlds:
        done = len(found)

        def heard(rank: int, at: object, done: int = done) -> None:
            if rank == 0 and isinstance(at, int):
                count(done + at)

        virtual = [c for ranks in VIRTUAL if world == 1 for c in cases(ranks, asked.dtypes)]
        told = exactness.Told(real=cases(world, asked.dtypes), virtual=virtual)
        results = processes.run(
            world, exactness.check, told, timeout_s=asked.timeout_s, progress=heard
        )
        found += results[0]
    return found


def learn(asked: Asked, count: Callable[[int], None]) -> list[Compared]:
    """Return trainings on the most processes asked for, in every dtype but fp64 and fp16.

    None where this process is one of a launcher's or there is a GPU: they are for processes of its
    own.

    Raises
    ------
    RankError
        If a rank dies, fails or hangs.
    """
    from validate import lessons, processes

    world = max(asked.worlds)
    if not asked.steps or world < 2 or asked.device != "cpu" or processes.launched():
        return []
    found: list[Compared] = []
    for dtype in (dtype for dtype in asked.dtypes if dtype in TRAINED):
        done = 2 * asked.steps * len(found)

        def heard(steps: int, done: int = done) -> None:
            count(done + steps)

        found.append(
            lessons.compare(dtype, world, asked.steps, timeout_s=asked.timeout_s, count=heard)
        )
    return found


def _launched(asked: Asked) -> list[Checked] | None:
    """Check as a rank of a launcher's job."""
    from validate import exactness, processes
    from validate.cases import cases

    with processes.launched_rank(asked.device, asked.timeout_s, lambda _: None) as place:
        real = cases(place.world, asked.dtypes)
        told = exactness.Told(real=real, virtual=[], device=asked.device)
        found = exactness.check(place, told)
    return found if processes.first() else None


def require_torch() -> None:
    """Check that torch is installed.

    Raises
    ------
    SpecError
        If it is not.
    """
    if importlib.util.find_spec("torch") is None:
        mend = 'not installed: pip install -e ".[validate]"'
        raise SpecError([Problem("torch", "-", mend)])


def parse_device(name: str) -> tuple[str, list[Problem]]:
    """Return the device that a name stands for, and what is wrong with the name."""
    import torch

    there = torch.cuda.is_available()
    if name == "auto":
        return ("cuda" if there else "cpu"), []
    if name not in RUNS:
        return "cpu", [unknown_name("--device", name, ["auto", *RUNS])]
    if name == "cuda" and not there:
        return "cuda", [Problem("--device", name, "no GPU that torch can use here: use cpu")]
    return name, []


def _world(text: str, found: list[Problem]) -> int:
    if text.isdecimal() and int(text) in WORLDS:
        return int(text)
    found.append(Problem("--world", text, f"of {', '.join(map(str, WORLDS))}, such as 1,2,4"))
    return 1
