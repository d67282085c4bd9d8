"""Tables for people: ranked layouts, one layout in full, comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from models.framework_choice import why_not
from models.model_states import USUAL_STATES
from models.precision import USUAL
from models.routing import BALANCED
from models.software import USUAL as USUAL_SOFTWARE
from models.workload import format_count
from planner.answer import likely
from planner.choices import USUAL_CHANCE
from planner.cli import placement_report
from planner.cli.columns import Columns
from planner.compare import LINE_NAMES, PART_NAMES, SUM_NAMES
from planner.durations import interval, seconds
from planner.host_wait import host_wait
from planner.layout_words import beside_mesh, details, stages_in_words
from topologies.ecmp import Ecmp, has_equal_links
from topologies.units import GIB

if TYPE_CHECKING:
    from rich.console import Console

    from models.profile import Profile
    from models.workload import Workload
    from planner.plans import Plan, PlanSet
    from planner.scenario import Scenario
    from topologies.cluster import Cluster

#: Columns of plans that a narrow screen leaves out, the first first.
DISPENSABLE = ("p10-p90", "bubble", "comm", "tokens/s/GPU", "events", "MFU", "runs in")
RANKING = Columns(words=("and", "runs in"), dispensable=DISPENSABLE)
KILOWATT_HOUR_J, MEGAWATT_HOUR_J = 3.6e6, 3.6e9


def heading(screen: Console, scenario: Scenario) -> None:
    """Print what was asked."""
    job = scenario.workload
    length = format_count(job.seq_len)
    asked = f", {length} tokens x {job.global_batch} sequences a step, {_precision(job)}"
    model_and_cluster(screen, scenario, asked)


def _precision(job: Workload) -> str:
    """Return the precision, and what MFU is a share of where that is not bf16's peak."""
    peak = job.recipe.peak
    return job.precision + ("" if peak == USUAL else f" (MFU of the dense {peak} peak)")


def model_and_cluster(screen: Console, scenario: Scenario, job: str = "") -> None:
    """Print the model, the cluster and the profile in use."""
    model, cluster = scenario.architecture, scenario.cluster
    work, states = scenario.workload, scenario.workload.states
    job = job or ("" if work.precision == USUAL else f", {_precision(work)}")
    job += "" if states == USUAL_STATES else f", {states}"
    routing = scenario.workload.routing
    job += "" if routing == BALANCED else f", {routing}"
    packed = work.packed_len
    job += "" if packed is None else f", packed of sequences of {format_count(packed)} tokens"
    job += "" if work.software == USUAL_SOFTWARE else f", run by {work.software}"
    chance = scenario.fit_chance
    job += "" if chance == USUAL_CHANCE else f", to fit with a chance of {chance:.0%}"
    screen.print(f"[bold]{escape(model.title)}[/bold]  {model.params / 1e9:.1f} B parameters{job}")
    device = f"{cluster.accelerators} x {escape(cluster.accelerator.title)}"
    profile = scenario.device.profile
    screen.print(
        f"{device}, {escape(cluster.title)}; profile {escape(profile.name)}: {_spreads(profile)}"
    )
    for note in model.notes:
        screen.print(escape(note))
    if cluster.filling:
        screen.print(f"filled evenly: {escape(cluster.filling)}")
    if scenario.ecmp is not Ecmp.PERFECT:
        screen.print(ecmp_note(cluster, scenario.ecmp, scenario.ecmp_seed))
    screen.print()


def _spreads(profile: Profile) -> str:
    """Return how sure times are, and how that is known."""
    compute, sent = profile.compute_spread, profile.communication_spread
    shared = compute.kind is sent.kind
    own = "" if shared else f" ({compute.kind})"
    return f"compute ±{compute.value:.0%}{own}, communication ±{sent.value:.0%} ({sent.kind})"


