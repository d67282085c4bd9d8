"""The ``meshwright`` command, put together from the entry points of ``meshwright.commands``.

Each command is a light module that imports what it needs when it runs, so that ``--help`` starts
nothing heavy and the planner never imports the commands of the layers above it.
"""

from __future__ import annotations

import io
import os
import sys
from functools import wraps
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING

import typer

from topologies.errors import MeshwrightError, Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

GROUP = "meshwright.commands"
BAD_INPUT, INTERRUPTED = 2, 130


class OutputClosedError(Exception):
    """Whoever read the output has seen enough; no error of anyone's."""


def build() -> typer.Typer:
    """Return the application with every installed command."""
    app = typer.Typer(
        name="meshwright",
        help="Plan long-context LLM training: which layout, how fast, how big, how sure, and why.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        command = point.load()
        if isinstance(command, typer.Typer):
            for info in command.registered_commands:
                info.callback = _guarded(info.callback) if info.callback else None
            app.add_typer(command, name=point.name)
        else:
            app.command(name=point.name)(_guarded(command))
    return app


def main() -> None:
    """Run the command line: exit code 0 answered, 2 bad input, 1 a bug."""
    try:
        code = _run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OutputClosedError:
        # What is left in the buffers has no reader; the interpreter must not try to write it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    if code == INTERRUPTED:
        sys.stderr.write("Stopped.\n")
    sys.exit(code)


def _run() -> int:
    """Run one command and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a sign shows ?
            stream.reconfigure(errors="replace")
    try:
        code = build()(standalone_mode=False)
    except MeshwrightError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT
    except OutputClosedError:
        raise
    except Exception as error:
        # typer's own errors (a missing argument, an unknown option) know how to show themselves.
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        return BAD_INPUT
    return code if isinstance(code, int) else 0


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that ends quietly when nobody reads its output any more."""

    @wraps(command)
    def guarded(**options: object) -> None:
        try:
            command(**options)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError as error:
            raise OutputClosedError from error
        except OSError as error:  # a full disk behind the screen's redirection, say
            reason = error.strerror or str(error)
            raise SpecError([Problem("output", error.filename or "-", reason)]) from error

    return guarded


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"meshwright {version('meshwright')}\n")
        raise typer.Exit


def _root(
    _version: bool = typer.Option(
        False, "--version", help="Show the version.", callback=_show_version, is_eager=True
    ),
) -> None:
    """Plan long-context LLM training."""
