"""Accuracy as tables: errors by part, source and file, rank agreement, peers, skips."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from validate.published.accuracy_record import skips
from validate.published.accuracy_rows import rows_sheet
from validate.published.errors import Errors
from validate.published.memory_limits import MemoryLimits
from validate.published.parts import by_source, counted, grouped, memory_kinds, parts
from validate.published.predicted import Quantity
from validate.published.quoted_peers import quoted_peers
from validate.published.sheet import Sheet, percent
from validate.published.standing import Standing
from validate.published.sweeps import Sweeps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from validate.published.accuracy import Accuracy
    from validate.published.peers import PeerErrors
    from validate.published.predicted import Predicted

ERRORS = ("n", "skipped", "median |error|", "p90", "mean", "bias", "in the interval")
#: Rows of tables that are shown one by one on the screen, and those that are named of each reason.
FEW_ROWS, FEW_NAMED = 20, 3
RANKS = ("jobs", "pairs", "Kendall's tau", "mean regret", "max regret")


def sheets(accuracy: Accuracy, peers: Sequence[PeerErrors]) -> Iterator[Sheet]:
    """Give every table that has rows."""
    sources = parts(accuracy.times)["source"]
    yield from _filled(
        _parts(accuracy),
        errors_sheet("Errors by source", "source", _errors(sources)),
        _files(accuracy),
        _quantities(accuracy),
        _limits(accuracy),
        *_further(accuracy, peers),
    )


def screen_sheets(accuracy: Accuracy, peers: Sequence[PeerErrors]) -> Iterator[Sheet]:
    """Give the tables for the screen: of a few rows each of them, in place of errors by part."""
    if sum(len(table.rows) for table in accuracy.tables) > FEW_ROWS:
        yield from sheets(accuracy, peers)
        return
    done = [each for each in accuracy.predicted if not each.skipped_because]
    overall = {"overall": Errors.of(accuracy.counted)} if len(accuracy.counted) > 1 else {}
    yield from _filled(
        rows_sheet("Predicted and measured", done),
        errors_sheet("Errors of times of steps", "runs", overall),
        *_further(accuracy, peers),
    )


def _further(accuracy: Accuracy, peers: Sequence[PeerErrors]) -> tuple[Sheet, ...]:
    """Return what is told of tables of any length."""
    return (
        _ranks(accuracy, parts(accuracy.times)["source"]),
        _peers(peers),
        _quoted(accuracy),
        _reasons("Skipped", "predictions", accuracy.predicted),
        _reasons("Left out", "rows", accuracy.left_out),
    )


def _filled(*found: Sheet) -> Iterator[Sheet]:
    return (sheet for sheet in found if sheet.rows)


def errors_sheet(title: str, name: str, errors: Mapping[str, Errors], note: str = "") -> Sheet:
    """Return one row of errors for each name."""
    return Sheet(
        title=title,
        columns=(name, *ERRORS),
        rows=tuple((named, *_cells(each)) for named, each in errors.items()),
        note=note,
    )


def _cells(errors: Errors) -> tuple[str, ...]:
    shares = (errors.median, errors.p90, errors.mean, errors.bias, errors.coverage)
    return (f"{errors.n}", f"{errors.skipped}", *(percent(share) for share in shares))


def _errors(groups: Mapping[str, Sequence[Predicted]]) -> dict[str, Errors]:
    return {name: Errors.of(rows) for name, rows in groups.items()}


def _parts(accuracy: Accuracy) -> Sheet:
    by = parts(accuracy.times)
    named = {"overall": Errors.of(accuracy.counted)}
    for question, answers in by.items():
        if question in ("source", "standing"):
            continue
        for answer, rows in answers.items():
            named[f"{question}: {answer}"] = Errors.of(rows)
    for standing in (Standing.OTHER_HARDWARE, Standing.LORA):
        if others := by["standing"].get(standing):
            named[f"not counted: {standing}"] = Errors.of(others)
    note = (
        "Relative errors of times of steps. Each row weighs one over the rows of its file that "
        "repeat its configuration. Rows on other hardware and of adapters are in no part but "
        "those that say so, `accelerator` and the sources (there without adapters)."
    )
    return errors_sheet("Errors by what was run", "runs", named, note)


def _files(accuracy: Accuracy) -> Sheet:
    files = grouped(accuracy.counted, lambda row: [row.file])
    return errors_sheet("Errors by file", "file", _errors(files) if len(files) > 1 else {})


def _quantities(accuracy: Accuracy) -> Sheet:
    named = {}
    for quantity in (Quantity.MEMORY, Quantity.LENGTH):
        rows = accuracy.of_quantity(quantity)
        if count := counted(rows):
            named[str(quantity)] = Errors.of(count)
        kinds = memory_kinds(rows) if quantity is Quantity.MEMORY else {}
        for name, members in {**kinds, **by_source(rows)}.items():
            named[f"{quantity}: {name}"] = Errors.of(members)
    return errors_sheet("Errors of memory and lengths", "quantity", named)


def _limits(accuracy: Accuracy) -> Sheet:
    limits = MemoryLimits.of(accuracy.predicted)
    rows = (
        ("ended without memory", "does not fit", f"{limits.ended}", f"{limits.ended_right}"),
        ("ran", "fits", f"{limits.ran}", f"{limits.ran_right}"),
    )
    return Sheet(
        title="What fits",
        columns=("runs that", "predicted right: it", "n", "right"),
        rows=tuple(row for row in rows if row[2] != "0"),
        texts=2,
    )


def _ranks(accuracy: Accuracy, sources: Mapping[str, Sequence[Predicted]]) -> Sheet:
    files = grouped(accuracy.counted, lambda row: [row.file])
    several = {f"file: {name}": rows for name, rows in files.items()} if len(files) > 1 else {}
    named = {"overall": accuracy.counted, **several, **sources}
    found = {name: Sweeps.of(rows) for name, rows in named.items()}
    return Sheet(
        title="Ranking of layouts",
        columns=("source", *RANKS),
        rows=tuple((name, *_ranked(sweeps)) for name, sweeps in found.items() if sweeps.jobs),
        note=(
            "Jobs of which three layouts or more were measured. Kendall's tau is pooled over pairs "
            "more than 5% apart; regret is what the layout predicted to be best takes longer than "
            "the best one."
        ),
    )


def _ranked(sweeps: Sweeps) -> tuple[str, ...]:
    tau = f"{sweeps.tau:.2f}" if sweeps.pairs else "-"
    regrets = (percent(sweeps.regret), percent(sweeps.worst_regret))
    return (f"{sweeps.jobs}", f"{sweeps.pairs}", tau, *regrets)


def _peers(peers: Sequence[PeerErrors]) -> Sheet:
    return Sheet(
        title="Beside other cost models, on the same runs",
        columns=("table", "predicted by", "n", "mean |error|", "median |error|", "bias", *RANKS),
        rows=tuple(
            (
                peer.file,
                peer.name,
                f"{peer.errors.n}",
                percent(peer.errors.mean),
                percent(peer.errors.median),
                percent(peer.errors.bias),
                *_ranked(peer.sweeps),
            )
            for peer in peers
        ),
        texts=2,
        note="Rows of a table that no predicted run is: "
        + ", ".join(f"{many} of {file}" for file, many in _unmatched(peers).items())
        + ".",
    )


def _unmatched(peers: Sequence[PeerErrors]) -> dict[str, int]:
    return {peer.file: peer.unmatched for peer in peers}


def _quoted(accuracy: Accuracy) -> Sheet:
    quoted = quoted_peers(each.row for each in accuracy.counted)
    rows = []
    for of in sorted({peer.of for peer in quoted}):
        ours = [each for each in accuracy.counted if each.row.text("source") == of]
        errors, sweeps = Errors.of(ours), Sweeps.of(ours)
        rows.append(
            (
                "Meshwright, here",
                f"{errors.n} runs, {sweeps.jobs} jobs of {of}",
                "this table",
                percent(errors.mean),
                percent(sweeps.regret),
                percent(sweeps.worst_regret),
            )
        )
        rows += [
            (
                peer.name,
                f"{peer.runs} runs, {peer.jobs} jobs: {peer.title}",
                peer.source,
                percent(peer.mean_abs_error),
                percent(peer.mean_regret),
                percent(peer.max_regret),
            )
            for peer in quoted
            if peer.of == of
        ]
    return Sheet(
        title="Beside published figures of other cost models, over other rows",
        columns=("predicted by", "over", "said by", "mean |error|", "mean regret", "max regret"),
        rows=tuple(rows),
        texts=3,
        note="Theirs are over more rows than the table has: they are no comparison row by row.",
    )


def _reasons(title: str, what: str, rows: Sequence[Predicted]) -> Sheet:
    ids: dict[str, list[str]] = defaultdict(list)
    for each in rows:
        ids[each.skipped_because].append(each.row.text("id", "without id"))
    return Sheet(
        title=f"{title}, and why",
        columns=("reason", "such as", what),
        rows=tuple(
            (reason, _first_of(ids[reason]), f"{many}") for reason, many in skips(rows).items()
        ),
        texts=2,
    )


def _first_of(ids: Sequence[str]) -> str:
    """Return the first few of some rows."""
    named = list(dict.fromkeys(ids))
    return ", ".join([*named[:FEW_NAMED], *(["..."] if len(named) > FEW_NAMED else [])])
