"""A planning page of its own for a test: started on a free port, ended with all it started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def running(log):
    """Give the address of a running page and its process."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", f"from ui.serve import serve; serve({port}, 'localhost')"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait(f"http://localhost:{port}/_stcore/health", process)
        yield f"http://localhost:{port}", process
    finally:
        process.terminate()
        process.wait(timeout=20)


def children(pid):
    """Return the processes that a process started and that still run."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat=,args="], check=True, capture_output=True, text=True
    ).stdout
    rows = [line.split(None, 3) for line in listed.splitlines()]
    return [int(row[0]) for row in rows if int(row[1]) == pid and "Z" not in row[2]]


def _wait(url, process, seconds=40.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no answer from {url}")
