"""Permalinks: the whole state as query parameters, and back."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from ui.question import DIGITS, Document, Question, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Longer values are no one's plain question.
LONGEST_VALUE = 2_000
#: Files whose packed form is longer are not put into links: browsers and servers cut them.
LONGEST_PACKED = 12_000
#: What an unpacked file may take: more is a bomb.
LARGEST_UNPACKED = 1_000_000
#: Separates the name of a file from its packed text; in neither. Twice, it separates the digest.
MARK = "~"

_DOCUMENTS = ("own_model", "own_cluster", "own_profile")
_WORDS = [each.name for each in fields(Question) if each.name not in _DOCUMENTS]
_FLAGS = ("searched", "played", "swept", "stretched")
_RUNS = "runs"
_VIEW = [each.name for each in fields(State) if each.name not in ("question", _RUNS, *_FLAGS)]


def to_query(state: State) -> dict[str, str]:
    """Return the query parameters of a state: what is not as usual.

    Files are packed into the link where they are short enough; of others it has the name and a
    digest (:func:`left_out` names them).
    """
    usual, question = State(), state.question
    found = {
        name: getattr(question, name)
        for name in _WORDS
        if getattr(question, name) != getattr(usual.question, name)
    }
    found |= {name: _written(document) for name, document in _documents(state)}
    found |= {n: getattr(state, n) for n in _VIEW if getattr(state, n) != getattr(usual, n)}
    found |= {name: "1" for name in _FLAGS if getattr(state, name)}
    return found


def from_query(query: Mapping[str, str]) -> tuple[State, tuple[str, ...]]:
    """Return the state of query parameters, and a sentence for each that says nothing known.

    Whether a model or a number can be is not asked here: the planner says so.
    """
    problems: list[str] = []
    words: dict[str, Any] = {}
    view: dict[str, Any] = {}
    for name, value in query.items():
        if name in _DOCUMENTS or name == _RUNS:
            document = _read(value)
            if document is None:
                problems.append(f"The link's {name} is no file that this page packed.")
            else:
                (words if name in _DOCUMENTS else view)[name] = document
        elif name not in _WORDS and name not in _VIEW and name not in _FLAGS:
            problems.append(f"The link's {_short(name)} is not known here.")
        elif len(value) > LONGEST_VALUE:
            problems.append(f"The link's {name} is longer than {LONGEST_VALUE:,} letters.")
        elif name in _FLAGS:
            view[name] = value == "1"
        else:
            (words if name in _WORDS else view)[name] = value
    return replace(State(), question=Question(**words), **view), tuple(problems)


def left_out(state: State) -> tuple[Document, ...]:
    """Return the files that are here but too long for a link."""
    return tuple(
        document
        for _, document in _documents(state)
        if not document.missing and len(_pack(document)) > LONGEST_PACKED
    )


def _documents(state: State) -> Iterator[tuple[str, Document]]:
    for name in (*_DOCUMENTS, _RUNS):
        document = getattr(state if name == _RUNS else state.question, name)
        if document is not None:
            yield name, document


def _written(document: Document) -> str:
    """Return a file as a link has it: packed, or its name and digest."""
    packed = "" if document.missing else _pack(document)
    if packed and len(packed) <= LONGEST_PACKED:
        return packed
    return f"{_named(document)}{MARK}{MARK}{document.digest}"


def _named(document: Document) -> str:
    return document.name.replace(MARK, "-")[:LONGEST_VALUE]


def _pack(document: Document) -> str:
    packed = zlib.compress(document.text.encode("utf-8"), 9)
    return f"{_named(document)}{MARK}{base64.urlsafe_b64encode(packed).decode()}"


def _read(value: str) -> Document | None:
    name, mark, packed = value.partition(MARK)
    if not mark or len(value) > LONGEST_PACKED + LONGEST_VALUE:
        return None
    if packed.startswith(MARK):
        digest = packed.removeprefix(MARK)
        known = re.fullmatch(f"[0-9a-f]{{{DIGITS}}}", digest)
        return Document(name=name, text="", missing=digest) if known else None
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(base64.urlsafe_b64decode(packed), LARGEST_UNPACKED)
        text = content.decode("utf-8")
    except (binascii.Error, ValueError, zlib.error):
        return None
    return Document(name=name, text=text) if reader.eof else None


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:40]}..."
