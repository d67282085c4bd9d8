"""Writing: to the screen with rich, to files whole or not at all."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from topologies import whole_file
from topologies.errors import Collected, Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: Columns where the output is no terminal.
PLAIN_WIDTH = 140


class Screen(Console):
    """A console that leaves it to the command line what a closed output means."""

    def on_broken_pipe(self) -> None:
        """Raise instead of ending the program with a bug's exit code."""
        raise BrokenPipeError


def console() -> Console:
    """Return the console that tables are printed on."""
    if sys.stdout is not None and sys.stdout.isatty():
        return Screen(highlight=False)
    return Screen(highlight=False, width=PLAIN_WIDTH)


def write_text(path: str, text: str) -> None:
    """Write a file whole, or leave what was there; devices and pipes are written to.

    Raises
    ------
    SpecError
        If the file cannot be written.
    """
    with whole_file.whole_file(path) as stream:
        stream.write(text.encode("utf-8"))


def check_place(path: str | None, field: str) -> None:
    """Check that a file can be written, before what takes long; ``-``, the screen, always can.

    Raises
    ------
    SpecError
        If it cannot.
    """
    if path is None or path == "-":
        return
    folder = Path(path).parent
    if not folder.exists():
        raise SpecError([Problem(field, path, f"no folder {folder}: make it first")])
    whole_file.check_place(path, field)


def check_places(places: Mapping[str, str | None]) -> None:
    """Check every file that options ask for, before what takes long.

    Parameters
    ----------
    places
        The file of each option; None where it was not given.

    Raises
    ------
    SpecError
        With every file that cannot be written, or that two options ask for.
    """
    found, taken = Collected(), dict[str, str]()
    for option, path in places.items():
        if path is None:
            continue
        first = taken.setdefault(path, option)
        if first != option:
            found.problems.append(Problem(option, path, f"{first} is written there: take another"))
        found.attempt(partial(check_place, path, option))
    found.raise_if_any()


def write_json(path: str, content: dict[str, Any]) -> None:
    """Write JSON to a file, or to the screen where `path` is ``-``."""
    write_out(path, json.dumps(content, indent=2) + "\n")


def write_out(path: str, text: str) -> None:
    """Write text to a file, or to the screen where `path` is ``-``."""
    if path == "-":
        sys.stdout.write(text)
    else:
        write_text(path, text)


@contextmanager
def counting(label: str, unit: str = "layouts") -> Iterator[Callable[[int], None]]:
    """Show a count that goes up while something long runs; silent where nobody watches."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(label)
        yield lambda count: bar.update(task, description=f"{label}: {count:,} {unit}")


@contextmanager
def advancing(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show how much of something long is done, and what remains; silent where nobody watches."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("at most"),
        TimeRemainingColumn(),
    )
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def working(label: str) -> Iterator[None]:
    """Show that something long runs; silent where nobody watches."""
    screen = Console(stderr=True)
    if not screen.is_terminal:
        yield
        return
    with screen.status(label):
        yield


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print records as a table; their keys are the columns."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*map(str, row.values()))
    console().print(table)
