"""Reading a user's profile: a calibration (``.json``) or a whole profile (``.yaml``)."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from models import calibration
from models.calibration import CalibrationSchema
from models.profile import ProfileSchema, load_profile
from topologies.errors import Collected, Problem, SpecError
from topologies.schema import checked
from topologies.yaml_file import DEEPEST, read_text, read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.profile import Profile

_Schema = TypeVar("_Schema", CalibrationSchema, ProfileSchema)

FIELD = "--profile"
AGAIN = "run `meshwright calibrate` again"
#: Calibrations are hundreds of kilobytes; a larger file is something else.
LARGEST_CALIBRATION_BYTES = 64 * 2**20
#: A file of another kind has something wrong in every row: some are enough.
MOST_PROBLEMS = 20
LONGEST_VALUE = 80
_PROFILE_VERSION = "meshwright-profile/1"


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """A profile file that is what its schema says.

    Parameters
    ----------
    path
        Where it lies.
    content
        What it holds.
    """

    path: Path
    content: CalibrationSchema | ProfileSchema

    @property
    def accelerators(self) -> tuple[str, ...]:
        """Whose profile it is; empty for any."""
        return tuple(self.content.accelerators)

    def profile(self, accelerator: str | None) -> Profile:
        """Return the profile for an accelerator; None where that is not known.

        Raises
        ------
        SpecError
            If it is another accelerator's, or a parameter cannot be.
        """
        found = Collected()
        if accelerator is not None and self.accelerators:
            found.attempt(lambda: self._check(accelerator))
        built = found.attempt(self._build)
        found.raise_if_any()
        return replace(built, name=f"{self.content.name} ({self.path.name})")

    def _check(self, accelerator: str) -> None:
        if accelerator in self.accelerators:
            return
        mend = f"the cluster has {accelerator}: give a profile of that device, or leave {FIELD} out"
        raise SpecError([Problem(f"{FIELD} {self.path.name}", ", ".join(self.accelerators), mend)])

    def _build(self) -> Profile:
        if isinstance(self.content, ProfileSchema):
            return self.content.build(self.path.name)
        return self.content.over(load_profile(self.content.accelerator), self.path.name)


def read_profile(path: str | Path, accelerator: str | None = None) -> Profile:
    """Return the profile of a file.

    A calibration is laid over the profile of its accelerator: what it did not measure stays as it
    is there.

    Parameters
    ----------
    path
        A ``.json`` that ``meshwright calibrate`` wrote, or a ``.yaml`` with every parameter.
    accelerator
        The cluster's; None if it is not known.

    Raises
    ------
    SpecError
        If the file cannot be read, is cut short, of another version or device, or a figure cannot
        be.
    """
    return open_profile(path).profile(accelerator)


def open_profile(path: str | Path) -> ProfileFile:
    """Return a profile file, for whichever accelerator it is.

    Raises
    ------
    SpecError
        If the file cannot be read, is cut short, or is not what its schema says.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        content = _read_json(path)
        _check_version(content, calibration.VERSION, path, AGAIN)
        return ProfileFile(path, _short(lambda: checked(CalibrationSchema, content, path.name)))
    if path.suffix.lower() in (".yaml", ".yml"):
        content = dict(read_yaml(path, FIELD))
        _check_version(content, _PROFILE_VERSION, path, "write it as models/data/profiles has it")
        return ProfileFile(path, _short(lambda: checked(ProfileSchema, content, path.name)))
    mend = "a .json file that `meshwright calibrate` wrote, or a whole profile as .yaml"
    raise SpecError([Problem(FIELD, path, mend)])


def _read_json(path: Path) -> dict[str, Any]:
    text = read_text(path, FIELD, LARGEST_CALIBRATION_BYTES)
    if not text.strip():
        raise SpecError([Problem(FIELD, path, f"empty: {AGAIN}")])
    try:
        content = json.loads(text, object_pairs_hook=_mapping)
    except json.JSONDecodeError as error:
        # A slip of the hand lies inside; a break leaves a file that ends too early.
        cut = not text.rstrip().endswith("}") or not text[error.pos :].strip()
        what = "cut short" if cut else f"not JSON (line {error.lineno})"
        raise SpecError([Problem(FIELD, path, f"{what}: {AGAIN}")]) from error
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise SpecError([Problem(FIELD, path, f"not a calibration: {why}")]) from error
    if not isinstance(content, dict):
        raise SpecError([Problem(FIELD, path, f"not a calibration: {AGAIN}")])
    if _depth(content) > DEEPEST:
        mend = f"not a calibration: nested deeper than {DEEPEST} levels"
        raise SpecError([Problem(FIELD, path, mend)])
    return content


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a mapping, each of its keys given once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice} is there twice")
    return found


def _depth(content: object) -> int:
    """Return how many mappings and lists lie within each other."""
    level, depth = [content], 0
    while level := [inner for one in level for inner in _inner(one)]:
        depth += 1
    return depth


def _inner(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _check_version(content: dict[str, Any], known: str, path: Path, mend: str) -> None:
    given = content.get("schema_version", "missing")
    if given != known:
        field = f"{FIELD} {path.name}: schema_version"
        mend = f"this version of Meshwright reads {known}: {mend}"
        raise SpecError([_cut(Problem(field, given, mend))])


def _short(step: Callable[[], _Schema]) -> _Schema:
    """Return what a step returns; cut values and problems where there are too many to read."""
    try:
        return step()
    except SpecError as error:
        problems = [_cut(problem) for problem in error.problems[:MOST_PROBLEMS]]
        left = len(error.problems) - len(problems)
        if left:
            problems.append(Problem(problems[0].field.partition(":")[0], f"{left} more", "alike"))
        raise SpecError(problems) from error


def _cut(problem: Problem) -> Problem:
    text = str(problem.value)
    if len(text) <= LONGEST_VALUE:
        return problem
    return replace(problem, value=f"{text[:LONGEST_VALUE]}...")