def ecmp_note(cluster: Cluster, ecmp: Ecmp, seed: int) -> str:
    """Return how flows meet on equal links where they are not spread evenly."""
    how = "hashed, the expectation over all hashes" if ecmp is Ecmp.EXPECTED else "hashed"
    drawn = f" as seed {seed} draws" if ecmp is Ecmp.SEEDED else ""
    felt = "" if has_equal_links(cluster) else "; this cluster has none, so nothing changes"
    return f"Flows on equal links: {how}{drawn} (--ecmp {ecmp}){felt}."


def ranking(plans: tuple[Plan, ...], width: int) -> Table:
    """Return the table of ranked layouts, without some figures where a screen is too narrow.

    What tells layouts apart stays, word by word.
    """
    rows = [_ranked(place, plan) for place, plan in enumerate(plans, start=1)]
    if not any(row["events"] for row in rows):
        for row in rows:
            del row["events"]
    return RANKING.table(rows, width)


def _ranked(place: int, plan: Plan) -> dict[str, str]:
    layout = plan.layout
    degrees = ("dp", "tp", "pp", "ulysses", "ring")
    return {
        "#": str(place),
        **{axis: str(getattr(layout, axis)) for axis in degrees},
        "mb": str(layout.micro_batch),
        # Modules wrap where they are joined.
        "and": beside_mesh(layout).replace("+", " +"),
        "step": seconds(plan.step_time_s),
        "events": _event_step(plan),
        "p10-p90": interval(*plan.interval_s),
        "tokens/s/GPU": f"{plan.tokens_per_s_per_gpu:,.0f}",
        "MFU": f"{plan.mfu:.1%}",
        "GiB/rank": f"{plan.memory_total_bytes / GIB:.1f}/{plan.capacity_bytes / GIB:.1f}",
        "comm": f"{plan.exposed_s / plan.step_time_s:.1%}",
        "bubble": f"{plan.bubble_fraction:.1%}",
        "runs in": ", ".join(plan.runs_in) or "none known",
    }


def _event_step(plan: Plan) -> str:
    return "" if plan.event_step_s is None else seconds(plan.event_step_s)


def answer(screen: Console, scenario: Scenario, plans: PlanSet) -> None:
    """Print the answer to a search."""
    heading(screen, scenario)
    if plans.plans:
        screen.print(ranking(plans.plans, screen.width))
        screen.print()
    counts = plans.search
    shown = "; shown is the best of each mesh (dp, tp, pp, ulysses, ring)" if plans.plans else ""
    screen.print(
        f"{counts.legal:,} layouts legal, {counts.fit:,} fit in memory, {counts.costed:,} costed "
        f"in {counts.seconds:.2g} s{shown}."
    )
    for note in plans.notes:
        screen.print(note)
    if plans.best is not None:
        placed = placement_report.sentence(plans.best.placement, "the first")
        if placed:
            screen.print(escape(placed))
        price(screen, plans.best, "the first")
    elif plans.smallest is not None:
        screen.print(memory(plans.smallest))


def price(screen: Console, plan: Plan, whose: str) -> None:
    """Print cost and energy where the catalogue knows them."""
    cost, energy = plan.cost_usd_per_step, plan.energy_J_per_step
    per_tokens = plan.per_quoted_tokens
    parts = []
    if cost is not None:
        parts.append(f"{money(cost)} USD a step, {per_tokens(cost):,.0f} USD per 10^12 tokens")
    if energy is not None:
        total = (per_tokens(energy) or 0.0) / MEGAWATT_HOUR_J
        parts.append(
            f"{_digits(energy / KILOWATT_HOUR_J)} kWh a step, {total:,.0f} MWh per 10^12 tokens"
        )
    if parts:
        screen.print(f"Cost and energy of {whose} (boards at full power): {'; '.join(parts)}.")


def money(value: float) -> str:
    """Return a price with cents, or as many digits as a small one needs.

    >>> money(1234.5), money(0.00212)
    ('1,234.50', '0.0021')
    """
    return f"{value:,.2f}" if value >= 1 else f"{value:.2g}"


