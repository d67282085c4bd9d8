"""The planner's Python functions: the same questions and answers as the command line's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any

from models.framework_choice import framework_names, own_software
from models.layout import LayoutBatch
from models.workload import LONGEST_SEQUENCE, parse_count
from planner.bounds import Bounds
from planner.choices import Choices
from planner.complete import legal_layout
from planner.plans import PlanSet
from planner.ranking import plan_scenario
from planner.scenario import Scenario
from planner.sweeps import Grid, run_sweep
from topologies.errors import Collected, Problem, SpecError, raise_if_any, unknown_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from planner.disturbances import Disturbances
    from planner.plans import Plan
    from planner.simulated import Simulated
    from planner.sweeps import SweepPoint

#: Axes that tables and labels of layouts write in short.
LABELS = {"mb": "micro_batch"}


def plan(
    model: str,
    cluster: str,
    *,
    seq_len: int | str,
    global_batch: int | str,
    gpus: int | Sequence[int] | None = None,
    framework: str = "any",
    top: int = 10,
    simulate: bool = True,
    **options: object,
) -> PlanSet:
    """Search all layouts of a job and rank the best.

    Parameters
    ----------
    model, cluster
        Catalogue names or files; ``h100-dgx:32`` is 32 nodes.
    seq_len, global_batch
        Tokens per sequence (``"256k"``) and sequences per step.
    gpus
        Accelerators, instead of nodes after the cluster's name; of several numbers, all are
        planned and their plans are in one answer (:meth:`PlanSet.merged`).
    framework
        Restrict to what one framework runs; ``any`` for at least one, ``unrestricted`` for all.
    top
        Plans to return.
    simulate
        Whether to time the plans returned on the event clock too.
    **options
        Choices (:class:`~planner.choices.Choices`: ``precision="fp8-blockwise"``), and pins and
        bounds of axes: ``tp=8``, ``pp="1..4"``, ``zero=[1, 3]``, ``recompute="full"``.

    Raises
    ------
    SpecError
        If the job or the pins cannot be.

    Examples
    --------
    >>> best = plan("llama-3.1-8b", "h100-dgx", seq_len="32k", global_batch=8, pp=1).best
    >>> best.layout.gpus
    8
    """
    found = Collected()
    sizes = _several(gpus)
    if not sizes:
        found.problems.append(Problem("gpus", gpus, "one number or more"))
    own = run_by(framework, options)
    asked = [_asked(found, model, cluster, seq_len, global_batch, size, own) for size in sizes]
    found.attempt(lambda: check_choices("train", framework))
    if top < 1:
        found.problems.append(Problem("top", top, "at least 1"))
    found.raise_if_any()
    return PlanSet.merged(
        [
            plan_scenario(scenario, Bounds.parse(axes), framework, top, simulate=simulate)
            for scenario, axes in asked
        ]
    )


def estimate(
    model: str,
    cluster: str,
    *,
    seq_len: int | str,
    global_batch: int | str,
    gpus: int | None = None,
    **options: object,
) -> Plan:
    """Return one layout in full.

    Axes that are not given take what most runs have: ZeRO-1, micro-batches of one sequence, tp_sp
    with tensor parallelism, 1F1B (interleaved with ``vp``), fused kernels, no recomputation, and as
    much data parallelism as is left.

    Raises
    ------
    SpecError
        With a sentence for every rule the layout breaks.
    """
    found = Collected()
    scenario, axes = _asked(found, model, cluster, seq_len, global_batch, gpus, options)
    found.raise_if_any()
    return estimate_scenario(scenario, axes)


def sweep(
    model: str,
    cluster: str,
    *,
    seq_lens: int | str | Sequence[int | str],
    global_batches: int | str | Sequence[int | str],
    gpus: int | Sequence[int] | None = None,
    networks: float | Sequence[float] = 1.0,
    framework: str = "any",
    **options: object,
) -> list[SweepPoint]:
    """Plan at every point of a grid; see :func:`plan` for the arguments.

    Parameters
    ----------
    seq_lens, global_batches, gpus, networks
        The value or the values to try; `networks` are factors on every scale-out link.

    Raises
    ------
    SpecError
        If a point cannot be.
    """
    found = Collected()
    lengths = _counts(found, seq_lens, "seq_lens")
    batches = _counts(found, global_batches, "global_batches")
    sizes = [] if gpus is None else _counts(found, gpus, "gpus")
    grid = Grid(
        seq_lens=lengths,
        gpus=[1] if gpus is None else sizes,
        global_batches=batches,
        networks=_several(networks),
    )
    found.attempt(grid.check)
    base, axes = _asked(
        found,
        model,
        cluster,
        next(iter(lengths), None) or LONGEST_SEQUENCE,
        next(iter(batches), None) or 1,
        next(iter(sizes), None),
        run_by(framework, options),
    )
    found.attempt(lambda: check_choices("train", framework))
    found.raise_if_any()
    if gpus is None:
        grid = replace(grid, gpus=[base.cluster.accelerators])
    return run_sweep(base, grid, Bounds.parse(axes), framework)


def estimate_scenario(scenario: Scenario, axes: dict[str, object]) -> Plan:
    """Return one layout of a scenario in full; see :func:`estimate`."""
    return scenario.evaluate(LayoutBatch.of([legal_layout(scenario, axes)]))[0]


def simulate(
    model: str,
    cluster: str,
    *,
    seq_len: int | str,
    global_batch: int | str,
    gpus: int | None = None,
    disturbances: Disturbances | None = None,
    **options: object,
) -> Simulated:
    """Return one layout's step on the event clock, beside the analytical estimate.

    Parameters
    ----------
    disturbances
        What goes otherwise than planned; nothing by default. See :func:`estimate` for the others.

    Raises
    ------
    SpecError
        With a sentence for every rule the layout breaks.
    """
    from planner.disturbances import Disturbances

    found = Collected()
    scenario, axes = _asked(found, model, cluster, seq_len, global_batch, gpus, options)
    found.raise_if_any()
    return simulate_scenario(scenario, axes, disturbances or Disturbances())


def simulate_scenario(
    scenario: Scenario, axes: dict[str, object], disturbances: Disturbances
) -> Simulated:
    """Return one layout of a scenario on the event clock; see :func:`simulate`."""
    from planner.simulated import simulate_layout

    return simulate_layout(scenario, legal_layout(scenario, axes), disturbances)


def run_by(framework: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with the software of a framework where they leave it at the usual.

    Parameters
    ----------
    framework
        What layouts are restricted to.
    options
        Choices, and pins of axes.
    """
    asked = options.get("software", Choices().software)
    return {**options, "software": own_software(framework, asked)}


