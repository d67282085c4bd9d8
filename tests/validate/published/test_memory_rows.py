"""Memory of published runs: what its words mean, how far off it is, and what fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from validate.published import accuracy_report
from validate.published.errors import Errors
from validate.published.machine_of import cluster_name
from validate.published.memory_rows import Memory, memory_kind
from validate.published.predict import predict
from validate.published.predicted import Predicted, Quantity
from validate.published.row import Row, read_table

FILE = Path(__file__).parents[2] / "data" / "published_memory.csv"


@pytest.fixture(scope="module")
def found() -> tuple[Predicted, ...]:
    return predict(read_table(str(FILE)).rows)


@pytest.fixture(scope="module")
def memory(found: tuple[Predicted, ...]) -> Memory:
    return Memory.of(found)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("max nvidia-smi memory of first/last nodes, integer GB; includes CUDA context", "device"),
        ("integer GB, tool not stated (nvidia-smi presumably)", "device"),
        ("max_memory (GB of 192, % of HBM)", "device"),
        ("max_memory_reserved, worst rank, GiB", "reserved"),
        ("torch.cuda.max_memory_allocated", "allocated"),
        ("torch peak (GiB)", "allocated"),
        ("", "allocated"),
    ],
)
def test_words_of_tables_mean_a_sum_of_the_bill(words: str, kind: str) -> None:
    assert memory_kind(Row({"memory_kind": words}, 1.0)) == kind


def test_memory_is_within_a_tenth_of_what_was_measured(memory: Memory) -> None:
    for errors in (memory.errors(), *memory.by_source().values()):
        assert errors.n
        assert errors.median < 0.1
        assert abs(errors.bias) < 0.1
    assert memory.errors().p90 < 0.15
    assert set(memory.by_kind()) == {"device"}


def test_shuffled_figures_are_noticed(memory: Memory) -> None:
    order = np.random.default_rng(0).permutation(len(memory.found))
    figures = [each.measured for each in memory.found]
    shuffled = [
        replace(each, measured=figures[at]) for each, at in zip(memory.found, order, strict=True)
    ]
    assert Errors.of(shuffled).median > 2 * memory.errors().median
    assert Errors.of(shuffled).coverage < memory.errors().coverage


def test_what_ran_fits_and_what_ran_out_of_memory_does_not(memory: Memory) -> None:
    assert (memory.ran, memory.oom) == (16, 6)
    assert memory.ran_called_oom == 0
    assert memory.oom_called_fitting <= 1


def test_a_run_counts_once_and_each_mistake_is_counted() -> None:
    ran, over = (Row({}, 1.0) for _ in range(2))
    found = [
        Predicted(row=ran, quantity=Quantity.TIME, measured=1.0, predicted=2.0, fits=False),
        Predicted(row=ran, quantity=Quantity.MEMORY, measured=1.0, predicted=2.0, fits=False),
        Predicted(row=over, quantity=Quantity.FITS, measured=0.0, predicted=1.0, fits=True),
        Predicted(row=Row({}, 1.0), quantity=Quantity.TIME, skipped_because="not known"),
    ]
    counted = Memory.of(found)
    assert (counted.ran, counted.ran_called_oom) == (1, 1)
    assert (counted.oom, counted.oom_called_fitting) == (1, 1)
    assert counted.errors().median == 1.0


def test_times_and_memory_are_told_apart(found: tuple[Predicted, ...]) -> None:
    recorded = accuracy_report.record(found)
    timed = [each for each in found if each.quantity is Quantity.TIME]
    assert recorded["overall"]["n"] == sum(each.error is not None for each in timed)
    assert recorded["memory"]["n"] == 16
    assert set(recorded["memory"]["by_source"]) == {"bigscience-176b-prequel", "internevo"}
    assert recorded["memory"]["oom"] == 6


def test_any_few_accelerators_of_a_switched_node_are_a_machine() -> None:
    """Held out when the step of InternEvo was modelled: 72, 49 and 39 GB on 3, 5 and 6 A100."""
    whole = next(row for row in read_table(str(FILE)).rows if row.text("id") == "RA-1584")
    for ranks, measured in ((3, 72.0), (5, 49.0), (6, 39.0)):
        cells = {"gpus": str(ranks), "dp": str(ranks), "global_batch": str(4 * ranks)}
        row = replace(whole, cells={**whole.cells, **cells, "peak_memory": str(measured)})
        (found,) = predict([row])
        assert found.error is not None, found.skipped_because
        assert abs(found.error) < 0.1


def test_remarks_do_not_name_the_machine() -> None:
    row = next(row for row in read_table(str(FILE)).rows if row.text("id") == "RA-1584")
    remark = {**row.cells, "accelerator": "A100-80GB (elsewhere A100-40GB)"}
    assert cluster_name(replace(row, cells=remark)) == cluster_name(row)


def test_no_memory_stated_is_no_memory_reported() -> None:
    nothing = Memory.of([])
    assert nothing.named_errors() == {}
    assert nothing.record()["median_abs_error"] is None
