"""Attention of one new token per sequence over keys and values that a cache keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.dtype import BF16

if TYPE_CHECKING:
    from models.compute import Device
    from models.layout import Array


def decode_attention(
    device: Device,
    *,
    sequences: Array,
    keys: Array,
    heads: Array,
    kv_heads: Array,
    width: Array,
    cache_bytes: float = BF16,
) -> Array:
    """Return the seconds of one layer's attention on one rank.

    ``t = bytes / (bandwidth * decode_fraction) + decode_s + sequences * kv_heads * decode_pair_s``

    Each key and value is read once for all query heads that share it; the products are too thin to
    matter. What every pair of a sequence and a key/value head costs besides is what kernels take to
    begin with it. Without that term, errors on the tables that these figures are fitted to are half
    as large again.

    Parameters
    ----------
    device
        The accelerator with its profile.
    sequences, keys
        Sequences of the batch, and tokens in the cache of each.
    heads, kv_heads, width
        Query heads, key/value heads and head width on this rank.
    cache_bytes
        Of one element of the cache.

    Examples
    --------
    >>> from models.compute import Device
    >>> from models.profile import load_profile
    >>> from topologies.catalogue import load_accelerator
    >>> device = Device(load_accelerator("h100-sxm"), load_profile("h100-sxm"))
    >>> sizes = {"keys": 131072.0, "heads": 32.0, "kv_heads": 8.0, "width": 128.0}
    >>> one, two = (decode_attention(device, sequences=float(n), **sizes) for n in (8, 16))
    >>> bool(1.9 < two / one < 2.0)  # long caches are bound by memory: little of it is the floor
    True
    """
    profile = device.profile
    cache = 2.0 * cache_bytes * sequences * keys * kv_heads * width
    queries = 2.0 * BF16 * sequences * heads * width
    rate = device.accelerator.hbm_Bps.value * profile.decode_fraction.value
    pairs = sequences * kv_heads * profile.decode_pair_s.value
    return (cache + queries) / rate + profile.decode_s.value + pairs
