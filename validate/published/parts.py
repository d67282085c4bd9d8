"""Published runs by what they are, so that a reader finds where errors are."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from validate.published.columns import TRAINING_RUN
from validate.published.memory_rows import memory_kind
from validate.published.standing import Standing, standing_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from validate.published.predicted import Predicted
    from validate.published.row import Row

    Group = Mapping[str, Sequence[Predicted]]

LONG = 32_768
FEW_DEVICES = 8
UNSTATED = "not stated"


def parts(found: Iterable[Predicted]) -> dict[str, Group]:
    """Return predictions by several questions, and for each by its answers.

    All but ``standing``, ``accelerator`` and ``source`` are of rows that count.
    """
    rows = list(found)
    count = counted(rows)
    return {
        "standing": grouped(rows, lambda row: [standing_of(row)]),
        "kind": grouped(count, lambda row: [row.kind]),
        "model": grouped(count, _model),
        "length": grouped(count, _length),
        "scale": grouped(count, _scale),
        "framework": grouped(count, lambda row: [framework(row)]),
        "precision": grouped(count, lambda row: [precision(row)]),
        "accelerator": grouped(_whole(rows), lambda row: [accelerator(row)]),
        "source": by_source(rows),
    }


def counted(rows: Iterable[Predicted]) -> list[Predicted]:
    """Return the predictions that overall errors are of."""
    return [each for each in rows if standing_of(each.row) is Standing.COUNTED]


def by_source(rows: Iterable[Predicted]) -> Group:
    """Return predictions by source, without those of adapters."""
    return grouped(_whole(rows), source)


def memory_kinds(rows: Iterable[Predicted]) -> Group:
    """Return predictions that count of memory of training runs, by the sum of the bill they mean.

    Those of sequence-parallel steps go by their sources, a few of which name the tool.
    """
    runs = [each for each in counted(rows) if each.row.kind == TRAINING_RUN]
    return grouped(runs, lambda row: [memory_kind(row)])


def _whole(rows: Iterable[Predicted]) -> list[Predicted]:
    """Return the predictions of runs that train whole models."""
    return [each for each in rows if standing_of(each.row) is not Standing.LORA]


def grouped(rows: Iterable[Predicted], names: Callable[[Row], Iterable[str]]) -> Group:
    """Return rows by each of the names that they are given, in the order of names."""
    groups: dict[str, list[Predicted]] = defaultdict(list)
    for each in rows:
        for name in names(each.row):
            groups[str(name)].append(each)
    return dict(sorted(groups.items()))


def source(row: Row) -> list[str]:
    """Return the one source of a row: a repository at a commit, whatever file of it, or a name.

    >>> from validate.published.row import Row
    >>> source(Row({"source": "someone/code@1a2b3c4d5e6f7a8b:bench/README.md"}, 1.0))
    ['someone/code@1a2b3c4d5e']
    """
    stated = row.text("source", UNSTATED)
    repository = re.match(r"([^\s:@]+@[0-9a-f]{1,10})[0-9a-f]*(\^?):", stated)
    return ["".join(repository.groups()) if repository else stated]


def framework(row: Row) -> str:
    """Return the family of a framework: its name up to what it is built on, versions, remarks.

    >>> from validate.published.row import Row
    >>> [framework(Row({"framework": name}, 1.0)) for name in ("MaxText (JAX)", "NeMo/Core", "")]
    ['MaxText', 'NeMo', 'not stated']
    """
    return re.split(r"[ /(]", row.text("framework"), maxsplit=1)[0] or UNSTATED


def precision(row: Row) -> str:
    """Return the class of a precision, without remarks, as large letters.

    >>> from validate.published.row import Row
    >>> [precision(Row({"precision_class": name}, 1.0)) for name in ("fp16 (config)", "BF16")]
    ['FP16', 'BF16']
    """
    stated = row.text("precision_class", UNSTATED)
    return UNSTATED if stated == UNSTATED else stated.split()[0].upper()


def accelerator(row: Row) -> str:
    """Return an accelerator without remarks and sockets, its memory as most tables write it.

    >>> from validate.published.row import Row
    >>> said = ("A100 (SXM not stated)", "A100-SXM4-80GB", "A100 80G", "TPU v5p")
    >>> [accelerator(Row({"accelerator": name}, 1.0)) for name in said]
    ['A100', 'A100-80GB', 'A100-80GB', 'TPU v5p']
    """
    name = row.text("accelerator", UNSTATED).split(" (")[0]
    return re.sub(r"[ -](?:SXM\d?[ -])?(\d+) ?GB?$", r"-\1GB", name)


def _model(row: Row) -> list[str]:
    return ["experts" if row.text("experts", "0") not in ("0", "") else "dense"]


def _length(row: Row) -> list[str]:
    tokens = _plain(row, "seq_len")
    return ["32k and longer" if tokens >= LONG else "shorter than 32k"] if tokens else [UNSTATED]


def _scale(row: Row) -> Iterator[str]:
    """Give up to two answers: few devices may be one node or several."""
    gpus, node = _plain(row, "gpus"), _plain(row, "gpus_per_node")
    if 0 < gpus <= FEW_DEVICES:
        yield "8 devices or fewer"
    if not (gpus and node):
        yield f"nodes {UNSTATED}"
    else:
        yield "one node" if gpus <= node else "many nodes"


def _plain(row: Row, name: str) -> float:
    """Return a number that a row states plainly, or zero."""
    text = row.text(name)
    return float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else 0.0
