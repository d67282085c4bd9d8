"""``meshwright app``: start the planning page."""

from __future__ import annotations

from typing import Annotated

import typer

Port = Annotated[int, typer.Option("--port", min=1, max=65535, help="Where the page listens.")]
Address = Annotated[
    str,
    typer.Option(
        "--address", help="Who reaches it: localhost for this machine, 0.0.0.0 for others too."
    ),
]


def app(port: Port = 8501, address: Address = "localhost") -> None:
    """Start the planning page in a browser: plans, layouts, timelines, topologies, sweeps."""
    from importlib.util import find_spec

    from topologies.errors import Problem, SpecError

    missing = [name for name in ("streamlit", "plotly") if find_spec(name) is None]
    if missing:
        mend = "the page needs it: pip install 'meshwright[app]', or `make app` in a checkout"
        raise SpecError([Problem("package", name, mend) for name in missing])
    from ui.serve import serve

    serve(port, address)
