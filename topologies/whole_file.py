"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager
from errno import EACCES, EISDIR, ENOENT, ENOTDIR
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
    target, direct = _target(name, field)
    try:
        with _opened(target) if direct else _replacing(target) as stream:
            yield stream
    except (OSError, UnicodeError) as error:
        raise _refusal(name, field, error) from error


def check_place(path: str | os.PathLike[str], field: str = "file") -> None:
    """Check that a file can be written there, before what it is for has run.

    Parameters
    ----------
    path, field
        As of :func:`whole_file`.

    Raises
    ------
    SpecError
        As it would.
    """
    name = os.fspath(path)
    target, direct = _target(name, field)
    try:
        if target.is_dir():
            raise _error(EISDIR)
        place = target if direct else target.parent
        if not direct and not place.is_dir():
            raise _error(ENOTDIR if place.exists() else ENOENT)
        if not os.access(place, os.W_OK if direct else os.W_OK | os.X_OK):
            raise _error(EACCES)
    except OSError as error:
        raise _refusal(name, field, error) from error


def _target(name: str, field: str) -> tuple[Path, bool]:
    """Return the file that a name leads to, and whether it is none: a device or a pipe."""
    if not name:
        raise SpecError([Problem(field, repr(name), "give the name of a file")])
    try:
        target = Path(os.path.realpath(name))
        return target, target.exists() and not target.is_file()
    except (OSError, ValueError) as error:  # a null byte in the name is a ValueError
        raise _refusal(name, field, error) from error


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _refusal(name: str, field: str, error: Exception) -> SpecError:
    reason = getattr(error, "strerror", None) or str(error)
    return SpecError([Problem(field, name, f"cannot be written: {reason}")])


@contextmanager
def _opened(target: Path) -> Iterator[BinaryIO]:
    """Write to what is there: a device or a pipe."""
    if target.is_dir():
        raise _error(EISDIR)
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
