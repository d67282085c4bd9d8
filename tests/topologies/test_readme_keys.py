"""The README's list of the keys of a tier, against what files are checked with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from topologies.cluster import TierFabric
from topologies.schema import FigureSchema
from topologies.tier_file import ClusterSchema, TierSchema, unstated

README = (Path(__file__).parents[2] / "README.md").read_text()
#: Units by what keys end in.
UNITS = {"GBps": "GB/s", "_fraction": "share", "_us": "us"}


class Row(NamedTuple):
    key: str
    unit: str
    left_out: str
    meaning: str


def rows() -> list[Row]:
    table = README.partition("<!-- keys of a tier -->")[2].partition("<!-- end -->")[0]
    lines = [line.strip("|").split("|") for line in table.strip().splitlines()[2:]]
    return [Row(*(cell.strip() for cell in line)) for line in lines]


def test_every_key_of_a_tier_is_there_once_and_in_order() -> None:
    assert [row.key.strip("`") for row in rows()] == list(TierSchema.model_fields)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.key)
def test_a_row_says_what_the_schema_does(row: Row) -> None:
    field = TierSchema.model_fields[row.key.strip("`")]
    assert row.meaning
    assert (row.left_out == "required") == field.is_required()
    default = field.get_default(call_default_factory=True)
    if isinstance(default, int):
        assert row.left_out.strip("`") == str(default).lower()
    ending = next((ending for ending in UNITS if row.key.strip("`").endswith(ending)), None)
    figure = any(
        isinstance(kind, type) and issubclass(kind, FigureSchema)
        for kind in (field.annotation, *get_args(field.annotation))
    )
    assert figure == (ending is not None)
    if ending is not None:
        assert row.unit == UNITS[ending]


def test_waits_that_are_left_out_are_those_of_unstated_tiers() -> None:
    said = {row.key.strip("`"): row.left_out for row in rows()}
    assert float(said["start_us"]) == unstated().start_us.value
    assert float(said["chunk_us"]) == unstated().chunk_us.value


def test_every_fabric_is_explained() -> None:
    (fabric,) = (row for row in rows() if row.key == "`fabric`")
    assert set(re.findall("`([a-z]+)`", fabric.meaning)) == set(get_args(TierFabric))


def test_every_key_of_a_file_is_named_before_the_table() -> None:
    said = README.partition("A file of tiers has ")[2].partition("<!-- keys of a tier -->")[0]
    named = set(re.findall("`([a-z_]+)`", said))
    assert set(ClusterSchema.model_fields) <= named
    assert {"kind", "source", "value"} <= set(re.findall("[a-z]+", said))
