"""Max-min fairness: hand cases, certificates on random networks, and what never helps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.max_min import certificate
from topologies.max_min import max_min_rates


@st.composite
def networks(draw):
    flows, links = draw(st.integers(1, 12)), draw(st.integers(1, 8))
    use = draw(st.lists(st.booleans(), min_size=flows * links, max_size=flows * links))
    weights = draw(st.lists(st.floats(0.1, 9.0), min_size=flows * links, max_size=flows * links))
    load = (np.array(use, float) * np.array(weights)).reshape(flows, links)
    load[np.arange(flows), np.arange(flows) % links] += 1.0  # every flow uses a link
    capacity = np.array(draw(st.lists(st.floats(0.5, 100.0), min_size=links, max_size=links)))
    return load, capacity


def test_the_textbook_case_of_three_flows():
    load = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    assert max_min_rates(load, np.array([1.0, 2.0])).tolist() == [0.5, 0.5, 1.5]


def test_a_flow_without_links_gets_its_limit():
    rates = max_min_rates(np.zeros((2, 1)), np.array([1.0]), np.array([3.0, np.inf]))
    assert rates.tolist() == [3.0, np.inf]


def test_what_one_flow_may_not_use_goes_to_the_others():
    load = np.ones((3, 1))
    rates = max_min_rates(load, np.array([9.0]), np.array([1.0, np.inf, np.inf]))
    assert rates.tolist() == pytest.approx([1.0, 4.0, 4.0])


@settings(max_examples=300, deadline=None)
@given(networks())
def test_every_solution_carries_its_certificate(network):
    load, capacity = network
    rates = max_min_rates(load, capacity)
    assert certificate(load, capacity, rates)


@settings(max_examples=100, deadline=None)
@given(networks(), st.integers(0, 11))
def test_the_certificate_refuses_unfair_and_impossible_rates(network, which):
    load, capacity = network
    rates = max_min_rates(load, capacity)
    assert not certificate(load, capacity, rates * 1.01)
    slower = rates.copy()
    slower[which % len(rates)] *= 0.9
    assert not certificate(load, capacity, slower)


@settings(max_examples=100, deadline=None)
@given(networks(), st.floats(1.0, 3.0))
def test_wider_links_scale_rates_and_the_slowest_flow_never_loses(network, factor):
    load, capacity = network
    rates = max_min_rates(load, capacity)
    np.testing.assert_allclose(max_min_rates(load, capacity * factor), rates * factor, rtol=1e-9)
    wider = capacity.copy()
    wider[0] *= factor
    assert max_min_rates(load, wider).min() >= rates.min() * (1 - 1e-9)
