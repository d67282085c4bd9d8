"""Whether training with a cut sequence is the training it was without."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from validate import processes, training
from validate.training import Learnt, Lesson

if TYPE_CHECKING:
    from collections.abc import Callable

#: Largest relative error of the first gradients: rounding of one step.
GRADIENT_TOLERANCES = {"f64": 1e-14, "f32": 5e-6, "bf16": 2e-2, "f16": 5e-3}
#: Largest relative difference of a step's loss: rounding that steps add to. Of 16 bits it is drift,
#: reported, and bounded by what a wrong gradient would exceed.
LOSS_TOLERANCES = {"f64": 1e-11, "f32": 1e-4, "bf16": 2e-2, "f16": 2e-2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A training, cut one way, left at a checkpoint and gone on with cut another way.

    Parameters
    ----------
    dtype, steps
        Of what is trained.
    first, second
        Ulysses and ring ranks before and after the checkpoint.
    gradient_error
        Relative error of the first step's gradients against one rank's.
    loss_error
        Largest relative difference of a step's loss from one rank's.
    last_loss
        Of the last step, and of one rank's.
    resumed_exactly
        Whether the weights after the checkpoint are those before it, to the last bit.
    """

    dtype: str
    steps: int
    first: tuple[int, int]
    second: tuple[int, int]
    gradient_error: float
    loss_error: float
    last_loss: tuple[float, float]
    resumed_exactly: bool

    @property
    def agrees(self) -> bool:
        """Whether it is the same training but for rounding."""
        return (
            self.resumed_exactly
            and self.gradient_error <= GRADIENT_TOLERANCES[self.dtype]
            and self.loss_error <= LOSS_TOLERANCES[self.dtype]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return documented JSON values."""
        return {
            "dtype": self.dtype,
            "steps": self.steps,
            "first": dict(zip(("ulysses", "ring"), self.first, strict=True)),
            "second": dict(zip(("ulysses", "ring"), self.second, strict=True)),
            "gradient_error": self.gradient_error,
            "loss_error": self.loss_error,
            "last_loss": self.last_loss[0],
            "last_loss_of_one_rank": self.last_loss[1],
            "resumed_exactly": self.resumed_exactly,
            "agrees": self.agrees,
        }


def compare(
    dtype: str,
    world: int,
    steps: int,
    *,
    timeout_s: float,
    count: Callable[[int], None] = lambda _: None,
) -> Compared:
    """Train on one rank, and in two halves on others that cut the sequence differently.

    Parameters
    ----------
    dtype
        One of :data:`validate.cases.DTYPES`.
    world
        Ranks of the first half, 2 or more.
    steps
        Of the whole training, 2 or more.
    timeout_s
        How long a rank may be silent.
    count
        Called with how many steps are done.

    Raises
    ------
    RankError
        If a rank dies, fails or hangs.
    """
    first = (2, world // 2) if world >= 4 else (1, world)
    second = (world // 2, 1) if world >= 4 else (world, 1)
    done = 0

    def run(lesson: Lesson) -> Learnt:
        nonlocal done
        before = done

        def heard(rank: int, step: object) -> None:
            nonlocal done
            if rank == 0 and isinstance(step, int):
                done += 1
                count(done)

        results: list[Learnt] = processes.run(
            lesson.ulysses * lesson.ring,
            training.train,
            lesson,
            timeout_s=timeout_s,
            progress=heard,
        )
        done = before + lesson.steps
        return results[0]

    half = steps // 2
    with tempfile.TemporaryDirectory(prefix="meshwright-") as folder:
        alone = run(Lesson(ulysses=1, ring=1, dtype=dtype, steps=steps))
        before = run(Lesson(ulysses=first[0], ring=first[1], dtype=dtype, steps=half, into=folder))
        after = run(
            Lesson(ulysses=second[0], ring=second[1], dtype=dtype, steps=steps - half, after=folder)
        )
    losses, exact = np.array(before.losses + after.losses), np.array(alone.losses)
    wrong = np.linalg.norm(before.gradients - alone.gradients)
    return Compared(
        dtype=dtype,
        steps=steps,
        first=first,
        second=second,
        gradient_error=float(wrong / np.linalg.norm(alone.gradients)),
        loss_error=float(np.max(np.abs(losses - exact) / exact)),
        last_loss=(float(losses[-1]), float(exact[-1])),
        resumed_exactly=after.started == before.ended,
    )
