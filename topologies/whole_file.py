"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager
from errno import EISDIR
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from topologies.errors import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def whole_file(path: str | os.PathLike[str], field: str = "file") -> Iterator[BinaryIO]:
    """Give a stream whose bytes become the file once all are written.

    Until then, and after any exception, what was there before stays. The file keeps the permissions
    of the one it replaces, links are followed, and devices and pipes are written to directly.

    Parameters
    ----------
    path
        Where the file shall be.
    field
        Who asked for it, in the error: a flag.

    Raises
    ------
    SpecError
        If the file cannot be written.
    """
    name = os.fspath(path)
    if not name:
        raise SpecError([Problem(field, repr(name), "give the name of a file")])
    try:
        target = Path(os.path.realpath(name))
        direct = target.exists() and not target.is_file()
    except (OSError, ValueError) as error:  # a null byte in the name is a ValueError
        raise _refusal(name, field, error) from error
    try:
        with _opened(target) if direct else _replacing(target) as stream:
            yield stream
    except (OSError, UnicodeError) as error:
        raise _refusal(name, field, error) from error


def _refusal(name: str, field: str, error: Exception) -> SpecError:
    reason = getattr(error, "strerror", None) or str(error)
    return SpecError([Problem(field, name, f"cannot be written: {reason}")])


@contextmanager
def _opened(target: Path) -> Iterator[BinaryIO]:
    """Write to what is there: a device or a pipe."""
    if target.is_dir():
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR))
    with target.open("wb") as stream:
        yield stream


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """Put a finished file in the place of the old one."""
    old = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    # Named before it is made: an interruption at any point finds what to take away.
    draft = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        handle = os.open(
            draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if old is None else 0o600
        )
        with os.fdopen(handle, "wb") as stream:
            yield stream
        if old is not None:
            draft.chmod(old)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
