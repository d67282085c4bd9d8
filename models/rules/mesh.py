"""Which degrees a model and a number of accelerators allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.rules.rule import Rule

if TYPE_CHECKING:
    from models.layout import Ints
    from models.rules.rule import Mask


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
