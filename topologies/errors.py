"""The errors a user can cause, and how they read.

::

    MeshwrightError            catch this to catch everything a user can mend
    ├── SpecError              a model, cluster, workload or layout that cannot be what was meant
    └── ScheduleError          an order of pipeline passes that never ends (models.simulation)

A check never stops at the first problem: it collects every :class:`Problem` it finds and raises
once, so that a user mends an input in one go.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_Result = TypeVar("_Result")


#: Longer names are cut in messages.
LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an input.

    Parameters
    ----------
    field
        Where it is: a flag, a key of a file, an axis of a layout.
    value
        What was given.
    mend
        What would be right: a sentence that starts with a small letter.
    """

    field: str
    value: object
    mend: str

    def __str__(self) -> str:
        """Return ``field = value: mend``."""
        line = f"{self.field} = {self.value}: {self.mend}"
        return "".join(letter if letter.isprintable() else "?" for letter in line)


class MeshwrightError(Exception):
    """Base of every error that names its mend; the command line ends with exit code 2."""


class SpecError(MeshwrightError):
    """An input that cannot be what the user meant; carries every problem found.

    >>> print(SpecError([Problem("--tp", 3, "use 1, 2, 4 or 8")]))
    --tp = 3: use 1, 2, 4 or 8
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Collected:
    """Problems of several steps, each tried whatever became of the others.

    >>> found = Collected()
    >>> found.attempt(lambda: raise_if_any([Problem("--tp", 3, "use 1 or 2")]))
    >>> [str(problem) for problem in found.problems]
    ['--tp = 3: use 1 or 2']
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def attempt(self, step: Callable[[], _Result]) -> _Result:
        """Return what a step returns; where it fails, note why and return None for the moment.

        A caller calls :meth:`raise_if_any` before it uses what came back.
        """
        try:
            return step()
        except SpecError as error:
            self.problems += error.problems
            return None  # type: ignore[return-value]

    def raise_if_any(self) -> None:
        """Raise one error with every problem noted, each once.

        Raises
        ------
        SpecError
            If there is any.
        """
        raise_if_any(list({str(problem): problem for problem in self.problems}.values()))


def raise_if_any(problems: Sequence[Problem]) -> None:
    """Raise one :class:`SpecError` with all `problems`, or return if there is none.

    Raises
    ------
    SpecError
        If `problems` is not empty.
    """
    if problems:
        raise SpecError(problems)


def unknown_name(
    field: str, name: str, known: Sequence[str], missing: str = "not in the catalogue"
) -> Problem:
    """Return the problem of a name that nobody knows, offering the nearest ones.

    >>> unknown_name("--cluster", "h100_dgx", ["h100-dgx", "a100-dgx", "tpu-v5p"]).mend
    'not in the catalogue; did you mean h100-dgx or a100-dgx?'
    """
    name = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
    near = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    if near:
        return Problem(field, name, f"{missing}; did you mean {' or '.join(near)}?")
    return Problem(field, name, f"{missing}; known are {', '.join(known)}")
