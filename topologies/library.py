"""Collective libraries: which algorithms each has, and how it chooses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from pathlib import Path

from pydantic import Field

from topologies.collective import Collective
from topologies.schema import Strict, checked
from topologies.yaml_file import read_yaml

FILE = Path(__file__).parent / "data" / "libraries.yaml"


class Algorithm(StrEnum):
    """How a collective moves its bytes."""

    RING = "ring"
    TREE = "tree"
    HALVING_DOUBLING = "halving_doubling"
    HIERARCHICAL = "hierarchical"
    NVLS = "nvls"
    NVLS_TREE = "nvls_tree"
    TORUS = "torus"
    PAIRWISE = "pairwise"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Library:
    """One vendor's collective library.

    Parameters
    ----------
    name
        ``nccl``, ``rccl`` and so on.
    algorithms
        For each collective the algorithms it may choose from.
    generation
        Row of NCCL's tuning tables; empty where the library takes what is fastest.
    """

    name: str
    algorithms: tuple[tuple[Collective, tuple[Algorithm, ...]], ...]
    generation: str = ""

    def may(self, collective: Collective) -> tuple[Algorithm, ...]:
        """Return the algorithms of a collective."""
        return dict(self.algorithms)[collective]

    def without(self, *algorithms: Algorithm) -> Library:
        """Return the library as it is where some algorithms cannot run."""
        left = tuple(
            (collective, tuple(found for found in known if found not in algorithms))
            for collective, known in self.algorithms
        )
        return replace(self, algorithms=left)


class _LibrarySchema(Strict, strict=False):
    title: str
    source: str
    vendors: list[str]
    algorithms: dict[Collective, list[Algorithm]]
    generations: dict[str, list[str]] = Field(default_factory=dict)


@cache
def load_library(vendor: str, accelerator: str) -> Library:
    """Return the library of an accelerator.

    Raises
    ------
    KeyError
        If ``data/libraries.yaml`` has none for the vendor: a gap in the catalogue.
    """
    for name, entry in _schemas().items():
        if vendor in entry.vendors:
            return Library(
                name=name,
                algorithms=tuple((key, tuple(value)) for key, value in entry.algorithms.items()),
                generation=_generation(entry, accelerator),
            )
    raise KeyError(vendor)


def _generation(entry: _LibrarySchema, accelerator: str) -> str:
    for generation, names in entry.generations.items():
        if accelerator in names:
            return generation
    return ""


@cache
def _schemas() -> dict[str, _LibrarySchema]:
    content = read_yaml(FILE)
    return {
        name: checked(_LibrarySchema, content[name], f"{FILE.name}: {name}") for name in content
    }
