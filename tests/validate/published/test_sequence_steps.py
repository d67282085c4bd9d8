"""Training steps of sequence parallelism: times, memory, lengths and what fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.inventory import model_flop
from models.layout import LayoutBatch
from models.named_axes import Kernels
from validate.published.columns import TRAIN_STEP
from validate.published.job_of import layout_of, scenario_of
from validate.published.machine_of import machine_of
from validate.published.predicted import Predicted, Quantity
from validate.published.row import Row, UnexpressedError, read_table
from validate.published.sequence_steps import predict_steps
from validate.published.sparing import Sparing
from validate.published.stated_step import stated_step
from validate.published.states_of import states_of

if TYPE_CHECKING:
    from planner.plans import Plan

FILE = Path(__file__).parents[2] / "data" / "sequence_parallel_rows.csv"


@pytest.fixture(scope="module")
def found() -> tuple[Predicted, ...]:
    rows = [row for row in read_table(str(FILE)).rows if row.kind == TRAIN_STEP]
    return tuple(predict_steps(rows, lambda _: None))


def timed(found: tuple[Predicted, ...]) -> list[Predicted]:
    """Return the times of the one source whose batches and rates are all stated."""
    return [
        each for each in found if each.error is not None and "xtuner" in each.row.text("source")
    ]


def test_times_are_within_bounds(found: tuple[Predicted, ...]) -> None:
    errors = [abs(each.error or 0.0) for each in timed(found)]
    assert len(errors) >= 4
    assert np.median(errors) < 0.2
    assert max(errors) < 0.4


def test_shuffled_measurements_are_noticed(found: tuple[Predicted, ...]) -> None:
    done = timed(found)
    shifted = [
        replace(one, measured=other.measured)
        for one, other in zip(done, done[1:] + done[:1], strict=True)
    ]
    assert min(abs(each.error or 0.0) for each in shifted) > 0.5


def test_what_ran_out_of_memory_is_said_not_to_fit(found: tuple[Predicted, ...]) -> None:
    (one,) = (
        each
        for each in found
        if each.quantity is Quantity.FITS and "xtuner" in each.row.text("source")
    )
    assert (one.measured, one.predicted, one.fits) == (0.0, 0.0, False)


def test_what_is_skipped_says_why(found: tuple[Predicted, ...]) -> None:
    reasons = {each.skipped_because for each in found if each.layout is None}
    assert reasons == {"time of an optimizer in host memory is not modelled"}


def of(found: tuple[Predicted, ...], quantity: Quantity, source: str) -> dict[str, float]:
    """Return errors of one quantity and source, by row."""
    rows = (each for each in found if each.quantity is quantity and each.error is not None)
    return {
        each.row.text("id"): each.error or 0.0 for each in rows if source in each.row.text("source")
    }


def test_lengths_of_tiled_steps_are_within_bounds(found: tuple[Predicted, ...]) -> None:
    """Llama 3.1 8B on H200 and over 8 H100, Qwen3 32B over 64: losses and MLPs in tiles."""
    errors = of(found, Quantity.LENGTH, "ArcticTraining")
    assert errors.keys() == {"SP0890", "SP0903", "SP0905", "SP0907"}
    assert max(map(abs, errors.values())) < 0.15


def test_memory_of_tiled_steps_is_within_bounds(found: tuple[Predicted, ...]) -> None:
    """By nvidia-smi, of 1.2 million tokens on one device and 15 million over 64."""
    errors = of(found, Quantity.MEMORY, "ArcticTraining")
    assert errors.keys() == {"SP0903", "SP0905", "SP0907"}
    assert max(map(abs, errors.values())) < 0.1


def test_tiles_of_losses_leave_the_heads_parameters_whole() -> None:
    """Of a short sequence its loss is little, and the head gathered before it more."""
    row = stated_step(plain(seq_len="1024"))
    scenario = scenario_of(row)
    layout = layout_of(row, scenario)
    held = [
        Sparing(loss=loss).bytes_on_device(scenario, layout, "allocated") for loss in (False, True)
    ]
    fewer = scenario.architecture.vocab - scenario.architecture.hidden
    assert 0 <= held[0] - held[1] < 0.2 * fewer * scenario.architecture.hidden * 2.0


@pytest.mark.parametrize(
    ("cells", "sent", "tool"),
    [
        ({}, "bf16", ""),
        (
            {"source": "snowflakedb/ArcticTraining", "method": "ALST liger only"},
            "fp32",
            "nvidia-smi",
        ),
        ({"source": "huggingface/blog"}, "bf16", ""),
    ],
)
def test_sources_tell_what_is_sent_and_which_tool_read_memory(
    cells: dict[str, str], sent: str, tool: str
) -> None:
    """DeepSpeed keeps gradients as they come, and sends fp32 where it cuts sequences itself."""
    row = stated_step(plain(**cells))
    states = states_of(row)
    assert (states.gradients, states.reduce) == ("bf16", sent)
    assert row.text("memory_kind") == tool


def test_memory_whose_tool_no_row_names_is_what_tensors_take(found: tuple[Predicted, ...]) -> None:
    errors = of(found, Quantity.MEMORY, "deepspeedai")
    assert errors.keys() == {"SP0756", "SP0758", "SP0759", "SP0768"}
    assert abs(errors["SP0756"]) < 0.05
    assert max(map(abs, errors.values())) < 0.25


def plain(**cells: str) -> Row:
    """Return a step of Llama 2 7B over 8 A100, Ulysses over all, with other cells."""
    usual = {
        "source": "InternLM/xtuner",
        "accelerator": "A100-80GB",
        "gpus": "8",
        "model": "Llama-2-7B",
        "seq_len": "131072",
        "global_batch": "1",
        "method": "Ulysses",
        "cp": "8",
        "ulysses": "8",
        "zero": "ZeRO-3",
        "recompute": "full (gradient checkpointing)",
        "metric": "throughput",
        "unit": "tokens/s/GPU",
        "value": "1000",
    }
    return Row({**usual, **cells}, 1.0, kind=TRAIN_STEP)


@pytest.mark.parametrize(
    ("cells", "sequences", "each"),
    [
        ({"global_batch": "1"}, "1", "1"),
        ({"global_batch": "1 per SP group x grad-acc sp"}, "8", "1"),
        ({"global_batch": "2 x grad-acc 8"}, "16", "2"),
        ({"global_batch": "1", "cp": "2", "ulysses": "2"}, "4", "1"),
    ],
)
def test_batches_are_of_every_replica(cells: dict[str, str], sequences: str, each: str) -> None:
    row = stated_step(plain(**cells))
    assert (row.text("global_batch"), row.text("micro_batch")) == (sequences, each)


def test_what_is_not_modelled_is_refused() -> None:
    for cells, words in (
        ({"method": "FPDT"}, "chunks of keys"),
        ({"global_batch": "some"}, "batch not expressed"),
        ({"cp": "3", "ulysses": "3"}, "do not divide"),
    ):
        with pytest.raises(UnexpressedError, match=words):
            stated_step(plain(**cells))


def planned(**cells: str) -> Plan:
    row = stated_step(plain(**cells))
    scenario = scenario_of(row)
    (plan,) = scenario.evaluate(LayoutBatch.of([layout_of(row, scenario)]))
    return plan


@pytest.mark.parametrize("status", ["ok (max of power-of-two sweep)", "max_ok"])
def test_the_longest_sequence_fits_and_no_longer_one(status: str) -> None:
    row = plain(status=status, metric="max sequence length", unit="tokens", value="500000")
    (one,) = predict_steps([row], lambda _: None)
    assert one.quantity is Quantity.LENGTH
    length = int(one.predicted or 0)
    doubling = "power" in status
    assert (length & (length - 1) == 0) == doubling
    assert planned(seq_len=str(length)).fits
    power = 1 << (length.bit_length() - 1)
    longer = 2 * length if doubling else length + power // 128
    assert not planned(seq_len=str(longer)).fits


def test_shares_of_the_peak_count_attention_unmasked() -> None:
    """Of long sequences that is nearly twice the FLOP which a mask leaves."""
    row = plain(unit="%", metric="MFU", value="40", seq_len="1048576")
    (one,) = predict_steps([row], lambda _: None)
    scenario = scenario_of(stated_step(row))
    done = 8 * 0.4 * scenario.device.accelerator.peak_flops("bf16") * (one.measured or 0.0)
    assert 1.8 < done / model_flop(scenario.architecture, scenario.workload) < 2.0


def test_software_follows_the_source() -> None:
    """xtuner's norms and rotations are fused, plain modules under DeepSpeed are not."""
    for source, software, kernels in (
        ("InternLM/xtuner", "xtuner", Kernels.FUSED),
        ("huggingface", "hugging-face", Kernels.EAGER),
    ):
        row = stated_step(plain(source=source))
        scenario = scenario_of(row)
        assert scenario.workload.software == software
        assert layout_of(row, scenario).kernels == kernels


@pytest.mark.parametrize(
    ("source", "stated", "gigabytes"),
    [
        ("InternLM/xtuner", "", 6.25),  # 4 x 100 Gb/s for eight, as InternEvo's nodes
        ("InternLM/xtuner", "8 x 200 Gb/s", 25.0),
        ("huggingface", "", 25.0),
    ],
)
def test_a_network_that_is_not_stated_is_the_laboratorys(
    source: str, stated: str, gigabytes: float
) -> None:
    row = plain(source=source, interconnect=stated, accelerator="A100", gpus="32")
    cards = machine_of(stated_step(row)).tiers[1]
    assert cards.Bps.value == pytest.approx(gigabytes * 1e9)
