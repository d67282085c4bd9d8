"""Gemma 3 27B at 128K tokens: five of six layers see 1,024 tokens back, the sixth sees all.

Rings that pass keys and values on are refused: a window would leave most of their blocks empty.
Keys and values may be gathered, of which windows then use little, or heads be traded; or each layer
has its own method. Beside it the same model without windows.

    python -m examples.windows_at_128k
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from examples.table import HEAD, cells, print_table
from models.layout import LayoutBatch
from planner.complete import complete_layout
from planner.scenario import Scenario
from topologies.errors import SpecError

if TYPE_CHECKING:
    from models.architecture import Architecture

MODEL, CLUSTER, SEQ_LEN, GLOBAL_BATCH = "gemma-3-27b", "h100-dgx:8", 2**17, 8
WAYS: tuple[dict[str, object], ...] = (
    {"ulysses": 8},
    {"ulysses": 4, "tp": 2},
    {"ring": 8, "cp_method": "all-gather"},
    {"ring": 8, "cp_method": "per-layer"},
    {"ring": 4, "tp": 2, "cp_method": "all-gather"},
    {"ring": 8},
)


def without_windows(architecture: Architecture) -> Architecture:
    """Return a model in which every layer sees all tokens before it."""
    layers = tuple(
        replace(layer, mixer=replace(layer.attention, window=None)) for layer in architecture.layers
    )
    return replace(architecture, layers=layers)


def used_of_gathered(scenario: Scenario, ranks: int) -> float:
    """Return the share of gathered keys and values that a rank's queries see, over all layers.

    A rank's run of tokens sees itself and a window before it; without a window all before its end,
    which is all for the last rank.
    """
    own, length = SEQ_LEN / ranks, float(SEQ_LEN)
    seen = [
        min(own + (layer.attention.window or length), length)
        for layer in scenario.architecture.layers
    ]
    return sum(seen) / (length * len(seen))


def show(title: str, scenario: Scenario) -> None:
    """Print a row for each way that is possible, and a sentence for each that is not."""
    rows, sentences = [["cut by", *HEAD]], []
    for way in WAYS:
        name = " ".join(f"{axis.replace('_', '-')} {value}" for axis, value in way.items())
        layout = complete_layout(scenario, {"recompute": "full", "zero": 3, **way})
        try:
            scenario.check(layout)
        except SpecError as error:
            sentences.append(f"{name}: {error.problems[0]}")
            continue
        (plan,) = scenario.evaluate(LayoutBatch.of([layout]))
        rows.append([name, *cells(plan)])
    print(title)
    print_table(rows)
    for sentence in sentences:
        print(sentence)
    print()


def main() -> None:
    """Print both models, and what of gathered keys is used."""
    scenario = Scenario.load(MODEL, CLUSTER, seq_len=SEQ_LEN, global_batch=GLOBAL_BATCH)
    whole = replace(scenario, architecture=without_windows(scenario.architecture))
    job = f"128k tokens x {GLOBAL_BATCH} sequences on {CLUSTER}, ZeRO-3, full recomputation"
    show(f"{MODEL}, {job}", scenario)
    show(f"{MODEL} without windows, {job}", whole)
    print(
        "of the keys and values gathered over a ring of 8, the last rank sees "
        f"{used_of_gathered(scenario, 8):.0%} with windows, {used_of_gathered(whole, 8):.0%} "
        "without"
    )


if __name__ == "__main__":
    main()
