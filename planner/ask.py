"""The planner's Python functions: the same questions and answers as the command line's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.layout import Layout, LayoutBatch, Schedule, StageSplit
from models.legality import problems
from models.workload import parse_count
from planner import answer
from planner.bounds import Bounds, flag
from planner.plans import Plan, PlanSet
from planner.scenario import Scenario
from planner.search import search
from planner.space import Space
from planner.sweeps import Grid, run_sweep
from topologies.errors import Problem, SpecError, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from planner.search import Found
    from planner.sweeps import SweepPoint


def plan(
    model: str,
    cluster: str,
    *,
    seq_len: int | str,
    global_batch: int | str,
    gpus: int | None = None,
    precision: str = "bf16",
    framework: str = "any",
    top: int = 10,
    **axes: object,
) -> PlanSet:
    """Search all layouts of a job and rank the best.

    Parameters
    ----------
    model, cluster
        Catalogue names or files; ``h100-dgx:32`` is 32 nodes.
    seq_len, global_batch
        Tokens per sequence (``"256k"``) and sequences per step.
    gpus
        Accelerators, instead of nodes after the cluster's name.
    framework
        Restrict to what one framework runs; ``any`` for at least one, ``unrestricted`` for all.
    top
        Plans to return.
    **axes
        Pins and bounds: ``tp=8``, ``pp="1..4"``, ``zero=[1, 3]``, ``recompute="full"``.

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
    scenario = _scenario(model, cluster, seq_len, global_batch, gpus, precision)
    return plan_scenario(scenario, Bounds.parse(axes), framework, top)


