"""The longest sequence against searches of their own."""

import pytest

from planner.bounds import Bounds
from planner.choices import Choices
from planner.longest import longest_sequences
from planner.ranking import plan_scenario
from planner.scenario import Scenario
from topologies.errors import SpecError

PINS = Bounds.parse({"kernels": "fused", "recompute": "full", "zero": 3, "recompute_layers": 0})


def scenario():
    return Scenario.asked(
        "llama-3.1-8b", "h100-dgx", seq_len=8192, global_batch=8, gpus=8, choices=Choices()
    )


def test_it_fits_and_twice_the_length_does_not():
    done = []
    found = longest_sequences(scenario(), [4, 8], PINS, progress=done.append)
    assert done == [1, 2]
    assert [each.gpus for each in found] == [4, 8]
    assert found[0].seq_len < found[1].seq_len
    for each in found:
        for length, fits in ((each.seq_len, True), (2 * each.seq_len, False)):
            asked = Scenario.asked(
                "llama-3.1-8b",
                "h100-dgx",
                seq_len=length,
                global_batch=8,
                gpus=each.gpus,
                choices=Choices(),
            )
            assert bool(plan_scenario(asked, PINS, top=1).plans) == fits


def test_what_never_fits_has_none():
    asked = Scenario.asked(
        "llama-3.1-405b", "h100-dgx", seq_len=8192, global_batch=8, gpus=8, choices=Choices()
    )
    assert longest_sequences(asked, [8], PINS)[0].seq_len is None


def test_no_longer_than_asked():
    assert longest_sequences(scenario(), [8], PINS, most=2048)[0].seq_len == 2048


def test_impossible_numbers_of_accelerators_are_refused():
    with pytest.raises(SpecError, match="12"):
        longest_sequences(scenario(), [8, 12], PINS)
