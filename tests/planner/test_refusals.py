"""What is wrong with a question is said all at once, and with a mend that mends it."""

from __future__ import annotations

from typing import Any

import pytest

import planner
from planner.answer import nearest_that_fits
from planner.bounds import Bounds
from planner.scenario import Scenario
from planner.space import Space
from topologies.errors import SpecError

ASKING = [planner.plan, planner.estimate, planner.simulate]


@pytest.mark.parametrize("asking", ASKING, ids=lambda asking: asking.__name__)
def test_python_calls_say_all_that_is_wrong(asking: Any) -> None:
    with pytest.raises(SpecError) as caught:
        asking("nope", "nocluster", seq_len="4q", global_batch=8, tp="x", bogus=3, precision="bf17")
    fields = [problem.field for problem in caught.value.problems]
    assert sorted(fields) == sorted(
        ["seq_len", "MODEL", "--cluster", "--tp", "--bogus", "--precision"]
    )


def test_where_nothing_is_legal_without_pins_the_size_and_the_batch_are_named() -> None:
    with pytest.raises(SpecError) as caught:
        planner.plan("llama-3.1-8b", "h100-dgx:37", seq_len="4k", global_batch=8)
    (problem,) = caught.value.problems
    assert (problem.field, problem.value) == ("--gpus", 296)
    assert "dp x micro-batch = 296 must divide --global-batch 8" in problem.mend
    mended = planner.plan(
        "llama-3.1-8b", "h100-dgx:37", seq_len="4k", global_batch=296, simulate=False
    )
    assert mended.best is not None


@pytest.mark.parametrize(
    ("model", "more", "shortest"),
    [("mistral-7b", {}, 4096), ("llama-3.1-8b", {"packed_len": 4096}, 4096)],
)
def test_no_shorter_sequence_is_advised_than_can_be_asked(
    model: str, more: dict[str, Any], shortest: int
) -> None:
    """Windows and packed sequences bound the length from below."""
    pins = {"tp": 1, "pp": 1, "ulysses": 1, "ring": 1, "zero": 3, "micro_batch": 1}
    bounds = Bounds.parse({**pins, "recompute": "none", "kernels": "eager"})
    for length in (shortest, 2 * shortest):
        scenario = Scenario.load(model, "h100-dgx:1", seq_len=length, global_batch=8, **more)
        space = Space(scenario.job, bounds, "unrestricted")
        for sentence in nearest_that_fits(scenario, space):
            if sentence.startswith("Sequences of "):
                assert f"{shortest // 1024}k tokens" in sentence
                assert length > shortest


def test_lengths_that_nothing_divides_are_padded() -> None:
    """131,073 tokens are three times an odd number: no ring of 2, 4 or 8 ranks cuts them."""
    job: dict[str, Any] = {"global_batch": 64, "simulate": False}
    odd = planner.plan("llama-3.1-70b", "h100-dgx:8", seq_len=131_073, **job)
    assert odd.best is None
    assert "Padded to 131,200 tokens, which 128 divides" in odd.notes[-1]
    assert planner.plan("llama-3.1-70b", "h100-dgx:8", seq_len=131_200, **job).best is not None


@pytest.mark.parametrize(("seq_len", "padded"), [(131_071, True), (131_072, False)])
def test_where_nothing_fits_with_a_cut_sequence_padding_is_named(
    seq_len: int, padded: bool
) -> None:
    """An odd length cannot be shared by any ranks; of the others some layout can."""
    found = planner.plan(
        "llama-3.1-8b", "h100-dgx:4", seq_len=seq_len, global_batch=32, top=1, simulate=False
    )
    (said,) = [note for note in found.notes if note.startswith("Sequence parallelism")]
    assert ("Padded to 131,072 tokens, sequences can be cut." in said) == padded


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("selective:mlp", {"recompute": "selective", "recompute_modules": "mlp"}),
        (
            "selective:layernorm+mlp",
            {"recompute": "selective", "recompute_modules": "layernorm,mlp"},
        ),
        ("full:5", {"recompute": "full", "recompute_layers": 5}),
    ],
)
def test_recomputation_is_read_as_tables_write_it(short: str, long: dict[str, Any]) -> None:
    assert Bounds.parse({"recompute": short}) == Bounds.parse(long)
    with pytest.raises(SpecError):
        Bounds.parse({"recompute": f"{short}x"})


@pytest.mark.parametrize(
    ("framework", "pins", "why"),
    [
        ("any", {"schedule": "dualpipe", "pp": 4}, "(no schedule dualpipe)"),
        ("megatron", {"schedule": "dualpipe", "pp": 4}, "(no schedule dualpipe)"),
        ("any", {"ring": 4, "inner_ring": 2}, "(no double ring)"),
        ("any", {"pp": 2, "tp": 1, "zero": 3, "kernels": "fused"}, "(megatron: no zero 3; "),
    ],
)
def test_a_framework_that_runs_nothing_says_what_it_lacks(
    framework: str, pins: dict[str, Any], why: str
) -> None:
    with pytest.raises(SpecError) as caught:
        planner.plan(
            "llama-3.1-8b", "h100-dgx:2", seq_len="8k", global_batch=16, framework=framework, **pins
        )
    (problem,) = caught.value.problems
    assert problem.field == "--framework"
    assert why in problem.mend


@pytest.mark.parametrize("axis", ["ep", "etp"])
def test_ranks_of_experts_are_refused_before_anything_is_searched(axis: str) -> None:
    work = Scenario.load("llama-3.1-8b", "h100-dgx:8", seq_len=32768, global_batch=64)
    assert not any(Space(work.job, Bounds.parse({axis: 2}), "unrestricted").batches())
    assert any(Space(work.job, Bounds.parse({axis: "1,2", "pp": 8}), "any").batches())
    with pytest.raises(SpecError, match="the model has no experts"):
        planner.plan("llama-3.1-8b", "h100-dgx:8", seq_len="32k", global_batch=64, **{axis: 2})
