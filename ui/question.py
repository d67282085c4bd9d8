"""What is asked and what is looked at: the whole state of the page, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

from planner.choices import USUAL_CHANCE
from ui.words import plain

#: Of a digest: enough that no two files of one user meet.
DIGITS = 16


@dataclass(frozen=True, slots=True)
class Document:
    """A file that a user gave.

    Parameters
    ----------
    name
        As it was called; for people only.
    text
        What it holds.
    missing
        Of a file that a link only names, since it is too long for one: the digest of its text.
    """

    name: str
    text: str
    missing: str = ""

    @property
    def digest(self) -> str:
        """What tells its text from others."""
        return self.missing or sha256(self.text.encode("utf-8")).hexdigest()[:DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A planning question, every field as people write it.

    Parameters
    ----------
    model, cluster
        Names of the catalogues.
    gpus
        Numbers of accelerators, separated by commas.
    seq_len, global_batch
        Tokens of a sequence, and sequences of a step.
    precision, optimizer, gradients, reduce, framework, software
        As of :func:`planner.plan`.
    packed_len
        Tokens of each of the sequences packed into one; empty for one alone.
    fit_chance
        Least chance with which a layout must fit in memory: ``0.9``.
    pins
        Axes that are bound, separated by blanks: ``tp=4..8 zero=1,3``.
    edits
        Figures of the cluster's links that are not the catalogue's, separated by commas:
        ``infiniband.GBps=25``.
    own_model, own_cluster, own_profile
        Files that take the place of the catalogue's; the cluster's takes that of `cluster` and
        `edits`.
    """

    model: str = "llama-3.1-70b"
    cluster: str = "h100-dgx"
    gpus: str = "256"
    seq_len: str = "256k"
    global_batch: str = "64"
    precision: str = "bf16"
    optimizer: str = "adamw"
    gradients: str = "fp32"
    reduce: str = "fp32"
    framework: str = "any"
    software: str = "usual"
    packed_len: str = ""
    fit_chance: str = f"{USUAL_CHANCE:g}"
    pins: str = ""
    edits: str = ""
    own_model: Document | None = None
    own_cluster: Document | None = None
    own_profile: Document | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A question, and what of its answer is looked at.

    Parameters
    ----------
    question
        What is asked.
    searched, played, swept, stretched
        Whether the search, the event clock, the sweep, the longest sequences were asked for.
    tab
        Which part of a page is open, where it has several; empty for the first.
    layout, beside
        The layout looked at and the one it is compared with, as ``tp=4,pp=2``; empty for none.
    axis
        The axis that ranks are coloured by.
    window, ranks
        The part of the step that the timeline shows, in percent: ``0-100``; and the places of the
        ranks that it shows, separated by commas, empty for the first few.
    sweep, points
        The quantity that is swept, and its values, separated by commas.
    sizes
        Numbers of accelerators that the longest sequence is asked for.
    runs, kind, source
        A table of measured runs that takes the place of this checkout's own, and the kind and the
        source of those that are shown; empty for all.
    budget
        Seconds that a calibration measures.
    """

    question: Question = Question()
    searched: bool = False
    played: bool = False
    swept: bool = False
    stretched: bool = False
    tab: str = ""
    layout: str = ""
    beside: str = ""
    axis: str = ""
    window: str = "0-100"
    ranks: str = ""
    sweep: str = "seq_len"
    points: str = ""
    sizes: str = ""
    runs: Document | None = None
    kind: str = ""
    source: str = ""
    budget: str = "60"


def asked_anew(state: State, question: Question) -> State:
    """Return a state that asks something else: what was found of the former question is gone."""
    return replace(
        State(question=question), sweep=state.sweep, runs=state.runs, budget=state.budget
    )


def files_of(question: Question) -> tuple[Document | None, ...]:
    """Return the files of a question."""
    return question.own_model, question.own_cluster, question.own_profile


def further(question: Question) -> str:
    """Return what of a question's further inputs is not as usual, in a few words."""
    usual = Question()
    names = {"packed_len": "packed", "fit_chance": "chance to fit"} | {
        name: name for name in ("framework", "software", "optimizer", "gradients", "reduce")
    }
    said = [
        f"{word} {plain(getattr(question, name))}"
        for name, word in names.items()
        if getattr(question, name) != getattr(usual, name)
    ]
    said += [f"**{plain(words)}**" for words in (question.pins, question.edits) if words]
    said += [plain(question.own_profile.name)] if question.own_profile else []
    return ", ".join(said)
