"""How the planning page does with many visitors at once: first page, search, one axis changed.

python -m benchmarks.planning_page [VISITORS]

Visitors speak the page's own protocol, without browsers: these would take the cores that the server
is measured on. Each opens the page, searches a question of its own, opens its layout and has the
controls run again; all at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np

VISITORS, CHANGES = 20, 5
ROOT = Path(__file__).parent.parent
#: Seconds that a visitor waits for anything.
PATIENCE_S = 180.0


@dataclass(slots=True)
class Visitor:
    """One visitor's connection, and what it met with."""

    url: str
    query: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    fragments: set[str] = field(default_factory=set)
    looks: dict[str, float] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    async def visit(self) -> None:
        """Open the page, search, and change a layout."""
        from websockets.asyncio.client import connect

        async with connect(
            f"{self.url.replace('http', 'ws')}/_stcore/stream",
            subprotocols=["streamlit"],
            max_size=None,
        ) as wire:
            await self._timed("first page", self._run(wire))
            await self._timed("search", self._searched(wire))
        async with connect(
            f"{self.url.replace('http', 'ws')}/_stcore/stream",
            subprotocols=["streamlit"],
            max_size=None,
        ) as wire:
            self.fragments.clear()
            await self._timed("layout page", self._run(wire, page="layout"))
            if not self.fragments:
                self.errors.append("the layout page has no fragment")
            for fragment in sorted(self.fragments)[:1] * CHANGES:
                await self._timed("fragment", self._run(wire, page="layout", fragment=fragment))

    async def _timed(self, name: str, what: Any) -> None:  # noqa: ANN401 - a coroutine
        begun = time.perf_counter()
        await asyncio.wait_for(what, PATIENCE_S)
        self.seconds.setdefault(name, []).append(time.perf_counter() - begun)

    async def _searched(self, wire: Any) -> None:  # noqa: ANN401 - a connection
        """Look at the search as the page does, until the ranked table is there."""
        while "Ranked layouts" not in self.seen:
            if self.looks:
                fragment, interval = next(iter(self.looks.items()))
                await asyncio.sleep(interval)
                await self._run(wire, fragment=fragment)
            await self._run(wire)

    async def _run(self, wire: Any, page: str = "", fragment: str = "") -> None:  # noqa: ANN401
        """Have the script, or a fragment of it, run, and take what it sends."""
        from streamlit.proto.BackMsg_pb2 import BackMsg
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        asked = BackMsg()
        asked.rerun_script.query_string = self.query
        asked.rerun_script.page_name = page
        asked.rerun_script.fragment_id = fragment
        await wire.send(asked.SerializeToString())
        self.looks.clear()
        while True:
            message = ForwardMsg.FromString(await wire.recv())
            kind = message.WhichOneof("type")
            if kind == "delta":
                self._look(message.delta)
            elif kind == "auto_rerun":
                self.looks[message.auto_rerun.fragment_id] = message.auto_rerun.interval
            elif kind == "page_info_changed":
                self.query = message.page_info_changed.query_string
            elif kind == "script_finished":
                return

    def _look(self, delta: Any) -> None:  # noqa: ANN401 - a message
        if delta.fragment_id:
            self.fragments.add(delta.fragment_id)
        shown = delta.new_element
        kind = shown.WhichOneof("type")
        if kind == "exception":
            self.errors.append(shown.exception.message)
        elif kind == "alert" and shown.alert.format == shown.alert.ERROR:
            self.errors.append(shown.alert.body)
        elif kind == "heading":
            self.seen.add(shown.heading.body)


def question(at: int) -> str:
    """Return the address of a question that no other visitor asks."""
    return urlencode(
        {
            "model": ("llama-3.1-8b", "qwen3-8b", "llama-3.1-70b", "mistral-7b")[at % 4],
            "gpus": "64",
            "seq_len": "32k",
            "global_batch": str(64 * (1 + at // 4)),
            "pins": "kernels=fused",
            "searched": "1",
        }
    )


def memory_mib(pid: int) -> float:
    """Return the memory of a process that is there now, in MiB; Linux only."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return float(line.split()[1]) / 1024
    return float("nan")


async def all_at_once(url: str, many: int) -> list[Visitor]:
    """Return the visitors after their visits."""
    visitors = [Visitor(url, question(at)) for at in range(many)]
    results = await asyncio.gather(
        *(visitor.visit() for visitor in visitors), return_exceptions=True
    )
    for visitor, result in zip(visitors, results, strict=True):
        if result is not None:
            visitor.errors.append(f"{type(result).__name__}: {result}")
    return visitors


def main() -> None:
    """Measure one visitor alone, then many at once, and print."""
    many = int(sys.argv[1]) if len(sys.argv) > 1 else VISITORS
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    code = f"from ui.serve import serve; serve({port}, 'localhost')"
    server = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    url = f"http://localhost:{port}"
    try:
        _wait(url)
        print(f"{os.cpu_count()} cores")
        _report("one visitor", asyncio.run(all_at_once(url, 1)))
        before = memory_mib(server.pid)
        found = asyncio.run(all_at_once(url, many))
        _report(f"{many} visitors at once", found)
        print(f"the server: {before:.0f} MiB before, {memory_mib(server.pid):.0f} MiB after")
    finally:
        server.terminate()
        _, said = server.communicate(timeout=30)
        lines = said.decode(errors="replace").splitlines()
        bad = [line for line in lines if "rror" in line]
        print(f"lines of the server's log that speak of errors: {len(bad)}", *bad[:3], sep="\n  ")


def _wait(url: str) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)


def _report(title: str, visitors: list[Visitor]) -> None:
    errors = [error for visitor in visitors for error in visitor.errors]
    print(f"{title}: {len(errors)} errors" + "".join(f"\n  {error}" for error in errors[:5]))
    for name in ("first page", "search", "layout page", "fragment"):
        taken = [each for visitor in visitors for each in visitor.seconds.get(name, [])]
        if taken:
            median, late, last = (1e3 * np.percentile(taken, at) for at in (50, 95, 100))
            print(
                f"  {name:12} median {median:7,.0f} ms, 95% within {late:7,.0f} ms, "
                f"all within {last:7,.0f} ms"
            )


if __name__ == "__main__":
    main()
