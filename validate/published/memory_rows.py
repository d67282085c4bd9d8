"""Memory of published runs: predicted as what was measured, and whether runs fit at all."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from topologies.units import GIB
from validate.published.errors import Errors
from validate.published.predicted import Predicted, Quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from planner.plans import Plan
    from validate.published.row import Row

#: Which sum of the bill (:data:`models.memory_bill.SUMS`) is meant by the words of tables; the
#: first that fits. What says nothing of a tool is what such tables nearly always print: torch's own
#: peak of tensors.
KINDS = (
    (r"nvidia-smi|nvml|rocm-smi|device|hbm", "device"),
    (r"reserved|pool", "reserved"),
    (r"", "allocated"),
)


def memory_kind(row: Row) -> str:
    """Return which sum of the bill a row's memory is."""
    said = row.text("memory_kind").lower()
    return next(kind for words, kind in KINDS if re.search(words, said))


def predicted_memory(row: Row, plan: Plan) -> Predicted:
    """Return the bytes on the fullest rank, of the kind that a row states.

    Raises
    ------
    UnexpressedError
        If its number is none.
    """
    predicted = plan.memory_sums_bytes[memory_kind(row)]
    low, high = (bound / plan.memory_total_bytes for bound in plan.memory_interval_bytes)
    return Predicted(
        row=row,
        quantity=Quantity.MEMORY,
        measured=row.number("peak_memory") * GIB,
        layout=plan.layout,
        predicted=predicted,
        interval=(predicted * low, predicted * high),
        fits=plan.fits,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """How far predicted memory is off, and how often runs are wrongly said to fit or not.

    Parameters
    ----------
    found
        What is predicted of the memory of runs that state one.
    ran, ran_called_oom
        Runs that ran, and those of them that are said not to fit.
    oom, oom_called_fitting
        Runs that ran out of memory, and those of them that are said to fit.
    """

    found: tuple[Predicted, ...]
    ran: int
    ran_called_oom: int
    oom: int
    oom_called_fitting: int

    @classmethod
    def of(cls, found: Iterable[Predicted]) -> Memory:
        """Return it over some predictions; a run of several quantities counts once."""
        rows = list(found)
        ended = {id(each.row) for each in rows if each.quantity is Quantity.FITS}
        fits = {id(each.row): each.fits for each in rows if each.fits is not None}
        ran = [said for row, said in fits.items() if row not in ended]
        oom = [said for row, said in fits.items() if row in ended]
        return cls(
            found=tuple(each for each in rows if each.quantity is Quantity.MEMORY),
            ran=len(ran),
            ran_called_oom=ran.count(False),
            oom=len(oom),
            oom_called_fitting=oom.count(True),
        )

    def errors(self) -> Errors:
        """Return the errors of all memory that is stated."""
        return Errors.of(self.found)

    def by_kind(self) -> dict[str, Errors]:
        """Return the errors of each kind of figure."""
        return self._errors_by(memory_kind)

    def by_source(self) -> dict[str, Errors]:
        """Return the errors of each source."""
        return self._errors_by(lambda row: row.text("source"))

    def named_errors(self) -> dict[str, Errors]:
        """Return them all by what people read; nothing where no memory is stated."""
        if not self.found:
            return {}
        named = {"memory": self.errors()}
        for errors in (self.by_kind(), self.by_source()):
            named |= {f"memory: {name}": each for name, each in errors.items()}
        return named

    def record(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {
            **self.errors().record(),
            "by_kind": {name: each.record() for name, each in self.by_kind().items()},
            "by_source": {name: each.record() for name, each in self.by_source().items()},
            "ran": self.ran,
            "ran_called_oom": self.ran_called_oom,
            "oom": self.oom,
            "oom_called_fitting": self.oom_called_fitting,
        }

    def __str__(self) -> str:
        """Return the counts as people read them."""
        return (
            f"Of {self.ran} runs that ran {self.ran_called_oom} are said not to fit; of {self.oom} "
            f"that ran out of memory {self.oom_called_fitting} are said to fit."
        )

    def _errors_by(self, key: Callable[[Row], str]) -> dict[str, Errors]:
        members: dict[str, list[Predicted]] = defaultdict(list)
        for each in self.found:
            members[key(each.row)].append(each)
        return {name: Errors.of(members[name]) for name in sorted(members)}
