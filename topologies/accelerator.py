"""One kind of accelerator: what its data sheet says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from topologies.errors import Problem, SpecError

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
    fp8_flops, fp4_flops
        Dense fp8 and fp4 peaks, where it has them.
    matmul_flops, fp8_matmul_flops
        Best measured bf16 and fp8 matmul, where known.
    power_W, price_usd_per_hour
        Board power and on-demand price, where known.
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
    fp4_flops: Figure | None = None
    matmul_flops: Figure | None = None
    fp8_matmul_flops: Figure | None = None
    power_W: Figure | None = None
    price_usd_per_hour: Figure | None = None

    def peaks(self) -> dict[str, Figure]:
        """Return the dense peak of every dtype it multiplies: bf16, and fp8 and fp4 if it does."""
        known = {"bf16": self.bf16_flops, "fp8": self.fp8_flops, "fp4": self.fp4_flops}
        return {dtype: peak for dtype, peak in known.items() if peak is not None}

    def peak_flops(self, dtype: str) -> float:
        """Return the dense peak of a dtype.

        Raises
        ------
        SpecError
            If it does not multiply that dtype.
        """
        if dtype not in self.peaks():
            mend = f"{self.title} has no dense {dtype} peak"
            raise SpecError([Problem("--precision", dtype, mend)])
        return self.peaks()[dtype].value

    def best_flops(self, dtype: str) -> float | None:
        """Return the best product of a dtype that was ever measured; None if none is known.

        Where only bf16 was measured, another dtype's is taken for the same share of its peak.
        """
        if dtype == "fp8" and self.fp8_matmul_flops is not None:
            return self.fp8_matmul_flops.value
        if self.matmul_flops is None:
            return None
        return self.matmul_flops.value * (self.peak_flops(dtype) / self.bf16_flops.value)
