"""How sequences may be cut, and by which methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.architecture import Attention, Recurrent, SideBySide
from models.layout import Layout, LayoutBatch
from models.named_axes import CpMethod, SequenceOrder
from models.rules.rule import Rule
from topologies.errors import Problem

if TYPE_CHECKING:
    from models.architecture import Architecture
    from models.layout import Ints
    from models.rules.rule import Job, Mask


def _softmax(architecture: Architecture) -> list[Attention]:
    """Return the softmax attention of each kind of layer that has it, alone or side by side."""
    kinds = architecture.kinds
    return [x.attention for x in kinds if isinstance(x.mixer, Attention | SideBySide)]


def _windowed(job: Job) -> bool:
    return bool(_hiding(job))


def _hiding(job: Job) -> str:
    """Return what hides tokens before a query in some layer; empty if nothing does."""
    hiding = [x for x in job.architecture.kinds if x.hides_tokens(job.workload.seq_len)]
    if not hiding:
        return ""
    return "sliding windows" if hiding[0].attention.chunk is None else "chunks"


def window_problems(architecture: Architecture, seq_len: int) -> list[Problem]:
    """Return that sequences are shorter than a window, which then is none and not what is meant."""
    windows = {x.window for x in _softmax(architecture) if x.window is not None}
    if not windows or max(windows) <= seq_len:
        return []
    longest = max(windows)
    mend = (
        f"layers of {architecture.title} see windows of {longest:,} tokens, longer than the "
        f"sequence: take sequences of {longest:,} tokens or more, or a config without windows"
    )
    return [Problem("--seq-len", seq_len, mend)]


def differs_by_layer(job: Job) -> bool:
    """Return whether windows or chunks hide tokens in some layers with attention only."""
    kinds = [x for x in job.architecture.kinds if isinstance(x.mixer, Attention | SideBySide)]
    return len({x.hides_tokens(job.workload.seq_len) for x in kinds}) > 1


def _limits_ring(job: Job) -> str:
    mixers = _softmax(job.architecture)
    return next((mixer.limits_ring for mixer in mixers if mixer.limits_ring), "")


def replicates_kv(architecture: Architecture, tp: Ints | int, ulysses: Ints | int) -> Mask:
    """Return where Ulysses exceeds the key/value heads a tensor-parallel rank has."""
    kv_heads = [each.kv_heads for each in _softmax(architecture)]
    fewest = min(kv_heads, default=ulysses * tp)
    mask: Mask = (ulysses > 1) & (ulysses > np.maximum(fewest // tp, 1))
    return mask


def hands_on_states(architecture: Architecture) -> bool:
    """Return whether a ring hands on states: a layer is recurrent, alone or beside attention."""
    return any(isinstance(kind.mixer, Recurrent | SideBySide) for kind in architecture.kinds)


def _chunks(batch: LayoutBatch) -> Ints:
    """Return pieces a sequence is cut into: two per rank where the ring is zigzag."""
    pairs = (batch.ring > 1) & (batch.sequence_order == SequenceOrder.ZIGZAG)
    return batch.cp * np.where(pairs, 2, 1)


def _chunks_of(layout: Layout) -> int:
    return int(_chunks(LayoutBatch.of([layout]))[0])


SEQUENCE_RULES: tuple[Rule, ...] = (
    Rule(
        "seq_len",
        lambda b, job: job.workload.seq_len % _chunks(b) == 0,
        lambda x, job: (
            f"ulysses x ring cuts it into {_chunks_of(x)} pieces (two per rank of a zigzag ring): "
            f"pad to {-(-job.workload.seq_len // _chunks_of(x)) * _chunks_of(x)} tokens"
        ),
    ),
    Rule(
        "tp_sp",
        lambda b, job: (b.tp_sp == 0) | (job.workload.seq_len % (b.cp * b.tp) == 0),
        lambda x, job: f"needs sequences of a multiple of cp x tp = {x.cp * x.tp} tokens",
    ),
    Rule(
        "tp_sp",
        lambda b, _: (b.tp_sp == 0) | (b.tp > 1),
        lambda *_: "shards over tensor-parallel ranks: use --tp 2 or more, or leave it out",
    ),
    Rule(
        "cp_method",
        lambda b, _: (b.cp_method == CpMethod.P2P) | (b.ulysses == 1),
        lambda _, job: (
            "gathered keys and values do not combine with Ulysses; "
            + (f"use either: layers have {_hiding(job)}" if _windowed(job) else "use p2p")
        ),
    ),
    Rule(
        "cp_method",
        lambda b, job: (b.cp_method != CpMethod.PER_LAYER) | differs_by_layer(job),
        lambda *_: (
            "gathers where a window or chunk hides tokens and passes on elsewhere: all layers of "
            "this job are alike, use p2p or all-gather"
        ),
    ),
    Rule(
        "inner_ring",
        lambda b, _: (b.inner_ring == 1) | ((b.ring % b.inner_ring == 0) & (b.inner_ring < b.ring)),
        lambda x, _: f"must divide ring = {x.ring} and be smaller, or be 1 for a flat ring",
    ),
    Rule(
        "inner_ring",
        lambda b, _: (b.inner_ring == 1) | (b.cp_method == CpMethod.P2P),
        lambda *_: "a double ring passes keys and values on: use --cp-method p2p",
    ),
    Rule(
        "ring",
        lambda b, job: (
            np.full(len(b), not _windowed(job)) | (b.ring == 1) | (b.cp_method != CpMethod.P2P)
        ),
        lambda _, job: (
            f"layers with {_hiding(job)} do not run on a p2p ring; "
            "use --ulysses, or --cp-method all-gather without it"
            + (" (or per-layer, which gathers in these layers only)" * differs_by_layer(job))
        ),
    ),
    Rule(
        "ring",
        lambda b, job: np.full(len(b), not job.workload.runs_on.unfused) | (b.ring == 1),
        lambda _, job: (
            f"{job.workload.software} computes attention with all keys at hand: use --ulysses, or "
            "other --software"
        ),
    ),
    Rule(
        "ring",
        lambda b, job: np.full(len(b), not _limits_ring(job)) | (b.ring == 1),
        lambda _, job: f"layers with {_limits_ring(job)} run on whole sequences: use --ulysses",
    ),
)
