"""All predictions of some tables of published runs, and what is left out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from validate.published.asked import asked
from validate.published.parts import counted
from validate.published.predict import predict
from validate.published.predicted import Predicted, Quantity
from validate.published.standing import left_out_because

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from validate.published.row import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Predictions of the rows of some tables.

    Parameters
    ----------
    tables
        The tables, in the order given.
    predicted
        What is predicted of rows complete enough, in order: every quantity they measured.
    left_out
        Rows that say nothing about predictions, each with the reason, in order.
    """

    tables: tuple[Table, ...]
    predicted: tuple[Predicted, ...]
    left_out: tuple[Predicted, ...]

    @classmethod
    def of(
        cls, tables: Sequence[Table], grades: str, progress: Callable[[int], None] | None = None
    ) -> Accuracy:
        """Predict all rows of some grades, suspect ones left out.

        Parameters
        ----------
        tables
            What was published. All rows of a table count in which none has a grade.
        grades
            Letters of those that count.
        progress
            Called now and then with the number of rows done.
        """
        told = [
            (row, left_out_because(row, grades if table.graded else None))
            for table in tables
            for row in table.rows
        ]
        return cls(
            tables=tuple(tables),
            predicted=predict([row for row, reason in told if not reason], progress),
            left_out=tuple(
                Predicted(
                    row=row,
                    quantity=next(iter(asked(row)), Quantity.TIME),
                    skipped_because=f"left out: {reason}",
                )
                for row, reason in told
                if reason
            ),
        )

    @property
    def times(self) -> tuple[Predicted, ...]:
        """Return what is predicted of times, of every standing."""
        return self.of_quantity(Quantity.TIME)

    @property
    def counted(self) -> tuple[Predicted, ...]:
        """Return the times that the overall errors are of."""
        return tuple(counted(self.times))

    def of_quantity(self, quantity: Quantity) -> tuple[Predicted, ...]:
        """Return the predictions of one quantity, of every standing."""
        return tuple(each for each in self.predicted if each.quantity is quantity)
