"""What products of the layers run in: 16 bits, or fewer with scales and the casts to get there.

Casts are counted as kernels of their own, compiled to as few passes over memory as their scales
allow; frameworks fuse some of them with the norm or activation before. Weights are quantised once
a step, or with every micro-batch where ZeRO-3 gathers them anew or no form of them is kept
(:mod:`models.data_parallel`). Of what tensor parallelism sends, fused kernels gather inputs of
products quantised; what is reduced stays in bf16.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from models.dtype import BF16
from topologies.catalogue import accelerator_names, load_accelerator
from topologies.errors import Problem, SpecError, unknown_name
from topologies.schema import AmountSchema, Strict, checked
from topologies.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from topologies.accelerator import Accelerator
    from topologies.figure import Figure

FILE = Path(__file__).parent / "data" / "precisions.yaml"
USUAL = "bf16"
#: Peaks of data sheets, from the slowest to the fastest.
PEAKS = ("bf16", "fp8", "fp4")


class _PrecisionSchema(Strict):
    title: str
    forward: str
    input_gradient: str
    weight_gradient: str
    needs: str
    unquantised: list[str]
    keeps_quantised: bool
    sends_quantised: bool
    vendors: list[str] = Field(default_factory=list)
    operand_bytes: AmountSchema
    scale_bytes: AmountSchema
    amax_bytes: AmountSchema
    forms: AmountSchema
    cast_kernels: AmountSchema
    gathered_bytes: AmountSchema
    kept_bytes: AmountSchema


#: Figures of a precision; the others are names and choices.
FIGURES = tuple(
    name
    for name, field in _PrecisionSchema.model_fields.items()
    if field.annotation is AmountSchema
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """What products of layers run in, and what that costs beside them; bytes are of one element.

    Parameters
    ----------
    name, title
        What users ask for, and what it is.
    forward, input_gradient, weight_gradient
        Dense peak that the three products of a matrix run at: ``bf16``, ``fp8`` or ``fp4``.
    needs, vendors
        Peak that a device's data sheet must have; makers whose devices have it, none for all.
    unquantised
        Products and ends of the model, by the inventory's names, that stay in bf16.
    keeps_quantised
        Whether fused kernels keep a product's input quantised for the backward pass, and gather it
        so over tensor-parallel ranks.
    sends_quantised
        Whether tokens travel to experts, and gradients of what these made of them, quantised.
    operand_bytes, scale_bytes
        An operand of a product, and its share of scales.
    amax_bytes
        Read before a cast to find its scale.
    forms
        How often a cast tensor is written: as it is, and transposed.
    cast_kernels
        Kernels that do it.
    gathered_bytes
        What ZeRO sends and shards of a layer's parameter.
    kept_bytes
        What passes hold of it, all forms together.
    """

    name: str
    title: str
    forward: str
    input_gradient: str
    weight_gradient: str
    needs: str
    vendors: tuple[str, ...]
    unquantised: tuple[str, ...]
    keeps_quantised: bool
    sends_quantised: bool
    operand_bytes: Figure
    scale_bytes: Figure
    amax_bytes: Figure
    forms: Figure
    cast_kernels: Figure
    gathered_bytes: Figure
    kept_bytes: Figure

    def of_product(self, name: str) -> Precision:
        """Return the precision that a product of the inventory runs in."""
        return usual_precision() if name in self.unquantised else self

    @property
    def element_bytes(self) -> float:
        """Bytes of an operand with its scales."""
        return self.operand_bytes.value + self.scale_bytes.value

    def bytes_at(self, peak: str) -> float:
        """Return bytes of an operand of a product that runs at a dense peak."""
        return BF16 if peak == USUAL else self.element_bytes

    @property
    def quantised(self) -> bool:
        """Whether tensors are cast before products."""
        return self.forms.value > 0

    @property
    def gathers_quantised(self) -> bool:
        """Whether ZeRO sends weights quantised."""
        return self.gathered_bytes.value < BF16

    @property
    def cast_bytes(self) -> float:
        """Bytes moved to quantise an element: read, once more for its scale, and written."""
        if not self.quantised:
            return 0.0
        return self.amax_bytes.value + BF16 + self.forms.value * self.element_bytes

    @property
    def input_bytes(self) -> float:
        """Bytes that fused kernels keep and gather of a product's input."""
        return self.element_bytes if self.keeps_quantised else BF16

    @property
    def dispatched_bytes(self) -> float:
        """Bytes of an element on its way to experts."""
        return self.element_bytes if self.sends_quantised else BF16

    @property
    def peak(self) -> str:
        """Peak of its fastest products: what MFU is a share of."""
        return max((self.forward, self.input_gradient, self.weight_gradient), key=PEAKS.index)

    def runs_on(self, accelerator: Accelerator) -> bool:
        """Return whether a device has it."""
        known = accelerator.peaks()
        made = not self.vendors or accelerator.vendor in self.vendors
        return made and self.needs in known and self.peak in known

    def problems(self, accelerator: Accelerator) -> list[Problem]:
        """Return why a device does not run it, and which of the catalogue do."""
        if self.runs_on(accelerator):
            return []
        others = (load_accelerator(name) for name in accelerator_names())
        have = ", ".join(other.name for other in others if self.runs_on(other))
        makers = f" by {' or '.join(self.vendors)}" if self.vendors else ""
        mend = (
            f"{accelerator.title} does not run it: it takes a device{makers} with a dense "
            f"{self.needs} peak, such as {have}"
        )
        return [Problem("--precision", self.name, mend)]

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Yield every figure with its name."""
        for name in FIGURES:
            yield f"{self.name}.{name}", getattr(self, name)

    def __str__(self) -> str:
        """Return its name."""
        return self.name


@cache
def precisions() -> dict[str, Precision]:
    """Return all precisions by name."""
    found = {}
    for name, entry in read_yaml(FILE).items():
        read = checked(_PrecisionSchema, entry, name)
        found[name] = Precision(
            name=name,
            title=read.title,
            forward=read.forward,
            input_gradient=read.input_gradient,
            weight_gradient=read.weight_gradient,
            needs=read.needs,
            vendors=tuple(read.vendors),
            unquantised=tuple(read.unquantised),
            keeps_quantised=read.keeps_quantised,
            sends_quantised=read.sends_quantised,
            **{figure: getattr(read, figure).si() for figure in FIGURES},
        )
    return found


def usual_precision() -> Precision:
    """Return what nothing else was asked for: bf16."""
    return precisions()[USUAL]


def load_precision(name: str) -> Precision:
    """Return a precision by its name.

    Raises
    ------
    SpecError
        If there is no such precision.
    """
    if name not in precisions():
        raise SpecError([unknown_name("--precision", name, tuple(precisions()))])
    return precisions()[name]
