"""Attention of one new token over a cache: bounds of memory, the floor, shared heads."""

from __future__ import annotations

import numpy as np
import pytest

from models.compute import Device
from models.decode_attention import decode_attention
from models.profile import load_profile
from topologies.catalogue import load_accelerator

H100 = Device(load_accelerator("h100-sxm"), load_profile("h100-sxm"))
SIZES = {"sequences": 16.0, "keys": 32768.0, "heads": 32.0, "kv_heads": 8.0, "width": 128.0}


def taken(on=H100, **changed):
    return decode_attention(on, **{**SIZES, **changed})


def test_no_cache_is_read_faster_than_memory_is() -> None:
    nbytes = 2 * 2 * 16 * 32768 * 8 * 128
    assert taken() > nbytes / H100.accelerator.hbm_Bps.value
    assert taken() < 1.3 * nbytes / H100.accelerator.hbm_Bps.value


def test_a_short_cache_takes_the_floor() -> None:
    floor = H100.profile.decode_s.value
    assert taken(sequences=1.0, keys=1.0) == pytest.approx(floor, rel=0.05)


def test_query_heads_that_share_keys_read_them_once() -> None:
    alone, shared = taken(kv_heads=32.0), taken(kv_heads=4.0)
    assert 6.0 < alone / shared < 8.0


def test_a_cache_of_half_the_bytes_takes_about_half_as_long() -> None:
    assert taken(cache_bytes=1.0) / taken() == pytest.approx(0.5, abs=0.03)


def test_arrays_give_each_the_time_it_has_alone() -> None:
    keys = np.array([1024.0, 8192.0, 131072.0])
    every = taken(keys=keys)
    assert list(every) == [taken(keys=each) for each in keys]
    assert (np.diff(every) > 0).all()
