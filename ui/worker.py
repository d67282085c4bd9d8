"""The process that computes for one visitor: reads one job from its input, answers on its output.

It ends with its job, or at once when the page that started it is gone: that closes its input.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from topologies.errors import MeshwrightError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

#: Memory a job may take: a search holds some tens of megabytes, a long timeline some gigabytes.
MOST_BYTES = 8 * 2**30
_LENGTH = struct.Struct("<Q")


def send(stream: BinaryIO, message: object) -> None:
    """Write one message: its length, then itself."""
    content = pickle.dumps(message)
    stream.write(_LENGTH.pack(len(content)) + content)
    stream.flush()


def receive(stream: BinaryIO) -> Any:  # noqa: ANN401 - whatever the other side says
    """Read one message.

    Raises
    ------
    EOFError
        If there is none, or not all of it.
    """
    head = _read(stream, _LENGTH.size)
    return pickle.loads(_read(stream, _LENGTH.unpack(head)[0]))


def answer(
    job: Callable[..., object], arguments: tuple[object, ...], told: Callable[[object], None]
) -> tuple[str, object]:
    """Return what a job comes to: ``done`` and its result, or why there is none."""
    try:
        return "done", job(*arguments, told)
    except SpecError as error:
        return "refused", tuple(map(str, error.problems))
    except MeshwrightError as error:
        return "refused", (str(error),)
    except MemoryError:
        return "refused", (
            f"The answer needs more than {MOST_BYTES / 2**30:.0f} GiB of memory here: pin axes, or "
            "ask for less at once.",
        )
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"


def main() -> None:
    """Answer one job and end."""
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what jobs print is no message
    from ui import jobs  # loaded before there is a job: it takes most of a second

    try:
        name, arguments, limited = receive(source)
    except EOFError:
        return
    threading.Thread(target=_end_with, args=(source,), daemon=True).start()
    if limited:
        _limit_memory()
    lock = threading.Lock()

    def told(value: object) -> None:
        with lock:
            send(target, ("progress", value))

    found = answer(getattr(jobs, name), arguments, told)
    with lock:
        send(target, found)


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):  # no such limits on this system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))


def _end_with(source: BinaryIO) -> None:
    """End as soon as the other side closes the input."""
    source.read()
    os._exit(1)


def _read(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content


if __name__ == "__main__":
    main()
