"""Pins and bounds on the axes of a search: ``--tp 8``, ``--tp 4..8``, ``--zero 1,3``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.layout import AXES, SWITCHES
from models.named_axes import NAMED_AXES
from models.recompute_modules import NOTHING, RecomputeModules
from topologies.errors import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from models.layout import Ints
    from models.rules.rule import Mask

#: ``cp`` is no axis of its own, but people pin it.
BOUNDED_AXES = (*AXES, "cp")
LARGEST = 10_000_000
LONGEST_NUMBER = 12


@dataclass(frozen=True, slots=True)
class Bound:
    """Allowed values of one axis: some, or all of a range."""

    low: int
    high: int
    values: frozenset[int] | None = None

    def __str__(self) -> str:
        """Return the bound as users write it."""
        if self.values is None:
            return f"{self.low:d}..{self.high:d}"
        return ",".join(map(_label, sorted(self.values)))

    def allows(self, column: Ints) -> Mask:
        """Return which values of an array are allowed."""
        if self.values is not None:
            return np.isin(column, sorted(self.values))
        return (column >= self.low) & (column <= self.high)

    def choose(self, candidates: Iterable[int]) -> list[int]:
        """Return the values to try: the pinned ones, or the candidates within the range."""
        if self.values is not None:
            return sorted(self.values)
        inside = {value for value in candidates if self.low <= value <= self.high}
        return sorted(inside)

    def meet(self, other: Bound) -> Bound | None:
        """Return what both bounds allow, or None if that is nothing."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        if low > high:
            return None
        pinned = [bound.values for bound in (self, other) if bound.values is not None]
        if not pinned:
            return Bound(low, high)
        values = frozenset(v for v in frozenset.intersection(*pinned) if low <= v <= high)
        return Bound(min(values), max(values), values) if values else None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of all axes; an axis that is not there is free."""

    axes: Mapping[str, Bound]

    def choose(self, axis: str, candidates: Iterable[int]) -> list[int]:
        """Return the values of an axis to try."""
        bound = self.axes.get(axis)
        return bound.choose(candidates) if bound else sorted(set(candidates))

    def allows(self, axis: str, column: Ints) -> Mask:
        """Return which values of an axis are allowed."""
        bound = self.axes.get(axis)
        return bound.allows(column) if bound else np.ones(column.shape, dtype=np.bool_)

    def narrowed(self, own: Mapping[str, Bound]) -> Bounds | None:
        """Return the bounds with others on top, or None where the two exclude each other."""
        axes = dict(self.axes)
        for axis, bound in own.items():
            both = axes[axis].meet(bound) if axis in axes else bound
            if both is None:
                return None
            axes[axis] = both
        return Bounds(axes)

    def __contains__(self, axis: str) -> bool:
        """Return whether an axis is bounded."""
        return axis in self.axes

    @classmethod
    def parse(cls, given: Mapping[str, object]) -> Bounds:
        """Return the bounds of flags or keyword arguments; ``None`` leaves an axis free.

        Raises
        ------
        SpecError
            With every axis that does not exist and every value that cannot be.
        """
        axes: dict[str, Bound] = {}
        found: list[Problem] = []
        for axis, value in _spread(given).items():
            if value is None:
                continue
            if axis not in BOUNDED_AXES:
                found.append(
                    Problem(
                        flag(str(axis)), value, f"no such axis; axes are {', '.join(BOUNDED_AXES)}"
                    )
                )
                continue
            try:
                axes[axis] = parse_bound(axis, value)
            except SpecError as error:
                found += error.problems
        if found:
            raise SpecError(found)
        return cls(axes)


def _spread(given: Mapping[str, object]) -> dict[str, object]:
    """Return axes with what tables of plans write as one: ``selective:mlp``, ``full:29``."""
    found, said = dict(given), str(given.get("recompute", ""))
    mode, colon, rest = said.partition(":")
    if colon:
        found["recompute"] = mode
        found.setdefault("recompute_layers" if rest.isdecimal() else "recompute_modules", rest)
    return found


def parse_bound(axis: str, value: object) -> Bound:
    """Return one bound.

    Raises
    ------
    SpecError
        If `value` is not a value, a list or a range of the axis.

    Examples
    --------
    >>> parse_bound("tp", "4..8")
    Bound(low=4, high=8, values=None)
    >>> parse_bound("schedule", "1f1b").values
    frozenset({<Schedule.ONE_F_ONE_B: 1>})
    """
    if axis == "recompute_modules":
        return _parse_modules(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        text = ",".join(map(str, value))
    else:
        text = str(int(value) if isinstance(value, (bool, int)) else value).strip().lower()
    low, dots, high = text.partition("..")
    if dots:
        bottom, top = _value(axis, low, value), _value(axis, high, value)
        if bottom > top:
            mend = f"a range goes up: {high}..{low}"
            raise SpecError([Problem(flag(axis), text, mend)])
        return Bound(bottom, top)
    values = frozenset(_value(axis, part, value) for part in text.split(","))
    return Bound(min(values), max(values), values)


def _parse_modules(value: object) -> Bound:
    """Return the bound of one set of modules: names, joined by ``+`` or ``,`` or in a list."""
    if isinstance(value, int) and 0 < value <= ~NOTHING:
        modules = RecomputeModules(value)
        return Bound(modules, modules, frozenset({modules}))
    if isinstance(value, (list, tuple, set, frozenset)):
        text = "+".join(map(str, value))
    else:
        text = str(value)
    try:
        modules = RecomputeModules.from_label(text.lower())
    except KeyError:
        known = ", ".join(RecomputeModules.labels())
        mend = f"one or more of {known}, joined by commas"
        raise SpecError([Problem(flag("recompute_modules"), value, mend)]) from None
    return Bound(modules, modules, frozenset({modules}))


def flag(axis: str) -> str:
    """Return the command-line flag of an axis."""
    return f"--{axis.replace('_', '-')}"


def _value(axis: str, text: str, given: object) -> int:
    if axis in NAMED_AXES:
        labels = NAMED_AXES[axis].labels()
        if text.replace("_", "-") not in labels and not _is_code(text, len(labels)):
            raise SpecError([Problem(flag(axis), given, f"one of {', '.join(labels)}")])
        if _is_code(text, len(labels)):
            return NAMED_AXES[axis](int(text))
        return NAMED_AXES[axis].from_label(text.replace("_", "-"))
    switch = axis in SWITCHES
    text = _TRUTH.get(text, text) if switch else text
    low, high = (0, 1) if switch else _RANGE.get(axis, (1, LARGEST))
    if not _is_number(text) or not low <= int(text) <= high:
        whole = f"a whole number from {low} to {high}, a list (2,4) or a range (2..8)"
        raise SpecError([Problem(flag(axis), given, "on or off" if switch else whole)])
    return bool(int(text)) if switch else int(text)


def _label(value: int) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return getattr(value, "label", str(value))


def _is_code(text: str, many: int) -> bool:
    return _is_number(text) and int(text) < many


def _is_number(text: str) -> bool:
    """Whether a text is a whole number of a length worth reading."""
    return text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER


_TRUTH = {"true": "1", "false": "0", "on": "1", "off": "0"}
_RANGE = {"zero": (0, 3), "recompute_layers": (0, LARGEST)}
