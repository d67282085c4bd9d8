"""Parameters in the data files that were fitted: value, origin, what they were fitted to."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import models
import topologies
from topologies.figure import Provenance
from topologies.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Folders whose files hold parameters.
FOLDERS = tuple(Path(package.__path__[0]) / "data" for package in (models, topologies))


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedParameter:
    """One figure of data files.

    Parameters
    ----------
    files, name
        Where it stands: the files, and the keys that lead to it in each.
    value
        In the unit that its name says.
    source
        What it was fitted to.
    """

    files: tuple[str, ...]
    name: str
    value: float
    source: str


def fitted_parameters() -> tuple[FittedParameter, ...]:
    """Return every figure of a data file that says it was fitted, by file.

    Files that repeat a figure, as clusters of the same fabric do, are named together.
    """
    files: dict[tuple[str, float, str], list[str]] = defaultdict(list)
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*.yaml")):
            for keys, figure in _figures(read_yaml(path), ()):
                if figure.get("kind") == Provenance.FITTED:
                    found = (".".join(keys), figure["value"], figure["source"])
                    files[found].append(str(path.relative_to(folder.parents[1])))
    return tuple(
        FittedParameter(files=tuple(where), name=name, value=value, source=source)
        for (name, value, source), where in files.items()
    )


def _figures(content: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401 - YAML
    """Give every figure below some keys, and the keys that lead to it."""
    if isinstance(content, dict):
        if "value" in content:
            yield keys, content
            return
        for key, below in content.items():
            yield from _figures(below, (*keys, str(key)))
    elif isinstance(content, list):
        for place, below in enumerate(content):
            yield from _figures(below, (*keys, str(place)))
