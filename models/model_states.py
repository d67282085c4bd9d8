"""What is kept of each parameter: bf16 weights, gradients, and what the optimizer needs.

The defaults are those of the ZeRO paper (arXiv:1910.02054 section 3) with gradients in fp32: bf16
parameters (2 bytes), fp32 gradients that accumulate micro-batches and are reduced (4), fp32 master
weights and two Adam moments (12).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from models.dtype import BF16, FP32
from topologies.errors import Problem
from topologies.schema import AmountSchema, Strict, checked, optional
from topologies.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from topologies.figure import Figure

FILE = Path(__file__).parent / "data" / "optimizers.yaml"
#: Bytes of an element of a gradient that is sent.
GRADIENT_DTYPES = {"fp32": FP32, "bf16": BF16}
#: The same of one that is kept. With both, micro-batches are summed in fp32 beside the gradients of
#: the last one (deepspeed 0.9.0 runtime/bf16_optimizer.py, ``fp32_groups_gradients_flat``).
KEPT_GRADIENTS = {**GRADIENT_DTYPES, "bf16+fp32": BF16 + FP32}


class _OptimizerSchema(Strict):
    master_bytes: AmountSchema
    moment_bytes: AmountSchema
    end_moment_bytes: AmountSchema | None = None
    iterations: AmountSchema | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """What an optimizer keeps of a parameter, in bytes.

    Parameters
    ----------
    master_bytes
        The weight as it is updated; 0 where that is the one passes compute with.
    moment_bytes
        All moments together, with their scales.
    end_moment_bytes
        The same of the embedding and the head, where it differs.
    iterations
        By which it orthogonalises every matrix of a layer; none if it works by elements.
    """

    master_bytes: Figure
    moment_bytes: Figure
    end_moment_bytes: Figure | None = None
    iterations: Figure | None = None

    def figures(self) -> dict[str, Figure]:
        """Return the figures it has, by name."""
        known = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: figure for name, figure in known.items() if figure is not None}


@cache
def optimizers() -> dict[str, Optimizer]:
    """Return all optimizers by name."""
    found = {}
    for name, entry in read_yaml(FILE).items():
        kept = checked(_OptimizerSchema, entry, name)
        found[name] = Optimizer(
            master_bytes=kept.master_bytes.si(),
            moment_bytes=kept.moment_bytes.si(),
            end_moment_bytes=optional(kept.end_moment_bytes),
            iterations=optional(kept.iterations),
        )
    return found


@dataclass(frozen=True, slots=True)
class ModelStates:
    """The recipe by which parameters are kept, reduced and updated.

    Parameters
    ----------
    optimizer
        A name of :func:`optimizers`.
    gradients
        Dtype in which gradients are kept and micro-batches summed: ``fp32``, ``bf16``, or
        ``bf16+fp32`` for both, summed in the latter.
    reduce
        Dtype in which they are sent.
    """

    optimizer: str = "adamw"
    gradients: str = "fp32"
    reduce: str = "fp32"

    @property
    def parameter_bytes(self) -> float:
        """Bytes of a parameter that passes compute with, kept and gathered."""
        return BF16

    @property
    def gradient_bytes(self) -> float:
        """Bytes of a gradient as it is kept and summed over micro-batches."""
        return KEPT_GRADIENTS[self.gradients]

    @property
    def reduced_bytes(self) -> float:
        """Bytes of a gradient as it is sent."""
        return GRADIENT_DTYPES[self.reduce]

    @property
    def optimizer_bytes(self) -> float:
        """Bytes of a parameter's master weight and moments."""
        kept = optimizers()[self.optimizer]
        return kept.master_bytes.value + kept.moment_bytes.value

    @property
    def has_masters(self) -> bool:
        """Whether the optimizer keeps weights of its own."""
        return optimizers()[self.optimizer].master_bytes.value > 0

    @property
    def traffic_bytes(self) -> float:
        """Bytes of memory per parameter that the optimizer's step moves.

        Master weight and moments read and written, the gradient read, the parameter written; read
        as well where it has no master weight.
        """
        parameter = self.parameter_bytes * (1.0 if self.has_masters else 2.0)
        return 2.0 * self.optimizer_bytes + self.gradient_bytes + parameter

    @property
    def end_bytes(self) -> float:
        """Bytes that the optimizer keeps more of a parameter of the embedding or the head."""
        kept = optimizers()[self.optimizer]
        if kept.end_moment_bytes is None:
            return 0.0
        return kept.end_moment_bytes.value - kept.moment_bytes.value

    @property
    def iterations(self) -> float:
        """Iterations by which matrices of layers are orthogonalised; 0 for none."""
        found = optimizers()[self.optimizer].iterations
        return 0.0 if found is None else found.value

    def problems(self) -> list[Problem]:
        """Return which names nobody knows."""
        known = {
            "optimizer": tuple(optimizers()),
            "gradients": tuple(KEPT_GRADIENTS),
            "reduce": tuple(GRADIENT_DTYPES),
        }
        return [
            Problem(f"--{field}", getattr(self, field), f"one of {', '.join(names)}")
            for field, names in known.items()
            if getattr(self, field) not in names
        ]

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Yield every figure of the optimizer with its name."""
        for name, figure in optimizers()[self.optimizer].figures().items():
            yield f"{self.optimizer}.{name}", figure

    def __str__(self) -> str:
        """Return the recipe as people read it.

        >>> str(ModelStates("adamw-8bit", reduce="bf16"))
        'adamw-8bit, gradients fp32, reduced in bf16'
        """
        return f"{self.optimizer}, gradients {self.gradients}, reduced in {self.reduce}"


#: What nothing else was asked for.
USUAL_STATES = ModelStates()
