"""One kind of accelerator: what its data sheet says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topologies.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """A GPU, TPU chip or other accelerator; every figure carries its source.

    Parameters
    ----------
    name, title, vendor
        Catalogue name, the name people read, and the maker.
    device_name
        What its driver calls it, or how that begins; empty if nobody asked one.
    compute_units
        Streaming multiprocessors, compute units or tensor cores that share one kernel's tiles.
    bf16_flops
        Dense bf16 peak in FLOP/s: the denominator of every MFU.
    hbm_bytes, hbm_Bps
        Device memory and its bandwidth.
    fp8_flops, matmul_flops, power_W, price_usd_per_hour
        Dense fp8 peak, best measured bf16 matmul, board power and on-demand price, where known.
    """

    name: str
    title: str
    vendor: str
    device_name: str = ""
    compute_units: Figure
    bf16_flops: Figure
    hbm_bytes: Figure
    hbm_Bps: Figure
    fp8_flops: Figure | None = None
    matmul_flops: Figure | None = None
    power_W: Figure | None = None
    price_usd_per_hour: Figure | None = None
