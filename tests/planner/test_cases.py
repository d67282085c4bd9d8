"""The cases the README shows, and what makes their answers right."""

from __future__ import annotations

import pytest

from models.catalogue import load_architecture
from models.profile import load_profile
from planner import estimate, plan

JOB_70B = {"seq_len": "256k", "global_batch": 64}


@pytest.fixture(scope="module")
def answer_70b():
    return plan("llama-3.1-70b", "h100-dgx:32", **JOB_70B)


def test_70b_at_256k_has_ten_fitting_layouts_in_order(answer_70b):
    assert len(answer_70b.plans) == 10
    assert all(p.fits and p.layout.gpus == 256 for p in answer_70b.plans)
    meshes = {(p.layout.dp, p.layout.tp, p.layout.pp, p.layout.cp) for p in answer_70b.plans}
    assert len(meshes) > 5
    assert answer_70b.search.legal > answer_70b.search.fit == answer_70b.search.costed > 0


def test_70b_at_256k_beats_the_layout_people_try_first(answer_70b):
    common = estimate(
        "llama-3.1-70b",
        "h100-dgx:32",
        **JOB_70B,
        tp=4,
        ulysses=4,
        pp=2,
        dp=8,
        recompute="full",
    )
    best = answer_70b.best
    assert common.step_time_s > 1.1 * best.step_time_s
    # Its 8.8 B parameters a rank hold fp32 gradients whole: arithmetic that needs no model.
    assert common.memory_bytes["gradients"] == pytest.approx(4 * 70.55e9 / 8, rel=0.02)
    assert common.runs_in == ()


def test_70b_needs_the_sequence_cut(answer_70b):
    (verdict,) = [note for note in answer_70b.notes if note.startswith("Sequence parallelism")]
    assert ": recommended." in verdict
    assert answer_70b.best.layout.cp > 1


def test_405b_published_run_lies_within_the_interval():
    answer = plan(
        "llama-3.1-405b",
        "meta-24k:2048",
        seq_len=131_072,
        global_batch=128,
        tp=8,
        ring=16,
        ulysses=1,
        pp=16,
        dp=8,
        cp_method="all_gather",
        framework="unrestricted",
    )
    best = answer.best
    # arXiv:2407.21783 table 4, which does not say whether it counts what attention masks.
    published_tflops = 380.0
    fastest, slowest = (best.tflops_per_gpu * best.step_time_s / s for s in best.interval_s)
    unmasked = best.mfu_full_attention / best.mfu
    assert slowest < published_tflops < fastest * unmasked
    assert best.layout.vp > 1  # the published run interleaves; without it half the step is bubble


def test_8b_at_4k_is_better_uncut_and_says_why():
    answer = plan("llama-3.1-8b", "h100-dgx:8", seq_len="4k", global_batch=512)
    assert answer.best.layout.cp == 1
    (verdict,) = [note for note in answer.notes if note.startswith("Sequence parallelism")]
    assert "not recommended" in verdict
    assert "less exposed context-parallel communication" in verdict


