"""The schedule of blocks against the mask it must cover, and the closed forms against it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.catalogue import load_architecture
from models.inventory import layer_work
from models.named_axes import CpMethod, Kernels, SequenceOrder
from models.sequence_parallel.blocks import (
    busiest_over_mean,
    first_block_share,
    queries_attended,
)
from models.sequence_parallel.schedule import Part, chunks, schedule
from tests.models.cases import shapes

ORDERS = list(SequenceOrder)
RANKS = range(1, 65)
#: Rows or columns of a rank's block: both of its halves, the first, the second.
HALVES = {Part.WHOLE: slice(0, 2), Part.FIRST: slice(0, 1), Part.SECOND: slice(1, 2)}


def halves(order, ranks, rank):
    """Return which of 2 P halves of the sequence a rank holds, in its order."""
    if order == SequenceOrder.ZIGZAG:
        return np.array(chunks(order, ranks, rank))
    return np.array([2 * rank, 2 * rank + 1])


def attended(order, ranks, *, causal):
    """Return how often every half of the queries attends to every half of the keys.

    A causal block counts 1 below its diagonal and one half on it.
    """
    found = np.zeros((2 * ranks, 2 * ranks))
    for rank in range(ranks):
        own = halves(order, ranks, rank)
        for task in schedule(order, ranks, rank, causal=causal):
            block = np.array([[0.5, 0.0], [1.0, 0.5]]) if task.causal else np.ones((2, 2))
            rows, columns = HALVES[task.queries], HALVES[task.keys]
            keys = halves(order, ranks, task.source)[columns]
            found[np.ix_(own[rows], keys)] += block[rows, columns]
    return found


@pytest.mark.parametrize("order", ORDERS)
def test_every_query_attends_once_to_every_key_it_may(order):
    for ranks in RANKS:
        halves_of_all = 2 * ranks
        mask = np.tri(halves_of_all) - 0.5 * np.eye(halves_of_all)
        assert np.array_equal(attended(order, ranks, causal=True), mask)
        assert np.array_equal(attended(order, ranks, causal=False), np.ones_like(mask))


@pytest.mark.parametrize("order", ORDERS)
def test_keys_come_from_the_rank_that_is_as_many_hops_behind(order):
    for ranks in RANKS:
        for rank in range(ranks):
            tasks = schedule(order, ranks, rank)
            assert [task.source for task in tasks] == [(rank - task.step) % ranks for task in tasks]
            assert [task.step for task in tasks] == sorted({task.step for task in tasks})
            assert tasks[0].source == rank


@pytest.mark.parametrize("order", ORDERS)
def test_the_inventory_reads_sums_over_the_schedule(order):
    attention = load_architecture("llama-3.1-8b").kinds[0].mixer
    for ranks in RANKS:
        shape = shapes(128 * ranks, ring=ranks, sequence_order=order)
        tasks = [schedule(order, ranks, rank) for rank in range(ranks)]
        pairs = np.array([sum(task.pairs for task in own) for own in tasks])
        assert pairs.mean() == pytest.approx(ranks / 2)  # of the P blocks of a rank, half
        assert busiest_over_mean(attention, shape)[0] == pytest.approx(pairs.max() / pairs.mean())
        queries = np.array([sum(task.queries.share for task in own) for own in tasks])
        busiest = np.isclose(pairs, pairs.max())
        assert queries_attended(attention, shape)[0] == pytest.approx(queries[busiest].mean())
        for task in tasks[int(np.argmax(pairs))][1:]:
            first = tasks[int(np.argmax(pairs))][0].pairs / task.pairs
            assert first_block_share(attention, shape)[0] == pytest.approx(first)


@pytest.mark.parametrize("window", [1, 3, 32, 90, 300, 4000])
@pytest.mark.parametrize("order", ORDERS)
def test_the_busiest_rank_of_a_window_has_the_most_keys(order, window):
    """Of which a query counts its own as half."""
    attention = replace(load_architecture("mistral-7b").kinds[0].mixer, window=window)
    for ranks in (1, 2, 3, 8, 16):
        shape = shapes(64 * ranks, ring=ranks, sequence_order=order)
        seen = np.minimum(np.arange(64 * ranks) + 0.5, window)
        parts = seen.reshape(len(chunks(order, ranks, 0)) * ranks, -1).sum(1)
        pairs = np.array([parts[list(chunks(order, ranks, rank))].sum() for rank in range(ranks)])
        assert busiest_over_mean(attention, shape)[0] == pytest.approx(pairs.max() / pairs.mean())
        assert first_block_share(attention, shape)[0] == 1.0 or window >= 64 * ranks


@pytest.mark.parametrize("kernels", list(Kernels))
@pytest.mark.parametrize("name", ["llama-3.1-8b", "mistral-7b"])
def test_what_a_window_reaches_of_gathered_keys_is_attended_to_at_once(name, kernels):
    """Without one, eager kernels merge what each rank's keys give."""
    architecture = load_architecture(name)
    axes = {"ring": 8, "cp_method": CpMethod.ALL_GATHER, "kernels": kernels}
    work = layer_work(architecture.kinds[0], architecture.hidden, shapes(2**17, **axes))
    merges = name == "llama-3.1-8b" and kernels is Kernels.EAGER
    for computed in (work.forward_compute(), work.backward_compute()):
        ops = {op.name: op for op in computed}
        assert (ops["ring merge"].nbytes[0] > 0) == merges
