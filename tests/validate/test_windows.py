"""Sliding windows: the blocks they are made of, and chunks of a sequence on several ranks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.named_axes import SequenceOrder
from tests.validate.slips import wrong
from topologies.errors import SpecError
from validate import exactness
from validate.cases import cases
from validate.kernels import gathered_window, window
from validate.kernels.axis import VirtualAxis
from validate.kernels.ring import Ring

WINDOWS_OVER_RANKS = {
    f"all-gather {order.label}, window{packed}"
    for order in SequenceOrder
    for packed in ("", ", packed")
}


@pytest.mark.parametrize("start", [0, 1, 2, 5, 16])
@pytest.mark.parametrize("queries", [1, 5, 8, 9, 17, 24])
@pytest.mark.parametrize("size", [1, 2, 3, 8, 40])
def test_the_blocks_of_a_window_cover_it_once(queries, size, start):
    before = min(start, size)
    seen = torch.zeros(queries, before + queries)
    for band in window.bands(queries, size, before):
        rows = torch.arange(queries)[band.queries]
        columns = torch.arange(before + queries)[band.keys]
        if band.backwards:
            rows, columns = rows.flip(0), columns.flip(0)
        block_of = torch.ones(len(rows), len(columns))
        if band.causal:
            assert len(rows) == len(columns)
            block_of = block_of.tril()
        seen[rows[:, None], columns] += block_of
    behind = before + torch.arange(queries)[:, None] - torch.arange(before + queries)
    assert seen.equal(((behind >= 0) & (behind < size)).float())


def test_a_window_that_is_one_key_too_wide_is_seen(monkeypatch):
    once = window.bands
    monkeypatch.setattr(window, "bands", lambda queries, size, *on: once(queries, size + 1, *on))
    assert set(wrong(4)) == {"ulysses, window", "ulysses, window, packed"} | WINDOWS_OVER_RANKS


def test_a_key_too_few_before_a_chunk_is_seen(monkeypatch):
    """Of as many keys as the window the first is no query's: of two fewer one is missing."""
    once = gathered_window._reached
    monkeypatch.setattr(gathered_window, "_reached", lambda *x: once(*x[:-1], x[-1] - 2))
    assert set(wrong(4)) == WINDOWS_OVER_RANKS


def test_gradients_that_stay_in_a_chunk_are_seen(monkeypatch):
    def own_only(totals, found):
        own = totals[-1].shape[-2]
        totals[-1][0] += found.keys[:, :, -own:]
        totals[-1][1] += found.values[:, :, -own:]

    monkeypatch.setattr(gathered_window, "_add", own_only)
    assert set(wrong(4)) == WINDOWS_OVER_RANKS


def test_a_window_over_gathered_keys_goes_with_ulysses():
    (case,) = (c for c in cases(4, ["f64"]) if c.method == "all-gather zigzag, window, packed")
    for size in (2, 7, 96, 192):
        (checked,) = exactness.check_virtually([replace(case, ulysses=2, ring=4, window=size)])
        assert checked.exact, checked


def test_windows_go_over_gathered_keys_and_only_backwards():
    two = VirtualAxis([[0, 1]])
    how = Ring(order=SequenceOrder.ZIGZAG, window=8, gathers=True)
    how.check(two)
    for wrong_one in (
        replace(how, gathers=False),
        replace(how, causal=False),
        replace(how, window=0),
    ):
        with pytest.raises(SpecError, match=r"--window = .: a number of keys, of causal attention"):
            wrong_one.check(two)