def estimate(
    model: str,
    cluster: str,
    *,
    seq_len: int | str,
    global_batch: int | str,
    gpus: int | None = None,
    precision: str = "bf16",
    **axes: object,
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
    scenario = _scenario(model, cluster, seq_len, global_batch, gpus, precision)
    return estimate_scenario(scenario, axes)


def sweep(
    model: str,
    cluster: str,
    *,
    seq_lens: Sequence[int | str],
    global_batches: Sequence[int],
    gpus: Sequence[int] | None = None,
    networks: Sequence[float] = (1.0,),
    precision: str = "bf16",
    framework: str = "any",
    **axes: object,
) -> list[SweepPoint]:
    """Plan at every point of a grid; see :func:`plan` for the arguments.

    Parameters
    ----------
    seq_lens, global_batches, gpus, networks
        Values to try; `networks` are factors on every scale-out link.

    Raises
    ------
    SpecError
        If a point cannot be.
    """
    lengths = [_count(length, "seq_len") for length in seq_lens]
    size = gpus[0] if gpus else None
    base = _scenario(model, cluster, lengths[0], global_batches[0], size, precision)
    grid = Grid(
        seq_lens=lengths,
        gpus=gpus or [base.cluster.accelerators],
        global_batches=global_batches,
        networks=networks,
    )
    return run_sweep(base, grid, Bounds.parse(axes), framework)


def plan_scenario(
    scenario: Scenario,
    bounds: Bounds,
    framework: str = "any",
    top: int = 10,
    progress: Callable[[int], None] | None = None,
) -> PlanSet:
    """Search all layouts of a scenario and rank the best; see :func:`plan`."""
    space = Space(scenario.job, bounds, framework)
    found = search(scenario, space, progress)
    if not found.counts.legal:
        raise_if_any(_nothing_legal(scenario, space))
    plans = tuple(scenario.evaluate(found.best.take(slice(0, top))))
    if plans:
        notes = _notes(scenario, found, plans[0])
        return PlanSet(plans=plans, search=found.counts, notes=notes)
    if found.smallest is None:
        # Every layout left is one whose recomputation was to be solved for and cannot fit.
        raise_if_any([Problem("pins", "--recompute-layers", "leave the number of layers free")])
        return PlanSet(plans=(), search=found.counts)
    smallest = scenario.evaluate(found.smallest)[0]
    return PlanSet(
        plans=(),
        search=found.counts,
        notes=(
            answer.nothing_fits(scenario, smallest),
            *answer.nearest_that_fits(scenario, space, progress),
        ),
        smallest=smallest,
    )


def estimate_scenario(scenario: Scenario, axes: dict[str, object]) -> Plan:
    """Return one layout of a scenario in full; see :func:`estimate`."""
    layout = complete_layout(scenario, axes)
    scenario.check(layout)
    return scenario.evaluate(LayoutBatch.of([layout]))[0]


def complete_layout(scenario: Scenario, axes: dict[str, object]) -> Layout:
    """Return the layout of the axes given, the others at their usual values.

    Raises
    ------
    SpecError
        With every axis that has more than one value, or one that cannot be.
    """
    bounds = Bounds.parse(axes)
    several = [
        Problem(flag(axis), axes[axis], "one value: this is about one layout")
        for axis, bound in bounds.axes.items()
        if bound.low != bound.high
    ]
    raise_if_any(several)
    values = {axis: bound.low for axis, bound in bounds.axes.items()}
    cp = values.pop("cp", None)
    if cp is not None:
        values.setdefault("ring", max(cp // values.get("ulysses", 1), 1))
        if values.get("ulysses", 1) * values["ring"] != cp:
            raise SpecError([Problem("--cp", cp, "must equal ulysses x ring")])
    rest = Layout(**{**_named(values), "dp": 1}).gpus
    values.setdefault("dp", max(scenario.cluster.accelerators // rest, 1))
    values.setdefault("tp_sp", int(values.get("tp", 1) > 1))
    several_chunks = values.get("vp", 1) > 1
    values.setdefault("schedule", Schedule.INTERLEAVED if several_chunks else Schedule.ONE_F_ONE_B)
    stages = values.get("pp", 1) * values.get("vp", 1)
    even = len(scenario.architecture.layers) % stages == 0
    values.setdefault("stage_split", StageSplit.EVEN if even else StageSplit.BALANCED)
    return Layout(**_named(values))


def parse_layout(text: str) -> dict[str, object]:
    """Return the axes of a layout written as ``tp=4,ulysses=4,pp=2``.

    Raises
    ------
    SpecError
        If a part is not of that form.
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    wrong = [name for name, equals, value in pairs if not equals or not value]
    if wrong or not pairs:
        mend = "axes with values, such as tp=4,ulysses=4,pp=2,dp=8"
        raise SpecError([Problem("--beside", text, mend)])
    return {name.strip().replace("-", "_"): value.strip() for name, _, value in pairs}


def _named(values: dict[str, int]) -> dict[str, Any]:
    """Return axis values as a layout has them: names where axes have names."""
    batch = LayoutBatch.of([Layout()])
    plain = {axis: getattr(batch, axis) for axis in values}
    columns = {axis: plain[axis] * 0 + value for axis, value in values.items()}
    layout = batch.with_columns(**columns).layout(0)
    return {axis: getattr(layout, axis) for axis in values}


def _scenario(
    model: str,
    cluster: str,
    seq_len: int | str,
    global_batch: int | str,
    gpus: int | None,
    precision: str,
) -> Scenario:
    return Scenario.load(
        model,
        cluster,
        seq_len=_count(seq_len, "seq_len"),
        global_batch=_count(global_batch, "global_batch"),
        gpus=gpus,
        precision=precision,
    )


def _count(value: int | str, field: str) -> int:
    return parse_count(value, field) if isinstance(value, str) else value


def _notes(scenario: Scenario, found: Found, best: Plan) -> tuple[str, ...]:
    with_cp = found.best.cp > 1
    fastest = [
        scenario.evaluate(found.best.take(mask.nonzero()[0][:1]))[0] if mask.any() else None
        for mask in (with_cp, ~with_cp)
    ]
    notes = [answer.what_binds(scenario, found, best), answer.sequence_parallelism(*fastest)]
    longest = scenario.architecture.max_positions
    if longest is not None and scenario.workload.seq_len > longest:
        notes.append(
            f"The published {scenario.architecture.title} was made for sequences of at most "
            f"{longest} tokens."
        )
    return tuple(note for note in notes if note)


def _nothing_legal(scenario: Scenario, space: Space) -> list[Problem]:
    """Return why no layout is legal: pins that break a rule, or a framework that runs none."""
    free = Space(scenario.job, space.bounds, "unrestricted")
    if any(len(batch) for batch in free.batches()):
        mend = "runs no layout of this job within the pins; try --framework unrestricted"
        return [Problem("--framework", space.framework, mend)]
    pinned = {axis: bound.low for axis, bound in space.bounds.axes.items() if axis != "cp"}
    layout = complete_layout(scenario, dict(pinned))
    broken = problems(layout, scenario.job)
    named = [p for p in broken if p.field.removeprefix("--").replace("-", "_") in space.bounds]
    if named or broken:
        return named or broken
    mend = "no layout satisfies all pins together; free one of them"
    return [Problem(flag(axis), bound.low, mend) for axis, bound in space.bounds.axes.items()]
