"""Fields of one config, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.architecture.mlp import ACTIVATIONS
from topologies.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.hf_config.asked import Asked

#: Larger than any model anyone has trained; a slip of the keyboard otherwise.
LARGEST_FIELD = 10_000_000
LARGEST_LAYERS = 10_000
#: What configs call their number of layers.
LAYERS = ("num_hidden_layers", "n_layer")
#: A yes or no that a family fixes, or a field that says it with what it is where absent.
Flag = bool | tuple[str, bool]


@dataclass(slots=True)
class ConfigReader:
    """Reads fields of one config and collects what is wrong with them, each once."""

    config: Asked
    where: str
    problems: list[Problem] = field(default_factory=list)

    def whole(
        self,
        *names: str,
        default: int | None = None,
        least: int = 1,
        most: int = LARGEST_FIELD,
    ) -> int:
        """Return the first of `names` that is there as a whole number from `least` to `most`.

        Several names of one field that say different things are refused.
        """
        given = [name for name in names if self.config.get(name) is not None]
        if not given:
            if default is None:
                self._note(names[0], "missing", "this field is required")
                return max(least, 1)
            return default
        self.config.answered(*names)
        value = self.config[given[0]]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.refuse(given[0], f"a whole number from {least} to {most}")
            return max(least, 1)
        for other in given[1:]:
            if self.config[other] != value:
                self.refuse(other, f"the same as {given[0]} = {value}, or left out")
        return value

    def share(self, *names: str, default: object) -> float:
        """Return the first of `names` that is there, or `default`, as a number of (0, 1]."""
        name = next((name for name in names if self.config.get(name) is not None), names[0])
        value = self.config.get(name)
        if value is None:
            value = default
        else:
            self.config.answered(*names)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            self.refuse(name, "a number above 0 and up to 1")
            return 1.0
        return float(value)

    def optional(self, *names: str) -> int | None:
        """Return a field as a positive whole number, or None where it is null or absent."""
        there = any(self.config.get(name) is not None for name in names)
        return self.whole(*names) if there else None

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a yes-or-no field."""
        value = self.config.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(name, "true or false")
            return default
        return value

    def holds(self, flag: Flag) -> bool:
        """Return what a flag of a family says here."""
        return flag if isinstance(flag, bool) else self.flag(flag[0], default=flag[1])

    def activation(self, *names: str, default: str) -> str:
        """Return the first of `names` that is there as the name of an activation."""
        name = next((name for name in names if self.config.get(name)), None)
        if name is None:
            return default
        self.config.answered(*names)
        value = self.config[name]
        if not isinstance(value, str) or value not in ACTIVATIONS:
            self.refuse(name, f"one of {', '.join(sorted(ACTIVATIONS))}")
            return default
        return value

    def kinds(self, name: str, layers: int, known: Mapping[str, str]) -> list[str]:
        """Return the kinds of all layers out of a list of names.

        Parameters
        ----------
        name
            The field.
        layers
            Layers it must describe.
        known
            Each name that it may hold, and the kind it stands for.
        """
        value = self.config.get(name)
        if not self.sound(*LAYERS):
            return [next(iter(known.values()))] * layers
        whole = isinstance(value, list) and len(value) == layers
        if not whole or not all(isinstance(kind, str) and kind in known for kind in value or ()):
            self.refuse(name, f"a list of {layers} names out of {sorted(known)}")
            return [next(iter(known.values()))] * layers
        return [known[kind] for kind in value or ()]

    def indices(self, name: str, layers: int) -> frozenset[int]:
        """Return a list of positions of layers, counted from 0; empty where null or absent."""
        value = self.config.get(name)
        if value is None:
            return frozenset()
        whole = isinstance(value, list) and all(type(index) is int for index in value)
        if not whole or not all(0 <= index < layers for index in value):
            self.refuse(name, f"a list of layers from 0 to {layers - 1}")
            return frozenset()
        return frozenset(value)

    def fixed(self, values: Mapping[str, object]) -> None:
        """Refuse fields that are there with another value than the only one that is read."""
        for name, only in values.items():
            given = self.config.get(name)
            if given is not None and given != only:
                self.refuse(name, f"read only where it is {str(only).lower()}")

    def no_slips(self) -> None:
        """Refuse fields that look like one that was asked for and is not there.

        What is said of the absent one is then the same mistake, said twice.
        """
        for name, meant in self.config.slips().items():
            absent = f"{self.where}: {meant}"
            self.problems = [problem for problem in self.problems if problem.field != absent]
            self.refuse(name, f"no field that is read; did you mean {meant}?")

    def sound(self, *names: str) -> bool:
        """Return whether no problem was found with any of these fields."""
        bad = {problem.field for problem in self.problems}
        return not any(f"{self.where}: {name}" in bad for name in names)

    def refuse(self, name: str, mend: str, shown: object = None) -> None:
        """Record that the value of a field cannot be right; `shown` stands for a long one."""
        self._note(name, self.config.get(name) if shown is None else shown, mend)

    def _note(self, name: str, value: object, mend: str) -> None:
        if self.sound(name):
            self.problems.append(Problem(f"{self.where}: {name}", value, mend))