def check_choices(task: str, framework: str) -> None:
    """Check words that are no axes.

    Raises
    ------
    SpecError
        With every one that is not known.
    """
    found = []
    if task != "train":
        found.append(Problem("--task", task, "this version plans training: use train"))
    if framework not in framework_names():
        found.append(unknown_name("--framework", framework, framework_names()))
    raise_if_any(found)


def parse_layout(text: str) -> dict[str, object]:
    """Return the axes of a layout written as ``tp=4,ulysses=4,mb=2``.

    Raises
    ------
    SpecError
        If a part is not of that form.

    Examples
    --------
    >>> parse_layout("tp=4,zero=3,mb=2")
    {'tp': '4', 'zero': '3', 'micro_batch': '2'}
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    wrong = [name for name, equals, value in pairs if not equals or not value]
    if wrong or not pairs:
        mend = "axes with values, such as tp=4,ulysses=4,pp=2,dp=8"
        raise SpecError([Problem("--beside", text, mend)])
    written = [name.strip().replace("-", "_") for name, _, _ in pairs]
    names = [LABELS.get(name, name) for name in written]
    twice = sorted({name for name in names if names.count(name) > 1})
    raise_if_any([Problem("--beside", text, f"give {name} once") for name in twice])
    return {name: value.strip() for name, (_, _, value) in zip(names, pairs, strict=True)}


def _asked(
    found: Collected,
    model: str,
    cluster: str,
    seq_len: int | str,
    global_batch: int | str,
    gpus: int | str | None,
    options: Mapping[str, object],
) -> tuple[Scenario, dict[str, object]]:
    """Return the scenario and the axes of some arguments; what is wrong with either is noted."""
    choices, axes = Choices.among(options)
    length = found.attempt(lambda: _count(seq_len, "seq_len"))
    batch = found.attempt(lambda: _count(global_batch, "global_batch"))
    size = found.attempt(lambda: None if gpus is None else _count(gpus, "gpus"))
    scenario = found.attempt(
        lambda: Scenario.asked(
            model,
            cluster,
            seq_len=LONGEST_SEQUENCE if length is None else length,
            global_batch=1 if batch is None else batch,
            gpus=size,
            choices=choices,
        )
    )
    found.attempt(lambda: Bounds.parse(axes))
    return scenario, axes


def _count(value: int | str, field: str) -> int:
    if isinstance(value, str):
        return parse_count(value, field)
    if isinstance(value, bool) or not isinstance(value, Integral):  # NumPy's too
        raise SpecError([Problem(field, value, "a whole number, or text such as 256k")])
    return int(value)


def _counts(found: Collected, values: object, field: str) -> list[int]:
    """Return the numbers that are given; what is wrong with any is noted."""
    return [found.attempt(partial(_count, value, field)) for value in _several(values)]


def _several(values: object) -> list[Any]:
    """Return values as a list; one stands for itself."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        return [values]
    return list(values)
