"""Reading files that people write: regular, of a sane size, text, YAML without tricks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from topologies.errors import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Descriptions of clusters and models are kilobytes; a larger file is something else.
LARGEST_FILE_BYTES = 5_000_000
#: No description nests deeper.
DEEPEST = 50
#: Longer names are cut in messages.
LONGEST_SHOWN = 120
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path, field: str = "file") -> Mapping[str, Any]:
    """Return the mapping a YAML file holds; problems are of `field`.

    Raises
    ------
    SpecError
        If the file is missing, too large, not text, not YAML or not a mapping.
    """
    text = read_text(path, field)
    try:
        _refuse_aliases(text, path, field)
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        why = f": {error.problem}" if isinstance(error, _DuplicateKeyError) else ""
        raise SpecError([Problem(field, path, f"not YAML{where}{why}")]) from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise SpecError([Problem(field, path, f"not YAML: {error}")]) from error
    if not isinstance(content, dict):
        raise SpecError([Problem(field, path, "not a mapping of keys to values")])
    return content


def read_text(path: Path, field: str = "file", largest: int = LARGEST_FILE_BYTES) -> str:
    """Return the text of a regular file of at most `largest` bytes; problems are of `field`.

    Raises
    ------
    SpecError
        If it is no regular file, too large, not readable or not text.
    """
    try:
        if path.exists() and not path.is_file():
            raise SpecError([Problem(field, path, "not a regular file")])
        with path.open("rb") as stream:
            content = stream.read(largest + 1)
        if len(content) > largest:
            raise SpecError([Problem(field, path, f"larger than {largest} bytes")])
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError([Problem(field, path, "cannot be read: not a text file")]) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError([Problem(field, _short(path), f"cannot be read: {reason}")]) from error


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


class _DuplicateKeyError(yaml.MarkedYAMLError):
    """A key that is there twice: the second would silently win."""


class _Loader(_LOADER):  # type: ignore[misc, valid-type]
    """A safe loader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping, each of its keys given once."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in seen:
                why = f"the key {key_node.value} is there twice"
                raise _DuplicateKeyError(None, None, why, key_node.start_mark)
            seen.add(key_node.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def _refuse_aliases(text: str, path: Path, field: str) -> None:
    """Refuse what grows without bound: aliases, and nesting, which readers take in squares."""
    depth = 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if depth > DEEPEST:
            raise SpecError([Problem(field, path, f"nested deeper than {DEEPEST} levels")])
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=_Loader)):
        raise SpecError(
            [Problem(field, path, "write the values out: aliases (*name) are not read")]
        )
