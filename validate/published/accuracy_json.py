"""Accuracy's JSON as text: one row, or the errors of one part, a line; five digits a number."""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Tables rarely state more digits than these, and predictions deserve fewer.
DIGITS = 5


def json_text(content: Mapping[str, Any]) -> str:
    """Return the values of :func:`validate.published.accuracy_record.record` as text.

    >>> print(json_text({"overall": {"n": 1}, "rows": [{"id": "a", "error": 1 / 3}]}), end="")
    {
     "overall":{"n":1},
     "rows":[
      {"id":"a","error":0.33333}
     ]
    }
    """
    return _text(content, "\n") + "\n"


def _text(value: Any, line: str) -> str:  # noqa: ANN401 - any JSON
    """Return a value as text: in one line, unless it holds what has parts itself."""
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}" if isfinite(value) else "null"
    further = f"{line} "
    if isinstance(value, dict):
        parts = [f"{json.dumps(name)}:{_text(each, further)}" for name, each in value.items()]
        return "{" + _joined(parts, line, broken=_deep(value.values())) + "}"
    if isinstance(value, (list, tuple)):
        parts = [_text(each, further) for each in value]
        return "[" + _joined(parts, line, broken=_deep(value)) + "]"
    return json.dumps(value)


def _joined(parts: list[str], line: str, *, broken: bool) -> str:
    return f"{line} " + f",{line} ".join(parts) + line if broken else ",".join(parts)


def _deep(values: Iterable[Any]) -> bool:
    """Return whether one of some values has parts, beyond a list of plain ones."""
    return any(
        isinstance(each, dict)
        or (isinstance(each, list) and any(isinstance(one, (dict, list)) for one in each))
        for each in values
    )
