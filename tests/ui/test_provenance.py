"""What the page says nothing measured backs."""

from __future__ import annotations

import pytest

from planner.scenario import Scenario
from topologies.figure import Provenance
from ui import tables


@pytest.mark.parametrize(
    "choices",
    [{}, {"optimizer": "adafactor", "software": "jax"}, {"precision": "nvfp4"}],
    ids=["usual", "adafactor", "nvfp4"],
)
def test_everything_assumed_has_a_value_and_a_reason(choices: dict[str, str]) -> None:
    work = {"seq_len": 4096, "global_batch": 8, "gpus": 8}
    asked = Scenario.load("llama-3.2-1b", "b200-dgx", **work, **choices)
    rows = tables.assumed(asked)
    assert tuple(row["figure"] for row in rows) == asked.provenance.assumed
    for row in rows:
        figure = asked.figures[row["figure"]]
        assert figure.kind is Provenance.ASSUMED
        assert (row["value (SI units)"], row["why"]) == (figure.value, figure.source)
        assert figure.source
