"""Permalinks: the whole state as query parameters, and back."""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from ui.question import Document, Question, State

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Longer values are no one's plain question.
LONGEST_VALUE = 2_000
#: Files whose packed form is longer are not put into links: browsers and servers cut them.
LONGEST_PACKED = 12_000
#: What an unpacked file may take: more is a bomb.
LARGEST_UNPACKED = 1_000_000
#: Separates the name of a file from its packed text; in neither.
MARK = "~"

_DOCUMENTS = ("own_model", "own_cluster", "own_profile")
_WORDS = [each.name for each in fields(Question) if each.name not in _DOCUMENTS]
_VIEW = [each.name for each in fields(State) if each.name not in ("question", "searched")]


def to_query(state: State) -> dict[str, str]:
    """Return the query parameters of a state: what is not as usual.

    Files are packed into the link where they are short enough, else left out
    (:func:`left_out` names them).
    """
    usual, question = State(), state.question
    found = {
        name: getattr(question, name)
        for name in _WORDS
        if getattr(question, name) != getattr(usual.question, name)
    }
    for name in _DOCUMENTS:
        packed = _pack(getattr(question, name))
        if packed and len(packed) <= LONGEST_PACKED:
            found[name] = packed
    found |= {n: getattr(state, n) for n in _VIEW if getattr(state, n) != getattr(usual, n)}
    if state.searched:
        found["searched"] = "1"
    return found


def from_query(query: Mapping[str, str]) -> tuple[State, tuple[str, ...]]:
    """Return the state of query parameters, and a sentence for each that says nothing known.

    Whether a model or a number can be is not asked here: the planner says so.
    """
    problems: list[str] = []
    words: dict[str, Any] = {}
    view: dict[str, Any] = {}
    for name, value in query.items():
        if name in _DOCUMENTS:
            document = _unpack(value)
            if document is None:
                problems.append(f"The link's {name} is no file that this page packed.")
            else:
                words[name] = document
        elif name not in _WORDS and name not in _VIEW and name != "searched":
            problems.append(f"The link's {_short(name)} is not known here.")
        elif len(value) > LONGEST_VALUE:
            problems.append(f"The link's {name} is longer than {LONGEST_VALUE:,} letters.")
        elif name == "searched":
            view[name] = value == "1"
        else:
            (words if name in _WORDS else view)[name] = value
    return replace(State(), question=Question(**words), **view), tuple(problems)


def left_out(state: State) -> tuple[str, ...]:
    """Return the names of files that are too long for a link."""
    documents = (getattr(state.question, name) for name in _DOCUMENTS)
    return tuple(
        document.name
        for document in documents
        if document is not None and len(_pack(document)) > LONGEST_PACKED
    )


def _pack(document: Document | None) -> str:
    if document is None:
        return ""
    name = document.name.replace(MARK, "-")[:LONGEST_VALUE]
    packed = zlib.compress(document.text.encode("utf-8"), 9)
    return f"{name}{MARK}{base64.urlsafe_b64encode(packed).decode()}"


def _unpack(value: str) -> Document | None:
    name, mark, packed = value.partition(MARK)
    if not mark or len(value) > LONGEST_PACKED + LONGEST_VALUE:
        return None
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(base64.urlsafe_b64decode(packed), LARGEST_UNPACKED)
        text = content.decode("utf-8")
    except (binascii.Error, ValueError, zlib.error):
        return None
    return Document(name=name, text=text) if reader.eof else None


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:40]}..."
