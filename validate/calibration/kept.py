"""What a run has measured so far, kept beside the profile it is for until that is whole."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topologies.errors import Problem, SpecError
from topologies.whole_file import whole_file
from validate.calibration.bench import Sample
from validate.calibration.item import Item
from validate.calibration.measurement import Measurement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from validate.calibration.rounds import Heard

VERSION = "sp-profile-kept/1"
#: How often the file is written, in seconds.
EVERY_S = 3.0


@dataclass(slots=True)
class Kept:
    """What a run has measured so far.

    Parameters
    ----------
    path
        Where it lies.
    identity
        What measurements must share to go together.
    samples
        Of each item, one of every round.
    calls
        In a burst of each item.
    impossible
        What cannot be measured, and why.
    """

    path: Path
    identity: Mapping[str, Any]
    samples: dict[Item, list[Sample]] = field(default_factory=dict)
    calls: dict[Item, int] = field(default_factory=dict)
    impossible: dict[Item, str] = field(default_factory=dict)
    written: float = 0.0

    @classmethod
    def beside(cls, out: str, identity: Mapping[str, Any], *, fresh: bool) -> Kept:
        """Return what an earlier run left for a profile, or nothing if none did.

        Parameters
        ----------
        out
            Where the profile will be.
        identity
            Of this run.
        fresh
            Whether to leave aside what there is.

        Raises
        ------
        SpecError
            If what is there is no such file, or of a run that differs.
        """
        path = Path(out)
        kept = cls(path.with_name(f".{path.name}.kept.json"), dict(identity))
        if not fresh and kept.path.exists():
            kept._read()
        return kept

    def add(self, items: Sequence[Item], heard: Heard) -> None:
        """Add what ranks found, and write it down now and then."""
        for at, sample, calls in heard.samples:
            self.samples.setdefault(items[at], []).append(sample)
            self.calls[items[at]] = calls
        for at, why in heard.impossible:
            self.impossible[items[at]] = why
        if time.monotonic() - self.written > EVERY_S:
            self.write()

    def rounds(self, items: Sequence[Item]) -> tuple[int, ...]:
        """Return how many rounds each item has."""
        return tuple(len(self.samples.get(item, ())) for item in items)

    def measurements(self, items: Sequence[Item]) -> list[Measurement]:
        """Return what was measured of each item, in their order."""
        return [
            Measurement(
                item=item,
                seconds=tuple(sample.seconds for sample in self.samples[item]),
                wall_s=tuple(sample.wall_s for sample in self.samples[item]),
                calls=self.calls[item],
            )
            for item in items
            if item in self.samples
        ]

    def write(self) -> None:
        """Write all of it."""
        content = {
            "schema_version": VERSION,
            "identity": self.identity,
            "samples": [
                [item.kind, dict(item.args), self.calls[item], samples]
                for item, samples in self.samples.items()
            ],
        }
        with whole_file(self.path, "--out") as stream:
            stream.write(json.dumps(content).encode())
        self.written = time.monotonic()

    def remove(self) -> None:
        """Remove the file: the profile is whole."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        mend = "remove it, or give --fresh to begin anew"
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            theirs = {"version": content["schema_version"]}
            if theirs["version"] == VERSION:
                theirs |= content["identity"].items()
                self._take(content["samples"])
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            problem = Problem("--out", self.path, f"no measurements that can be read: {mend}")
            raise SpecError([problem]) from error
        mine = {"version": VERSION} | json.loads(json.dumps(self.identity))
        apart = [name for name in mine if theirs.get(name) != mine[name]]
        if apart:
            why = f"of a run with {apart[0]} {theirs.get(apart[0])}, not {mine[apart[0]]}: {mend}"
            raise SpecError([Problem("--out", self.path, why)])

    def _take(self, rows: Any) -> None:  # noqa: ANN401 - whatever a file holds
        """Take samples as they were written."""
        for kind, args, calls, samples in rows:
            item = Item.of(str(kind), **args)
            self.samples[item] = [Sample(float(s), float(wall)) for s, wall in samples]
            self.calls[item] = int(calls)
            if not all(0.0 < each < math.inf for sample in self.samples[item] for each in sample):
                raise ValueError("seconds that cannot be")