def test_what_does_not_fit_names_the_line_that_binds_and_what_would():
    answer = plan("llama-3.1-70b", "h100-dgx:2", seq_len="1m", global_batch=8)
    assert answer.best is None
    assert not answer.smallest.fits
    assert "activations" in answer.notes[0]
    (more,) = [note for note in answer.notes if note.startswith("It fits on")]
    enough = int(more.split()[3])
    assert plan("llama-3.1-70b", "h100-dgx", seq_len="1m", global_batch=8, gpus=enough).best
    half = plan("llama-3.1-70b", "h100-dgx", seq_len="1m", global_batch=8, gpus=enough // 2)
    assert half.best is None


def test_a_faster_network_never_hurts_the_best_plan():
    from planner import sweep

    points = sweep(
        "llama-3.1-8b",
        "h100-dgx:4",
        seq_lens=["64k"],
        global_batches=[32],
        networks=[0.25, 1.0, 4.0],
    )
    steps = [point.best.step_time_s for point in points]
    assert steps == sorted(steps, reverse=True)


def test_cost_and_energy_follow_from_price_power_and_time():
    one = plan("llama-3.1-8b", "h100-dgx", seq_len="8k", global_batch=16).best
    assert one.cost_usd_per_step == pytest.approx(2.95 * 8 * one.step_time_s / 3600)
    assert one.energy_J_per_step == pytest.approx(700 * 8 * one.step_time_s)
    steps = 1e12 / (8192 * 16)
    assert one.per_quoted_tokens(one.cost_usd_per_step) == pytest.approx(
        one.cost_usd_per_step * steps
    )


# ---------------------------------------------------------------------------------- the double ring


def over_two_nodes(model, seq_len, window):
    axes = {"ring": 16, "inner_ring": window, "zero": 3}
    return estimate(model, "h100-dgx:2", seq_len=seq_len, global_batch=1, **axes)


def on_the_wire_s(model, tokens):
    """Return how long a card of a flat ring of 16 sends in a step, each hop through one card.

    Fused kernels: keys and values go round in both passes, their gradients in one.
    """
    mixer = load_architecture(model).layers[0].mixer
    hop = 2 * tokens / 16 * mixer.kv_heads * mixer.head_dim * 2
    return 32 * 3 * 15 * hop / (50e9 * 0.747)


def attention_at_peak_s(tokens):
    """Return a rank's attention of 32 layers of 4,096 columns: causal, backward 2.5 as long."""
    return 32 * 3.5 * 2 * tokens**2 * 4096 / 16 / 989e12


@pytest.mark.parametrize(
    ("model", "tokens", "reached"),
    [
        (
            "llama-3.1-8b",
            16384,
            0.2,
        ),  # blocks of 1,024 tokens are slow, and the host starts them slowly
        ("llama-3.1-8b", 32768, 0.4),
        ("llama-2-7b", 131072, 0.5),  # as many keys as queries: four times the bytes
    ],
)
def test_a_double_ring_over_two_nodes_hides_what_a_flat_one_shows(model, tokens, reached):
    """A flat ring shows what it sends longer than attention runs, at some share of the peak."""
    flat, double = (over_two_nodes(model, tokens, window) for window in (1, 8))
    wire_s, peak_s = on_the_wire_s(model, tokens), attention_at_peak_s(tokens)
    assert wire_s - peak_s / reached < flat.time_s["cp"] < wire_s - peak_s
    assert 0 < double.time_s["cp"] < 0.1 * flat.time_s["cp"]
    # A host that starts blocks slowly goes on while the flat ring is waited for.
    late = double.time_s["compute"] - flat.time_s["compute"]
    assert 0 <= late < 0.5 * flat.time_s["cp"]
    saved = flat.time_s["cp"] - double.time_s["cp"] - late
    # What shards send takes of kernels; while those wait for the ring there is less to take.
    taken = double.time_s["dp"] - flat.time_s["dp"]
    assert flat.step_time_s - double.step_time_s == pytest.approx(saved - taken, rel=0.05)
    assert 0 <= taken < 0.25 * saved


def test_where_a_flat_ring_hides_in_full_windows_gain_only_what_cards_take_from_kernels():
    flat, double = (over_two_nodes("llama-3.1-8b", "256k", window) for window in (1, 8))
    steal = load_profile("h100-sxm").steal_scale_out.value
    taken_s = steal * on_the_wire_s("llama-3.1-8b", 262144)
    assert flat.time_s["cp"] == pytest.approx(taken_s, rel=0.05)
    assert 0 < flat.step_time_s - double.step_time_s < taken_s


def test_an_estimate_says_that_the_ring_is_double_and_that_nobody_known_runs_it():
    double, flat = (over_two_nodes("llama-3.1-8b", "32k", window) for window in (8, 1))
    assert double.to_dict()["layout"]["inner_ring"] == 8
    assert double.runs_in == ()
    assert flat.runs_in
    assert (
        double.memory_bytes["communicators"] > flat.memory_bytes["communicators"]
    )  # a communicator more


def test_a_plan_finds_the_double_ring_only_where_no_framework_is_asked():
    job = {"seq_len": "32k", "global_batch": 1, "ring": 16, "cp_method": "p2p"}
    known, free = (
        plan("llama-3.1-8b", "h100-dgx:2", **job, framework=framework)
        for framework in ("any", "unrestricted")
    )
    assert {found.layout.inner_ring for found in known.plans} == {1}
    assert free.best.layout.inner_ring > 1
    assert free.best.step_time_s < 0.85 * known.best.step_time_s
    assert free.search.legal > 3 * known.search.legal
