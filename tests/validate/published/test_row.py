"""Tables of both schemas: told apart, read by one mapping, weighed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.validate.published.made_up import row
from tests.validate.published.sample import FILE, sample
from topologies.errors import SpecError
from validate.published.columns import ATTENTION_ONLY, COLUMNS, TRAIN_STEP, TRAINING_RUN
from validate.published.predict import predict
from validate.published.row import Row, UnexpressedError, read_table

if TYPE_CHECKING:
    from pathlib import Path

SEQUENCE = (
    "id,source,hardware,n_gpus,scope,metric,value,unit,status,grade,colour\n"
    "SP1,a@1f:x.md,H100,8,attention_only,throughput,38.5,iter/s,ok,A,red\n"
    "SP2,a@1f:x.md,H100,8,train_step,throughput,,iter/s,OOM,B,red\n"
)


def _file(folder: Path, text: str) -> str:
    path = folder / "rows.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_table_of_neither_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="row_id"):
        read_table(_file(tmp_path, "a,b\n1,2\n"))
    with pytest.raises(SpecError, match="empty"):
        read_table(_file(tmp_path, ""))
    with pytest.raises(SpecError, match="field larger"):
        read_table(_file(tmp_path, 'row_id\n"' + "x" * 200_000))
    with pytest.raises(SpecError, match="cannot be read"):
        read_table(str(tmp_path / "none.csv"))


def test_columns_that_are_missing_are_listed_and_others_ignored(tmp_path: Path) -> None:
    table = read_table(_file(tmp_path, "row_id,ref_step_time_s,colour\nX,1.0,blue\n"))
    assert "accel_class" in table.missing
    assert "blue" not in table.rows[0].cells.values()
    assert predict(table.rows)[0].skipped_because


def test_a_line_ends_where_csv_says_so(tmp_path: Path) -> None:
    (row,) = read_table(_file(tmp_path, 'row_id,model,n_accel\nX,"a\nb\u2028c",8\n')).rows
    assert (row.text("model"), row.count("gpus")) == ("a\nb\u2028c", 8)


def test_both_schemas_say_the_same_by_the_same_names(tmp_path: Path) -> None:
    first, second = read_table(_file(tmp_path, SEQUENCE)).rows
    assert (first.kind, second.kind) == ("attention_only", "train_step")
    assert (first.text("accelerator"), first.count("gpus"), first.text("grade")) == ("H100", 8, "A")
    assert (first.number("value"), first.text("metric"), first.file) == (
        38.5,
        "throughput",
        "rows.csv",
    )
    training = read_table(_file(tmp_path, "row_id,accel_class,completeness\nX,H100,B\n")).rows[0]
    assert (training.kind, training.text("accelerator"), training.text("grade")) == (
        "training_run",
        "H100",
        "B",
    )


@pytest.mark.parametrize("text", ["8", "8.0", "0.8e1", "80E-1", "8."])
def test_numbers_are_read_as_tables_write_them(text: str) -> None:
    assert row(gpus=text).number("gpus") == pytest.approx(8.0)
    assert row(gpus=text).count("gpus") == 8


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1.2.3", "is no number"),
        (".", "is no number"),
        ("-8", "is no number"),
        ("nan", "is no number"),
        ("1e400", "is no number"),
        ("1e300", "cannot be"),
        ("1e-300", "cannot be"),
        ("0", "is zero"),
        ("7.5", "is no whole number"),
        ("99999999999", "is too large"),
    ],
)
def test_a_number_that_cannot_be_is_named(text: str, reason: str) -> None:
    with pytest.raises(UnexpressedError, match=f"gpus {reason}"):
        row(gpus=text).count("gpus")


def test_zero_may_say_that_there_is_none() -> None:
    assert row(experts=0).count("experts") == 0


@pytest.mark.parametrize("kind", [TRAINING_RUN, "with experts", ATTENTION_ONLY, TRAIN_STEP])
@pytest.mark.parametrize("text", ["0", "abc", "1e29", "2147483647", "7", "\u00b2"])
def test_a_broken_cell_skips_its_row_and_no_other(text: str, kind: str) -> None:
    whole = _whole(kind)
    schema = 2 if whole.kind in (ATTENTION_ONLY, TRAIN_STEP) else 1
    names = [each[0] for each in COLUMNS if each[schema] and each[0] not in ("id", "grade")]
    broken = [replace(whole, cells={**whole.cells, name: text}) for name in names]
    found = predict([*broken, whole])
    assert all(each.error is None or math.isfinite(each.error) for each in found)
    assert all((each.predicted is None) == bool(each.skipped_because) for each in found)
    assert found[-1].error is not None


def _whole(kind: str) -> Row:
    """Return a row of a kind that is predicted."""
    if kind in (ATTENTION_ONLY, TRAIN_STEP):
        rows = read_table(str(FILE.with_name("sequence_parallel_rows.csv"))).rows
        members = [row for row in rows if row.kind == kind and row.text("ulysses").isdigit()]
    else:
        rows = sample().tables[0].rows
        members = [row for row in rows if (kind == "with experts") == bool(row.text("experts"))]
    return next(row for row in members if predict([row])[0].error is not None)


def test_no_name_stands_for_two_columns() -> None:
    names = [ours for ours, _, _ in COLUMNS]
    assert len(names) == len(set(names))


def test_repeats_of_a_configuration_weigh_together_as_much_as_one(tmp_path: Path) -> None:
    table = read_table(_file(tmp_path, "row_id,dup_group\nA,x\nB,x\nC,y\nD,\nE,\n"))
    assert [row.weight for row in table.rows] == [0.5, 0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"layers": "2147483647"}, "layers cannot be"),
        ({"experts": "2147483647"}, "experts cannot be"),
        ({"expert_layers": "99 of 48"}, "99 layers with experts of"),
        ({"top_k": "999"}, "a token cannot visit 999 of"),
        ({"heads": "99999", "head_dim": ""}, "99999 heads cannot share"),
    ],
)
def test_models_that_cannot_be_are_named(cells: dict[str, str], reason: str) -> None:
    whole = _whole("with experts")
    changed = {name: cell for name, cell in {**whole.cells, **cells}.items() if cell}
    assert predict([replace(whole, cells=changed)])[0].skipped_because.startswith(reason)
