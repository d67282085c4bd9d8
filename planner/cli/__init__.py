"""The ``meshwright`` command, put together from the entry points of ``meshwright.commands``.

Each command is a light module that imports what it needs when it runs, so that ``--help`` starts
nothing heavy and the planner never imports the commands of the layers above it.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points, version

import typer

from topologies.errors import MeshwrightError

GROUP = "meshwright.commands"
BAD_INPUT, INTERRUPTED = 2, 130


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
            app.add_typer(command, name=point.name)
        else:
            app.command(name=point.name)(command)
    return app


def main() -> None:
    """Run the command line: exit code 0 answered, 2 bad input, 1 a bug."""
    try:
        build()()
    except MeshwrightError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(BAD_INPUT)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


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
