"""Which layouts are possible, and the sentence a user reads where one is not.

Every rule is here and only here. A rule holds for any software; what a given framework can run is
data (:mod:`models.framework`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.architecture import Attention, Recurrent, SideBySide
from models.expert_rules import EXPERT_RULES
from models.inventory import repeatable_modules
from models.layout import (
    CpMethod,
    Kernels,
    Layout,
    LayoutBatch,
    Recompute,
    Schedule,
    SequenceOrder,
    StageSplit,
)
from models.recompute_modules import USUAL_MODULES
from models.rule import Rule
from models.schedule import BOTH_WAYS, CHUNKED, VEE, VEE_CHUNKS, fewest_micro_batches
from models.sequence_parallel.blocks import sight
from topologies.errors import Problem

if TYPE_CHECKING:
    from collections import Counter

    from models.architecture import Architecture
    from models.layout import Ints
    from models.rule import Job, Mask


def legal(batch: LayoutBatch, job: Job, refused: Counter[str] | None = None) -> Mask:
    """Return which layouts satisfy every rule.

    Parameters
    ----------
    batch
        The layouts.
    job
        What they must suit.
    refused
        Counts, by axis, the layouts that each rule is the first to turn away.
    """
    return _hold(RULES, batch, job, refused)


def mesh_legal(batch: LayoutBatch, job: Job, refused: Counter[str] | None = None) -> Mask:
    """Return which meshes (tp, ulysses, ring, pp, dp) some layout could satisfy every rule with."""
    return _hold(MESH_RULES, batch, job, refused)


def options_legal(batch: LayoutBatch, job: Job, refused: Counter[str] | None = None) -> Mask:
    """Return which layouts satisfy the rules that :func:`mesh_legal` does not ask."""
    return _hold(ALL_OPTION_RULES, batch, job, refused)


def _hold(
    rules: tuple[Rule, ...], batch: LayoutBatch, job: Job, refused: Counter[str] | None
) -> Mask:
    mask = np.ones(len(batch), dtype=np.bool_)
    for rule in rules:
        holds = rule.holds(batch, job)
        if refused is not None:
            refused[rule.axis] += int((mask & ~holds).sum())
        mask &= holds
    return mask


def problems(layout: Layout, job: Job) -> list[Problem]:
    """Return a sentence for every rule that one layout breaks."""
    batch = LayoutBatch.of([layout])
    broken = [rule for rule in RULES if not rule.holds(batch, job)[0]]
    return [
        Problem(
            f"--{rule.axis.replace('_', '-')}",
            _shown(layout, rule.axis, job),
            rule.mend(layout, job),
        )
        for rule in broken
    ]


def _shown(layout: Layout, axis: str, job: Job) -> object:
    """Return an axis' value as users write it."""
    if axis == "seq_len":
        return job.workload.seq_len
    value = layout.to_dict()[axis]
    return ("on" if value else "off") if isinstance(value, bool) else value


def _softmax(architecture: Architecture) -> list[Attention]:
    """Return the softmax attention of each kind of layer that has it, alone or side by side."""
    kinds = architecture.kinds
    return [x.attention for x in kinds if isinstance(x.mixer, Attention | SideBySide)]


def _windowed(job: Job) -> bool:
    return bool(_hiding(job))


def _hiding(job: Job) -> str:
    """Return what hides tokens before a query in some layer; empty if nothing does.

    A window or chunk of the whole sequence or more is the causal mask.
    """
    for mixer in _softmax(job.architecture):
        if (sight(mixer) or job.workload.seq_len) < job.workload.seq_len:
            return "sliding windows" if mixer.chunk is None else "chunks"
    return ""


def _limits_ring(job: Job) -> str:
    mixers = _softmax(job.architecture)
    return next((mixer.limits_ring for mixer in mixers if mixer.limits_ring), "")


def _every(conditions: list[Mask], like: Ints) -> Mask:
    mask = np.ones(like.shape, dtype=np.bool_)
    for condition in conditions:
        mask &= condition
    return mask


def _divides_either_way(first: Ints | int, second: Ints) -> Mask:
    either: Mask = (first % second == 0) | (second % first == 0)
    return either


