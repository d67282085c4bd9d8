"""Message sizes as people write them: 65536, 64KiB, 1GiB."""

from __future__ import annotations

import re

from topologies.errors import Problem, SpecError

UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
MOST_BYTES = 2**40


def parse_bytes(text: str, field: str) -> int:
    """Return a number of bytes that may end in KiB, MiB or GiB.

    Raises
    ------
    SpecError
        If `text` is no such number, or not from 1 byte to 1024 GiB.

    Examples
    --------
    >>> parse_bytes("64MiB", "--bytes")
    67108864
    """
    match = re.fullmatch(r"([0-9]{1,15}) ?(|KiB|MiB|GiB)", text.strip())
    value = int(match[1]) * UNITS[match[2]] if match else 0
    if not 1 <= value <= MOST_BYTES:
        mend = "a whole number of bytes up to 1024GiB such as 65536, 64KiB, 64MiB or 1GiB"
        raise SpecError([Problem(field, text, mend)])
    return value


def format_bytes(count: int) -> str:
    """Return a number of bytes in the largest unit that it is whole in.

    >>> format_bytes(67108864), format_bytes(1000)
    ('64MiB', '1000 bytes')
    """
    unit = max((name for name in UNITS if count % UNITS[name] == 0), key=lambda name: UNITS[name])
    return f"{count // UNITS[unit]}{unit or ' bytes'}"
