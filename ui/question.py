"""What is asked and what is looked at: the whole state of the page, as plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A file that a user gave.

    Parameters
    ----------
    name
        As it was called; for people only.
    text
        What it holds.
    """

    name: str
    text: str


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
    precision, optimizer, gradients, reduce, framework
        As of :func:`planner.plan`.
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
    searched
        Whether the search was asked for.
    layout, beside
        The layout looked at and the one it is compared with, as ``tp=4,pp=2``; empty for none.
    axis
        The axis that ranks are coloured by.
    window
        The part of the step that the timeline shows, in percent: ``0-100``.
    sweep, points
        The quantity that is swept, and its values, separated by commas.
    """

    question: Question = Question()
    searched: bool = False
    layout: str = ""
    beside: str = ""
    axis: str = ""
    window: str = "0-100"
    sweep: str = "seq_len"
    points: str = ""