def _after_tp(heads: int, tp: Ints) -> Ints:
    return np.maximum(heads // tp, 1)


def _uncut(cut: tuple[tuple[int, str], ...], degree: int, tp: int = 1) -> str:
    """Return what a degree fails to cut, or to be a multiple of, after `tp`: the first of it."""
    left = [(max(number // tp, 1), what) for number, what in cut]
    number, what = next((pair for pair in left if pair[0] % degree), left[0])
    return f"the {number} {what}"


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


def _micro_batches(batch: LayoutBatch, job: Job) -> Ints:
    return batch.micro_batches(job.workload.global_batch)


def _repeats_modules(batch: LayoutBatch) -> Mask:
    """Return where selective recomputation goes by modules."""
    mask: Mask = (batch.recompute == Recompute.SELECTIVE) & (batch.kernels == Kernels.FUSED)
    return mask


def _has_modules(modules: Ints, job: Job) -> Mask:
    """Return which sets are modules of a model, at least one."""
    mask: Mask = (modules > 0) & (modules & ~int(repeatable_modules(job.architecture)) == 0)
    return mask


#: Conditions on the degrees alone.
MESH_RULES: tuple[Rule, ...] = (
    Rule(
        "dp",
        lambda b, job: b.gpus == job.gpus,
        lambda x, job: (
            f"dp x tp x pp x ulysses x ring is {x.gpus}, and the cluster has {job.gpus}; "
            f"with the other axes as they are use --dp {max(job.gpus * x.dp // x.gpus, 1)}"
            if job.gpus * x.dp % x.gpus == 0
            else f"dp x tp x pp x ulysses x ring is {x.gpus}, and the cluster has {job.gpus}"
        ),
    ),
    Rule(
        "tp",
        lambda b, job: _every([heads % b.tp == 0 for heads, _ in job.architecture.cut_heads], b.tp),
        lambda x, job: f"must divide {_uncut(job.architecture.cut_heads, x.tp)}",
    ),
    Rule(
        "tp",
        lambda b, job: _every(
            [_divides_either_way(heads, b.tp) for heads, _ in job.architecture.shared_heads], b.tp
        ),
        lambda x, job: (
            f"must divide, or be a multiple of, {_uncut(job.architecture.shared_heads, x.tp)}"
        ),
    ),
    Rule(
        "tp",
        lambda b, job: _every(
            [width % b.tp == 0 for width, _ in job.architecture.cut_widths], b.tp
        ),
        lambda x, job: f"must divide {_uncut(job.architecture.cut_widths, x.tp)}",
    ),
    Rule(
        "ulysses",
        lambda b, job: _every(
            [(heads // b.tp) % b.ulysses == 0 for heads, _ in job.architecture.cut_heads], b.tp
        ),
        lambda x, job: (
            f"must divide {_uncut(job.architecture.cut_heads, x.ulysses, x.tp)} "
            f"that tp {x.tp} leaves; lower it, or move part of it to --ring"
        ),
    ),
    Rule(
        "ulysses",
        lambda b, job: _every(
            [
                _divides_either_way(_after_tp(heads, b.tp), b.ulysses)
                for heads, _ in job.architecture.shared_heads
            ],
            b.tp,
        ),
        lambda x, job: (
            "must divide, or be a multiple of, "
            f"{_uncut(job.architecture.shared_heads, x.ulysses, x.tp)} that tp {x.tp} leaves"
        ),
    ),
)
#: Conditions on the degrees together with the other axes.
OPTION_RULES: tuple[Rule, ...] = (
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
        "pp",
        lambda b, job: b.pp * b.vp <= len(job.architecture.layers),
        lambda x, job: (
            f"pp x vp is {x.pp * x.vp}, and there are {len(job.architecture.layers)} layers"
        ),
    ),
    Rule(
        "stage_split",
        lambda b, job: (
            (b.stage_split != StageSplit.EVEN) | (len(job.architecture.layers) % (b.pp * b.vp) == 0)
        ),
        lambda x, job: (
            f"{len(job.architecture.layers)} layers do not divide into {x.pp * x.vp} stages; "
            "use --stage-split balanced"
        ),
    ),
    Rule(
        "micro_batch",
        lambda b, job: job.workload.global_batch % (b.dp * b.micro_batch) == 0,
        lambda x, job: (
            f"dp x micro-batch = {x.dp * x.micro_batch} must divide "
            f"--global-batch {job.workload.global_batch}"
        ),
    ),
    Rule(
        "vp",
        lambda b, _: VEE[b.schedule] | ((b.vp > 1) == CHUNKED[b.schedule]),
        lambda *_: (
            "more than one model chunk per rank is the interleaved or the looped-bfs schedule, "
            "and the reverse"
        ),
    ),
    Rule(
        "vp",
        lambda b, _: ~VEE[b.schedule] | (b.vp == VEE_CHUNKS),
        lambda x, _: f"{x.schedule.label} holds two model chunks per rank: use --vp {VEE_CHUNKS}",
    ),
    Rule(
        "schedule",
        lambda b, _: (b.pp > 1) | (b.schedule <= Schedule.ONE_F_ONE_B),
        lambda *_: "orders the passes of several ranks and needs --pp 2 or more",
    ),
    Rule(
        "schedule",
        lambda b, job: (b.schedule != Schedule.INTERLEAVED) | (_micro_batches(b, job) % b.pp == 0),
        lambda x, job: (
            f"interleaving needs micro-batches per step ({job.workload.global_batch // x.dp} / "
            f"{x.micro_batch}) in multiples of pp = {x.pp}"
        ),
    ),
    Rule(
        "schedule",
        lambda b, job: (
            np.maximum(_micro_batches(b, job), 1) >= fewest_micro_batches(b.schedule, b.pp)
        ),
        lambda x, job: (
            f"{x.schedule.label} on {x.pp} ranks needs {fewest_micro_batches(x.schedule, x.pp)} "
            f"micro-batches per step or more ({job.workload.global_batch // x.dp} / "
            f"{x.micro_batch}); lower --pp, --dp or --micro-batch"
        ),
    ),
    Rule(
        "schedule",
        lambda b, job: (
            ~BOTH_WAYS[b.schedule] | ((b.pp % 2 == 0) & (_micro_batches(b, job) % 2 == 0))
        ),
        lambda x, job: (
            f"a pipeline both ways needs an even pp (it is {x.pp}) and even micro-batches per step "
            f"({job.workload.global_batch // x.dp} / {x.micro_batch})"
        ),
    ),
    Rule(
        "dp_replicate",
        lambda b, _: b.dp % b.dp_replicate == 0,
        lambda x, _: f"must divide dp = {x.dp}",
    ),
    Rule(
        "dp_replicate",
        lambda b, _: (b.dp_replicate == 1) | (b.zero >= 1),
        lambda *_: "replicates shards: use --zero 1, 2 or 3",
    ),
    Rule(
        "cp_method",
        lambda b, _: (b.cp_method != CpMethod.ALL_GATHER) | (b.ulysses == 1),
        lambda _, job: (
            "gathered keys and values do not combine with Ulysses; "
            + (f"use either: layers have {_hiding(job)}" if _windowed(job) else "use p2p")
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
            np.full(len(b), not _windowed(job))
            | (b.ring == 1)
            | (b.cp_method == CpMethod.ALL_GATHER)
        ),
        lambda _, job: (
            f"layers with {_hiding(job)} do not run on a p2p ring; "
            "use --ulysses, or --cp-method all-gather without it"
        ),
    ),
    Rule(
        "ring",
        lambda b, job: np.full(len(b), not _limits_ring(job)) | (b.ring == 1),
        lambda _, job: f"layers with {_limits_ring(job)} run on whole sequences: use --ulysses",
    ),
    Rule(
        "recompute_layers",
        lambda b, job: (
            (b.recompute_layers == 0)
            | (
                (b.recompute == Recompute.FULL)
                & (b.recompute_layers <= len(job.architecture.layers))
            )
        ),
        lambda *_: "a number of layers goes with --recompute full, and is at most all of them",
    ),
    Rule(
        "recompute_modules",
        lambda b, _: (b.recompute_modules == int(USUAL_MODULES)) | _repeats_modules(b),
        lambda *_: (
            "modules go with --recompute selective and --kernels fused (eager kernels repeat "
            "operator by operator); leave them out"
        ),
    ),
    Rule(
        "recompute_modules",
        lambda b, job: ~_repeats_modules(b) | _has_modules(b.recompute_modules, job),
        lambda _, job: (
            f"{job.architecture.title} has {repeatable_modules(job.architecture).label}: "
            "name one or more of these"
        ),
    ),
)
#: All conditions that :func:`mesh_legal` does not ask.
ALL_OPTION_RULES = OPTION_RULES + EXPERT_RULES
RULES = MESH_RULES + ALL_OPTION_RULES
