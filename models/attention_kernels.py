"""Generations of flash attention, and how much slower than a device's best each runs there.

A profile's attention figures are those of the best kernels its device has. Software that runs an
older generation takes longer: by architecture, forward and backward, for each pair of a query and
a key; what rows and heads cost besides is alike (:mod:`models.compute`). Attention of separate
products and a softmax needs no such figure: it is matrix products and memory traffic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from topologies.errors import Problem, SpecError
from topologies.schema import FigureSchema, Strict, checked
from topologies.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from topologies.figure import Figure

FILE = Path(__file__).parent / "data" / "attention_kernels.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionKernel:
    """One generation.

    Parameters
    ----------
    name, title
        In files, and what people read.
    forward, backward
        By architecture, times as long as the best generation takes for a pair of a query and a
        key; none where it does not run.
    expands_kv_gradients
        Whether backward it holds gradients of keys and values for each query head, until those of
        a group are added up.
    """

    name: str
    title: str
    expands_kv_gradients: bool
    # Mappings have no hash: generations are told apart by their names.
    forward: Mapping[str, Figure] = field(hash=False)
    backward: Mapping[str, Figure] = field(hash=False)

    def slowdown(self, accelerator: str, *, backward: bool) -> float:
        """Return how many times as long as an accelerator's best kernel it takes for a pair.

        Raises
        ------
        SpecError
            If it does not run there.
        """
        architecture = architecture_of(accelerator)
        ratios = self.backward if backward else self.forward
        if architecture is None or architecture not in ratios:
            runs = ", ".join(sorted(ratios))
            where = f"{accelerator} ({architecture or 'of no known architecture'})"
            mend = f"{self.title} does not run on {where}: it does on {runs}"
            raise SpecError([Problem("attention kernel", self.name, mend)])
        return ratios[architecture].value


class KernelSchema(Strict):
    """One generation of the file."""

    title: str
    expands_kv_gradients: bool = False
    forward: dict[str, FigureSchema]
    backward: dict[str, FigureSchema]

    def build(self, name: str) -> AttentionKernel:
        """Return the generation."""
        return AttentionKernel(
            name=name,
            title=self.title,
            expands_kv_gradients=self.expands_kv_gradients,
            forward={key: figure.si() for key, figure in self.forward.items()},
            backward={key: figure.si() for key, figure in self.backward.items()},
        )


class KernelsSchema(Strict):
    """The whole file."""

    schema_version: Literal["meshwright-attention-kernels/1"]
    architectures: dict[str, list[str]]
    kernels: dict[str, KernelSchema]


@cache
def attention_kernels() -> dict[str, AttentionKernel]:
    """Return every generation by name.

    Examples
    --------
    >>> kernels = attention_kernels()
    >>> kernels["fa3"].slowdown("h100-sxm", backward=False)
    1.0
    >>> kernels["fa2"].slowdown("h100-sxm", backward=False) > 1.5
    True
    """
    return {name: schema.build(name) for name, schema in _content().kernels.items()}


def architecture_of(accelerator: str) -> str | None:
    """Return the architecture of a catalogue accelerator; None if no kernel was measured on it."""
    found = (name for name, members in _content().architectures.items() if accelerator in members)
    return next(found, None)


def best_kernel(accelerator: str) -> str | None:
    """Return the name of the best generation on an accelerator; None where none is known.

    >>> best_kernel("a100-sxm-80gb"), best_kernel("gh200"), best_kernel("tpu-v5p")
    ('fa2', 'fa3', None)
    """
    architecture = architecture_of(accelerator)
    if architecture is None:
        return None
    slower = {
        name: kernel.forward[architecture].value * kernel.backward[architecture].value
        for name, kernel in attention_kernels().items()
        if architecture in kernel.forward
    }
    return min(slower, key=lambda name: slower[name])


@cache
def _content() -> KernelsSchema:
    return checked(KernelsSchema, read_yaml(FILE), FILE.name)
