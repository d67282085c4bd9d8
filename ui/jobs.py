"""What runs beside the page: each job takes a question and says how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from planner.longest import longest_sequences
from planner.plans import PlanSet
from planner.ranking import plan_scenario
from planner.sweeps import Grid, run_sweep
from ui.scenarios import bounds_of, read_layout, scenario_for, scenarios

if TYPE_CHECKING:
    from collections.abc import Callable

    from planner.longest import Longest
    from planner.simulated import Simulated
    from planner.sweeps import SweepPoint
    from ui.question import Question

    Told = Callable[[object], None]

#: Plans shown of each number of accelerators.
TOP = 60
#: Of measured runs those that count, as on the command line.
GRADES = "AB"


@dataclass(frozen=True, slots=True)
class Searched:
    """How far a search is: layouts looked at, on the so-manieth of how many sizes."""

    layouts: int
    size: int
    sizes: int


def search(question: Question, told: Told) -> PlanSet:
    """Return the best layouts of a question on each of its numbers of accelerators."""
    every = scenarios(question)
    bounds = bounds_of(question)
    answers = []
    for at, scenario in enumerate(every, start=1):

        def count(layouts: int, at: int = at) -> None:
            told(Searched(layouts, at, len(every)))

        count(0)
        answers.append(
            plan_scenario(scenario, bounds, question.framework, TOP, count, simulate=False)
        )
    return PlanSet.merged(answers)


def play(question: Question, layout: str, told: Told) -> Simulated:
    """Return a layout's step on the event clock."""
    from planner.disturbances import Disturbances
    from planner.simulated import simulate_layout

    told("playing the step")
    scenario, chosen = read_layout(question, layout)
    return simulate_layout(scenario, chosen, Disturbances())


def sweep(
    question: Question, quantity: str, values: tuple[float, ...], told: Told
) -> list[SweepPoint]:
    """Return the best of each way to cut the sequence over the values of one quantity."""
    base = scenario_for(question)
    grid: dict[str, Any] = {
        "seq_len": [base.workload.seq_len],
        "gpus": [base.cluster.accelerators],
        "global_batch": [base.workload.global_batch],
        "network": [1.0],
    }
    grid[quantity] = [value if quantity == "network" else int(value) for value in values]
    points = Grid(
        seq_lens=grid["seq_len"],
        gpus=grid["gpus"],
        global_batches=grid["global_batch"],
        networks=grid["network"],
    )
    count = partial(_of, told, len(values))
    return run_sweep(base, points, bounds_of(question), question.framework, count)


def longest(question: Question, gpus: tuple[int, ...], told: Told) -> tuple[Longest, ...]:
    """Return the longest sequence that fits on each number of accelerators."""
    count = partial(_of, told, len(gpus))
    base = scenario_for(question)
    bounds = bounds_of(question)
    return longest_sequences(base, gpus, bounds, question.framework, progress=count)


def calibrate(budget_s: float, rounds: int, told: Told) -> str:
    """Measure this machine's CPU for a while and return the profile as JSON text."""
    import tempfile
    from pathlib import Path

    from validate.calibration.asked import Asked
    from validate.calibration.calibrate import calibrate as run

    with tempfile.TemporaryDirectory(prefix="meshwright-") as folder:
        out = Path(folder) / "profile.json"
        asked = Asked.parse(
            out=str(out),
            device="cpu",
            world=None,
            accelerator=None,
            cluster=None,
            rounds=rounds,
            budget_s=budget_s,
            seed=0,
            timeout_s=budget_s + 120.0,
            fresh=True,
        )
        run(asked, lambda done, total: told((done, total)))
        return out.read_text()


def accuracy(name: str, text: str, told: Told) -> dict[str, Any]:
    """Return a table of measured runs as predicted, as ``meshwright accuracy --json`` writes it."""
    from ui.question import Document
    from ui.uploads import on_disk
    from validate.published.accuracy import Accuracy
    from validate.published.accuracy_record import record
    from validate.published.row import read_table

    with on_disk(Document(name=name, text=text), ".csv") as path:
        table = read_table(str(path))
    return record(Accuracy.of([table], GRADES, partial(_of, told, len(table.rows))))


def _of(told: Told, total: int, done: int) -> None:
    told((done, total))
