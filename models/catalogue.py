"""Reading architectures by catalogue name or from a ``config.json``."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.hf_config import architecture_from_config
from topologies.errors import Problem, SpecError, unknown_name
from topologies.yaml_file import read_text

if TYPE_CHECKING:
    from models.architecture import Architecture

CONFIGS = Path(__file__).parent / "data" / "configs"


def model_names() -> tuple[str, ...]:
    """Return the names in the architecture catalogue, sorted."""
    return tuple(sorted(path.stem for path in CONFIGS.glob("*.json")))


@cache
def load_architecture(name: str) -> Architecture:
    """Return the architecture of a catalogue name or of a ``config.json`` (or its folder).

    Raises
    ------
    SpecError
        If there is no such name or file, or the config cannot be read; see
        :func:`models.hf_config.architecture_from_config`.
    """
    if name in model_names():
        return architecture_from_config(read_json(CONFIGS / f"{name}.json"), name)
    path = Path(name)
    try:
        path = path / "config.json" if path.is_dir() else path
        there = path.suffix == ".json" or path.exists()
    except (OSError, ValueError):  # too long for a path, or holding what no path may
        there = False
    if not there:
        raise SpecError([unknown_name("MODEL", name, model_names())])
    return architecture_from_config(read_json(path), path.name)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object a JSON file holds.

    Raises
    ------
    SpecError
        If the file is missing, too large, not text, not JSON or not an object.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError([Problem("file", path, f"not JSON: {error}")]) from error
    if not isinstance(content, dict):
        raise SpecError([Problem("file", path, "not a JSON object")])
    return content
