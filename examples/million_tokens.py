"""Sequences of a million tokens: attention against state spaces, ring against Ulysses.

A dense model's attention grows with the square of the sequence, and so does what hides the hops of
a ring. A state-space layer hands on a state whose size does not depend on the sequence; in a hybrid
the few attention layers decide which degrees are legal and what is exposed.

    python -m examples.million_tokens
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from examples.table import HEAD, cells, print_table
from models.layout import Layout, LayoutBatch
from models.operation import Axis
from models.prepared import Prepared
from planner.ask import estimate_scenario
from planner.scenario import Scenario
from topologies.errors import SpecError

if TYPE_CHECKING:
    from planner.plans import Plan

SEQ_LEN = 2**20
CLUSTER = "h100-dgx:8"
MODELS = ("llama-3.1-8b", "nemotron-h-8b", "mamba2-2.7b")
#: Ways to cut a sequence over the 64 accelerators: what trades heads, what goes along a ring.
WAYS: tuple[dict[str, object], ...] = (
    {"ring": 64},
    {"ulysses": 8, "ring": 8},
    {"ulysses": 16, "ring": 4, "cp_placement": "context-first"},
    {"ulysses": 32, "ring": 2},
    {"ulysses": 8, "tp": 8},
    {"ring": 8, "tp": 8},
)


def cut(model: str, way: dict[str, object]) -> Plan:
    """Return the estimate of one way.

    Raises
    ------
    SpecError
        If the model cannot be cut so.
    """
    scenario = Scenario.load(model, CLUSTER, seq_len=SEQ_LEN, global_batch=1)
    return estimate_scenario(scenario, {"zero": 3, "recompute": "full", "kernels": "eager", **way})


def show(model: str) -> None:
    """Print a row for each way that is possible, and a sentence for each that is not."""
    rows, sentences = [["cut by", *HEAD]], []
    for way in WAYS:
        name = " ".join(f"{axis.replace('_', '-')} {value}" for axis, value in way.items())
        try:
            rows.append([name, *cells(cut(model, way))])
        except SpecError as error:
            sentences.append(f"{name}: {error.problems[0]}")
    print_table(rows)
    for sentence in sentences:
        print(sentence)


def state_and_keys(model: str) -> str:
    """Return what one layer of each kind hands on along a ring of 8, at two lengths."""
    sent = []
    for seq_len in (SEQ_LEN // 8, SEQ_LEN):
        scenario = Scenario.load(model, CLUSTER, seq_len=seq_len, global_batch=1)
        sent.append(ring_bytes(scenario))
    short, long = sent
    return "; ".join(
        f"{kind}: {short[kind] / 2**20:,.1f} MiB at 128k, {long[kind] / 2**20:,.1f} MiB at 1m"
        for kind in long
    )


def ring_bytes(scenario: Scenario) -> dict[str, float]:
    """Return the bytes that a rank of a ring of 8 sends forward, of each kind of token mixer."""
    layout = Layout(ring=8, dp=8)
    prepared = Prepared.of(scenario.architecture, scenario.workload, LayoutBatch.of([layout]))
    found = {}
    for kind, work in zip(scenario.architecture.kinds, prepared.layers, strict=True):
        if kind.mixer is not None:
            ops = [op for op in work.forward_communication() if op.axis is Axis.RING]
            found[kind.mixer.label] = sum(float((op.nbytes * op.calls)[0]) for op in ops)
    return found


def main() -> None:
    """Print a table for each model."""
    for model in MODELS:
        print(f"{model}, one sequence of 1m tokens on {CLUSTER}, ZeRO-3, full recomputation")
        show(model)
        print(f"handed on along a ring of 8, per layer: {state_and_keys(model)}")
        print()


if __name__ == "__main__":
    main()
