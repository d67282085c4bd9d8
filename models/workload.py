"""What is to be done: how long, how many, in which precision."""

from __future__ import annotations

import re
from dataclasses import dataclass

from models.dtype import FP32
from models.model_states import USUAL_STATES, ModelStates
from models.precision import USUAL, Precision, load_precision, precisions
from models.routing import BALANCED, Routing
from models.software import USUAL as USUAL_SOFTWARE
from models.software import Software, load_software, softwares
from topologies.errors import Problem, SpecError, raise_if_any

#: Binary multiples, as everyone uses them for token counts: 256k = 262,144.
MULTIPLES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
LONGEST_SEQUENCE = 2**30
LARGEST_BATCH = 2**24


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One training job's step.

    Parameters
    ----------
    seq_len
        Tokens of one whole sequence.
    global_batch
        Sequences per optimizer step.
    precision
        Name of what the layers' products run in, one of :func:`~models.precision.precisions`.
    states
        How parameters are kept, reduced and updated.
    routing
        How tokens spread over experts, where there are any.
    software
        Name of what runs it, one of :func:`~models.software.softwares`.
    packed_len
        Tokens of each of the sequences packed into one of `seq_len`, which attend to themselves
        only; None where it is one. All are taken to be alike: where lengths vary, it is the length
        of the sequence that a token is in on average (the mean square over the mean).
    """

    seq_len: int
    global_batch: int
    precision: str = USUAL
    states: ModelStates = USUAL_STATES
    routing: Routing = BALANCED
    software: str = USUAL_SOFTWARE
    packed_len: int | None = None

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step."""
        return self.seq_len * self.global_batch

    @property
    def recipe(self) -> Precision:
        """What the layers' products run in."""
        return load_precision(self.precision)

    @property
    def runs_on(self) -> Software:
        """What runs it."""
        return load_software(self.software)

    @property
    def step_bytes(self) -> float:
        """Bytes of a parameter that is updated which are there during the optimizer's step alone.

        Its gradient in fp32, where software copies those that are kept in bf16, and what its update
        computes on the way.
        """
        copied = self.runs_on.copies_gradients and self.states.gradients == "bf16"
        return (FP32 if copied else 0.0) + self.runs_on.update_bytes

    def problems(self) -> list[Problem]:
        """Return what is wrong with the numbers."""
        found = []
        if not 1 <= self.seq_len <= LONGEST_SEQUENCE:
            mend = f"from 1 to {LONGEST_SEQUENCE} tokens, for example 256k"
            found.append(Problem("--seq-len", self.seq_len, mend))
        if not 1 <= self.global_batch <= LARGEST_BATCH:
            mend = f"from 1 to {LARGEST_BATCH} sequences per step"
            found.append(Problem("--global-batch", self.global_batch, mend))
        if self.packed_len is not None and not 1 <= self.packed_len <= self.seq_len:
            mend = f"at least 1 token, and no more than the {self.seq_len} of the whole sequence"
            found.append(Problem("--packed-len", self.packed_len, mend))
        if self.precision not in precisions():
            mend = f"one of {', '.join(precisions())}"
            found.append(Problem("--precision", self.precision, mend))
        if self.software not in softwares():
            mend = f"one of {', '.join(softwares())}"
            found.append(Problem("--software", self.software, mend))
        return found + self.states.problems() + self.routing.problems()

    def check(self) -> None:
        """Raise if the numbers cannot be meant.

        Raises
        ------
        SpecError
            With every problem found.
        """
        raise_if_any(self.problems())


def parse_count(text: str, field: str) -> int:
    """Return a whole number that may end in k, m or g (binary).

    Raises
    ------
    SpecError
        If `text` is no such number, or not above zero.

    Examples
    --------
    >>> parse_count("256k", "--seq-len")
    262144
    >>> parse_count("1m", "--seq-len")
    1048576
    """
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?)", text.strip().lower())
    value = int(match[1]) * MULTIPLES[match[2]] if match else 0
    if value < 1:
        mend = "a whole number above zero such as 8192, 256k or 1m (k = 1,024)"
        raise SpecError([Problem(field, text, mend)])
    return value


def format_count(count: int) -> str:
    """Return a token count the way people write it.

    >>> format_count(262144), format_count(1000)
    ('256k', '1000')
    """
    for suffix in ("m", "k"):
        if count % MULTIPLES[suffix] == 0:
            return f"{count // MULTIPLES[suffix]}{suffix}"
    return str(count)
