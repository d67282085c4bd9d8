"""Published times of attention alone: predicted, bounded, and noticed where they are shuffled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from validate.published.attention_job import attention_job, degrees
from validate.published.attention_rows import predict_attention
from validate.published.attention_time import attention_seconds
from validate.published.columns import ATTENTION_ONLY
from validate.published.machine_of import cluster_name
from validate.published.measured_value import measured_seconds, value_of
from validate.published.predicted import Predicted, Quantity
from validate.published.row import Row, UnexpressedError, read_table

FILE = Path(__file__).parents[2] / "data" / "sequence_parallel_rows.csv"


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
    return tuple(row for row in read_table(str(FILE)).rows if row.kind == ATTENTION_ONLY)


@pytest.fixture(scope="module")
def found(rows: tuple[Row, ...]) -> tuple[Predicted, ...]:
    return tuple(predict_attention(rows, lambda _: None))


def errors(found: tuple[Predicted, ...]) -> np.ndarray:
    return np.array([abs(each.error) for each in found if each.error is not None])


def test_times_of_every_source_are_within_bounds(found: tuple[Predicted, ...]) -> None:
    assert len(errors(found)) >= 20
    assert np.median(errors(found)) < 0.15
    assert errors(found).max() < 0.45
    assert all(each.quantity is Quantity.TIME for each in found if each.error is not None)


def test_shuffled_measurements_are_noticed(found: tuple[Predicted, ...]) -> None:
    done = [each for each in found if each.error is not None]
    order = np.random.default_rng(0).permutation(len(done))
    mixed = [replace(one, measured=done[at].measured) for one, at in zip(done, order, strict=True)]
    assert np.median(errors(tuple(mixed))) > 3 * np.median(errors(found))


def test_what_is_skipped_says_why(found: tuple[Predicted, ...]) -> None:
    reasons = {each.skipped_because for each in found if each.error is None}
    assert len(reasons) == 2
    for words in ("packed sequences", "memory of attention"):
        assert any(words in reason for reason in reasons)


def plain(**cells: str) -> Row:
    """Return 4,096 tokens of 8 heads on 8 H100, Ulysses over all, with other cells."""
    usual = {
        "accelerator": "H100",
        "gpus": "8",
        "heads": "8",
        "head_dim": "128",
        "seq_len": "4096",
        "causal": "1",
        "method": "ulysses",
        "pass": "fwd",
        "unit": "TFLOP/s/GPU",
        "value": "100",
    }
    return Row({**usual, **cells}, 1.0)


def test_flop_are_of_the_pairs_a_mask_leaves() -> None:
    """4 b S^2 H d, halved if causal; the backward pass 2.5 times as much."""
    full = 4.0 * 4096**2 * 8 * 128
    assert attention_job(plain()).flop == full / 2
    assert attention_job(plain(causal="0")).flop == full
    assert attention_job(plain(**{"pass": "bwd", "global_batch": "3"})).flop == 3 * 2.5 * full / 2


def test_one_mapping_turns_units_to_seconds() -> None:
    def taken(**cells: str) -> float:
        return measured_seconds(plain(**cells), flop=8e15, tokens=8e3, peak=1e15)

    assert taken(unit="iter/s", value="4") == 0.25
    assert taken(unit="ms", value="250") == 0.25
    assert taken(unit="TFLOP/s/GPU", value="500") == pytest.approx(2.0)
    assert taken(unit="%", value="50") == pytest.approx(2.0)
    assert taken(unit="tokens/s", value="4000") == 2.0
    assert taken(unit="tokens/s/GPU", value="500") == 2.0
    assert value_of(plain(unit="GB (as printed)", value="2"))[1] == 2.0 * 1024**3
    with pytest.raises(UnexpressedError, match="unit not known"):
        value_of(plain(unit="furlongs"))
    with pytest.raises(UnexpressedError, match="no time follows"):
        taken(unit="tokens", value="4")


def test_methods_without_degrees_have_all_ranks_on_one_axis() -> None:
    assert degrees(plain()) == (8, 1)
    assert degrees(plain(method="ring_p2p")) == (1, 8)
    assert degrees(plain(method="hybrid_dcp", ulysses="dynamic", ring="dynamic")) == (1, 8)
    assert degrees(plain(method="magi_attn-native")) == (1, 8)
    assert degrees(plain(method="usp", ulysses="4", ring="2")) == (4, 2)
    with pytest.raises(UnexpressedError, match="degrees"):
        degrees(plain(method="tree"))


@pytest.mark.parametrize(
    ("accelerator", "interconnect", "cluster"),
    [
        ("A100-SXM4-80GB", "NVLink", "a100-dgx"),
        ("A100-SXM4-80GB", "PCIe (title says SXM4)", "a100-pcie-staged"),
        ("A100 (SXM not stated)", "", "a100-dgx"),
        ("A100-40GB", "", "a100-40gb-dgx"),
        ("H200 141GB", "", "h200-hgx"),
        ("L20", "PCIe (no NVLink)", "l20-pcie"),
    ],
)
def test_machines_are_known_by_longer_names(
    accelerator: str, interconnect: str, cluster: str
) -> None:
    assert cluster_name(plain(accelerator=accelerator, interconnect=interconnect)) == cluster


def test_full_and_striped_rings_against_counted_pairs() -> None:
    """Work of the busiest rank, counted pair by pair, sets the ratio of long rings."""

    def busiest(order: str, causal: str, ranks: int = 4, tokens: int = 64) -> float:
        place = np.arange(tokens)
        owner = place % ranks if order == "striped" else place * ranks // tokens
        seen = place[:, None] >= place[None, :] if causal == "1" else np.ones((tokens, tokens))
        return max(float(seen[owner == rank].sum()) for rank in range(ranks))

    def seconds(order: str, causal: str) -> float:
        row = plain(
            method="ring", ring="4", ulysses="1", gpus="4", seq_len=str(2**20), seq_layout=order
        )
        return attention_seconds(attention_job(Row({**row.cells, "causal": causal}, 1.0)))[0]

    base = seconds("contiguous", "1"), busiest("contiguous", "1")
    for order, causal in (("contiguous", "0"), ("striped", "1")):
        ratio = busiest(order, causal) / base[1]
        assert seconds(order, causal) / base[0] == pytest.approx(ratio, rel=0.05)


def test_fewer_bytes_through_host_memory_are_slower_only_for_collectives() -> None:
    """A hop to the next of eight L20 is faster than their all-to-all of as many bytes."""
    shared = {"accelerator": "L20", "heads": "32", "head_dim": "32", "seq_len": "131072"}
    ring, exchange = (
        attention_seconds(attention_job(plain(**shared, method=method)))[0]
        for method in ("ring", "ulysses")
    )
    assert exchange > 1.5 * ring
