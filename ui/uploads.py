"""Files that users give: small, text, and read by the planner's own strict readers."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from models.catalogue import read_json
from models.hf_config import architecture_from_config
from topologies.catalogue import DATA, load_cluster
from topologies.errors import Problem, SpecError, raise_if_any
from topologies.yaml_file import read_yaml
from ui.question import Document

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from models.architecture import Architecture
    from topologies.cluster import Cluster

#: Descriptions of models and clusters are kilobytes, calibrations hundreds of them.
LARGEST_BYTES = {"model": 1_000_000, "cluster": 1_000_000, "profile": 4_000_000, "table": 4_000_000}
LONGEST_NAME = 80
#: Figures of a tier that people change.
EDITABLE = ("GBps", "peer_GBps", "usable_fraction", "latency_us")
CHANGED = "set on the planning page"


def received(kind: str, name: str, content: bytes) -> Document:
    """Return what was given as a document.

    Parameters
    ----------
    kind
        ``model``, ``cluster``, ``profile`` or ``table``.
    name, content
        Of the file.

    Raises
    ------
    SpecError
        If it is too large, empty, or no text.
    """
    shown = "".join(letter for letter in name if letter.isprintable())[-LONGEST_NAME:]
    largest = LARGEST_BYTES[kind]
    if len(content) > largest:
        mend = f"{len(content):,} bytes; a {kind} file has at most {largest:,}"
        raise SpecError([Problem("file", shown, mend)])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError([Problem("file", shown, "not a text file")]) from error
    if not text.strip():
        raise SpecError([Problem("file", shown, "empty")])
    return Document(name=shown, text=text)


def architecture_of(document: Document) -> Architecture:
    """Return the model of a ``config.json``.

    Raises
    ------
    SpecError
        If it is none that can be read.
    """
    with on_disk(document, ".json") as path:
        return architecture_from_config(read_json(path), document.name)


def cluster_of(document: Document) -> Cluster:
    """Return the cluster of a YAML file; its parts, where it is a mix, are the catalogue's.

    Raises
    ------
    SpecError
        If it is none that can be read, or names other files.
    """
    with on_disk(document, ".yaml") as path:
        _refuse_other_files(read_yaml(path))
        return load_cluster(str(path))


@contextmanager
def on_disk(document: Document, suffix: str) -> Iterator[Path]:
    """Give a document as a file for as long as it is read; problems name it as its user does.

    Raises
    ------
    SpecError
        What is raised inside, with the document's name for the path.
    """
    refuse_missing(document)
    with tempfile.TemporaryDirectory(prefix="meshwright-") as folder:
        path = Path(folder) / f"file{suffix}"
        path.write_text(document.text, encoding="utf-8")
        try:
            yield path
        except SpecError as error:
            raise SpecError([_renamed(each, path, document.name) for each in error.problems]) from (
                error
            )


def refuse_missing(document: Document) -> None:
    """Check that a file is here, not only named by a link.

    Raises
    ------
    SpecError
        If the link that was opened could not hold it.
    """
    if document.missing:
        mend = f"too long for the link that names it (digest {document.missing}): give it again"
        raise SpecError([Problem("file", document.name, mend)])


def edited(cluster: str, edits: Mapping[str, float]) -> Document:
    """Return a cluster of the catalogue with some figures of its tiers changed.

    Parameters
    ----------
    cluster
        Its name.
    edits
        Figures by ``tier.key``, in the units of the file.

    Raises
    ------
    SpecError
        With every tier or key that it does not have.
    """
    content: dict[str, Any] = dict(read_yaml(DATA / "clusters" / f"{cluster}.yaml"))
    tiers = {tier["name"]: dict(tier) for tier in content.get("tiers", ())}
    problems = []
    for place, value in edits.items():
        name, _, key = place.rpartition(".")
        if name not in tiers or key not in EDITABLE:
            known = ", ".join(f"{tier}.{each}" for tier in tiers for each in EDITABLE)
            problems.append(Problem("edits", place, f"no such figure; there are {known}"))
            continue
        tiers[name][key] = {"value": float(value), "kind": "assumed", "source": CHANGED}
    raise_if_any(problems)
    content["tiers"] = list(tiers.values())
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    return Document(name=f"{cluster} (edited).yaml", text=text)


def parse_edits(text: str) -> dict[str, float]:
    """Return the figures of ``infiniband.GBps=25,nvlink.latency_us=2``.

    Raises
    ------
    SpecError
        With every part that is not of that form.
    """
    found, problems = {}, []
    for part in filter(None, (part.strip() for part in text.split(","))):
        place, _, value = part.partition("=")
        try:
            found[place.strip()] = float(value)
        except ValueError:
            problems.append(Problem("edits", part, "tier.key=number, as infiniband.GBps=25"))
    raise_if_any(problems)
    return found


def read_object(document: Document) -> dict[str, Any]:
    """Return the JSON object that a document holds.

    Raises
    ------
    SpecError
        If it holds none.
    """
    refuse_missing(document)
    try:
        content = json.loads(document.text)
    except (ValueError, RecursionError) as error:
        raise SpecError([Problem("file", document.name, f"not JSON: {error}")]) from error
    if not isinstance(content, dict):
        raise SpecError([Problem("file", document.name, "not a JSON object")])
    return content


def _refuse_other_files(content: Mapping[str, Any]) -> None:
    parts = content.get("parts")
    listed = parts if isinstance(parts, list) else []
    named = [part.get("cluster") for part in listed if isinstance(part, dict)]
    mend = "an uploaded mix is made of clusters of the catalogue, such as h100-dgx:4"
    raise_if_any(
        [
            Problem(f"parts.{at}.cluster", name, mend)
            for at, name in enumerate(named)
            if "/" in str(name) or str(name).partition(":")[0].endswith((".yaml", ".yml"))
        ]
    )


def _renamed(problem: Problem, path: Path, name: str) -> Problem:
    def shown(words: object) -> str:
        return str(words).replace(str(path), name).replace(path.name, name)

    return Problem(shown(problem.field), shown(problem.value), shown(problem.mend))
