"""The page's server, which loads the first page before anyone asks for it."""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from pathlib import Path

PAGE = Path(__file__).parent.parent / "app.py"
#: What the first page imports; it takes most of a second.
AHEAD = ("ui.frame", "ui.plan", "plotly.graph_objects", "pandas")


def serve(port: int, address: str) -> None:
    """Serve the page until the process is ended.

    Parameters
    ----------
    port, address
        Where it listens.
    """
    from streamlit.web.cli import main

    sys.stdout.write(f"The planning page: http://{address}:{port} (Ctrl-C ends it)\n")
    sys.stdout.flush()
    threading.Thread(target=_load_ahead, daemon=True).start()
    options = ["--server.port", str(port), "--server.address", address]
    main(["run", str(PAGE), *options], standalone_mode=False)


def _load_ahead() -> None:
    for name in AHEAD:
        import_module(name)
    from ui.measured import committed

    committed()  # a large file, which every visitor's first page has a figure of
