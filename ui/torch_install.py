"""Torch, which only calibration needs: whether it is there, and how it gets there."""

from __future__ import annotations

import atexit
import re
import subprocess
import sys
import threading
from functools import cache
from importlib import metadata
from importlib.util import find_spec

#: Lines of an installation's output that are kept.
MOST_LINES = 200
#: Seconds it may take.
LONGEST_S = 1800.0


def there() -> bool:
    """Return whether torch can be imported."""
    return find_spec("torch") is not None


@cache
def requirement() -> str:
    """Return what this distribution asks for, such as ``torch>=2.6,<2.14``."""
    try:
        listed = metadata.requires("meshwright") or []
    except metadata.PackageNotFoundError:
        listed = []
    found = [line.partition(";")[0].strip() for line in listed if re.match(r"torch\b", line)]
    return found[0] if found else "torch"


class Installation:
    """pip at work; one for all visitors, since they share the machine."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.code: int | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pip", "install", requirement()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self._limit = threading.Timer(LONGEST_S, self.stop)
        self._limit.daemon = True
        self._limit.start()

    def stop(self) -> None:
        """End it now."""
        self._process.kill()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.lines = [*self.lines, line.rstrip()][-MOST_LINES:]
        self.code = self._process.wait()
        self._limit.cancel()


_running: list[Installation] = []
_lock = threading.Lock()


def current() -> Installation | None:
    """Return the installation that runs or ran last."""
    return _running[-1] if _running else None


def begin() -> Installation:
    """Start installing torch, if nobody else does already."""
    with _lock:
        if not _running or _running[-1].code is not None:
            _running.append(Installation())
            atexit.register(_running[-1].stop)
        return _running[-1]