def full(screen: Console, scenario: Scenario, plan: Plan) -> None:
    """Print one layout in full."""
    heading(screen, scenario)
    layout = plan.layout
    screen.print(f"[bold]{layout}[/bold]  {details(layout)}")
    fits = "fits" if plan.fits else "does not fit"
    screen.print(
        f"step {seconds(plan.step_time_s)} ({interval(*plan.interval_s)}), "
        f"{plan.tokens_per_s_per_gpu:,.0f} tokens/s/GPU, {_few(plan.tflops_per_gpu)} TFLOP/s/GPU, "
        f"MFU {plan.mfu:.1%} ({plan.mfu_full_attention:.1%} with attention unmasked); {fits} "
        f"(a chance of {likely(plan)})"
    )
    runs(screen, scenario, plan)
    if unequal := stages_in_words(plan.stage_layers):
        screen.print(unequal)
    screen.print()
    screen.print(_time(plan))
    if waiting := host_wait(scenario, plan):
        screen.print(waiting)
    screen.print()
    screen.print(memory(plan))
    screen.print()
    placement_report.show(screen, plan.placement)
    price(screen, plan, "this layout")
    screen.print(Text(software(scenario)))
    assumed = plan.provenance.assumed
    if assumed:
        screen.print(Text(f"Assumed, not measured: {', '.join(assumed)}.", style="dim"))


def software(scenario: Scenario) -> str:
    """Return what is taken of the software, and of a micro-batch what no layer takes."""
    runs_on, profile = scenario.workload.runs_on, scenario.device.profile
    traits = runs_on.traits(scenario.cluster.accelerator.name, profile.host_launch_s.value)
    burst = f"products at {profile.gemm_sustained.value:.0%} of their burst rate"
    apart = f"{seconds(profile.micro_batch_s.value)} a micro-batch for its data and loss"
    return f"Software ({runs_on.name}, {runs_on.title}): {'; '.join((*traits, burst, apart))}."


def _digits(value: float) -> str:
    """Return three digits, or all of a large number.

    >>> _digits(3450.2), _digits(0.0358)
    ('3,450', '0.0358')
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _few(value: float) -> str:
    """Return a whole number, or two digits of a small one."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def runs(screen: Console, scenario: Scenario, plan: Plan) -> None:
    """Print where a layout runs, or why nowhere."""
    if plan.runs_in:
        screen.print(f"runs in: {', '.join(plan.runs_in)}")
        return
    screen.print("runs in none of the known frameworks:")
    found = why_not(plan.layout, scenario.architecture, plan.states, plan.precision)
    for name, reasons in found.items():
        screen.print(f"  {name}: {'; '.join(reasons)}")


def _time(plan: Plan) -> Table:
    table = _two_columns("one step goes into", "seconds", "share")
    for part, value in plan.time_s.items():
        table.add_row(PART_NAMES[part], f"{value:.3f}", f"{value / plan.step_time_s:.1%}")
    table.add_row("in all", f"{plan.step_time_s:.3f}", "100%", style="bold")
    return table


def memory(plan: Plan) -> Table:
    """Return the memory bill of the fullest rank."""
    table = _two_columns(f"memory of pipeline rank {plan.memory_stage}", "GiB", "of capacity")
    for line, value in plan.memory_bytes.items():
        share = value / plan.capacity_bytes
        table.add_row(LINE_NAMES[line], f"{value / GIB:.2f}", f"{share:.1%}")
    sums = plan.memory_sums_bytes
    for name, value in sums.items():
        share = value / plan.capacity_bytes
        filled = f" of {plan.capacity_bytes / GIB:.1f} GiB" if name == "device" else ""
        table.add_row(SUM_NAMES[name], f"{value / GIB:.2f}", f"{share:.1%}{filled}", style="bold")
    return table


def _two_columns(title: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title)
    for column in columns:
        table.add_column(column, justify="right")
    return table
