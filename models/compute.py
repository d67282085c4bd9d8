"""Seconds of compute operations on one device.

``t = max(FLOP / rate(shape), bytes / bandwidth) + launches * kernel_s``, the rate being the dense
peak times the profile's fraction times saturating terms ``x / (x + half)``: waves of 128 x 128
tiles over the compute units, the inner dimension, key tokens, head width. Saturation instead of
exact wave quantisation, as libraries split work where the last wave would be thin.

Products in fp8 and fp4 have a fraction of their own peak, and the same waves as those in bf16.
Their inner dimension saturates as much later as their peak is higher: with the same half, errors on
fp8 linears of aiconfigurator-core 0.12.0 are 7.2% on H100, 8.8% on H200, 12.0% on B200 and 12.5% on
GB200; so 7.0%, 7.8%, 11.4% and 11.9%. No measured products in fp4 are at hand: they have fp8's
fraction of their own peak.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.operation import Kind
from topologies.figure import Provenance

if TYPE_CHECKING:
    from models.attention_kernels import AttentionKernel
    from models.layout import Array
    from models.operation import Compute
    from models.profile import Profile
    from topologies.accelerator import Accelerator

#: Rows and columns of one tile: what flash attention and most products on these devices use.
TILE = 128.0
#: Rows and columns of the smallest tile: what a product is filled up to.
LEAST_TILE = 64.0
#: Columns of the widest head whose tiles flash attention keeps as large as those of narrower ones.
WIDE = 128.0


@dataclass(frozen=True, slots=True)
class Device:
    """An accelerator with the profile that says what it reaches.

    Parameters
    ----------
    accelerator, profile
        What it is, and what kernels reach on it.
    attention_kernel
        The generation of flash attention that software runs; None for the device's best.
    """

    accelerator: Accelerator
    profile: Profile
    attention_kernel: AttentionKernel | None = None

    def seconds(self, op: Compute) -> Array:
        """Return the time of one operation, all its launches together."""
        streaming = op.nbytes / self.streaming_Bps
        floor = op.launches * self.profile.kernel_s.value
        if op.kind is Kind.MEMORY:
            return streaming + floor
        if op.kind is Kind.GEMM:
            computing = self._padded(op) / self._product_rate(op)
        else:
            executed = self._executed(op)
            computing = executed / self._attention_rate(op, executed / op.flop)
        busy: Array = np.maximum(computing, streaming)
        return busy + floor

    @property
    def streaming_Bps(self) -> float:
        """Memory bandwidth that streaming kernels reach."""
        return self.accelerator.hbm_Bps.value * self.profile.hbm_fraction.value

    def host_bound(self, device_s: Array, launches: Array) -> Array:
        """Return the time of bare kernels, never below what the host needs to start them."""
        time: Array = np.maximum(device_s, launches * self.profile.host_launch_s.value)
        return time

    def _executed(self, op: Compute) -> Array:
        """Return the FLOP of whole tiles: along a mask's edge half a tile beyond it."""
        beyond = np.minimum(self.profile.attention_mask_keys.value, op.edge_keys) / 2.0
        executed: Array = op.flop + op.edge_flop * beyond
        return executed

    def _padded(self, op: Compute) -> Array:
        """Return the FLOP of a product's whole tiles; of several at once with half a tile more.

        How many rows each of those has is left to chance, and its last tile is half full on
        average. In the gradients of weights these rows are the inner dimension, which has no tiles.
        """
        rows, columns = (_filled(each) / each for each in (op.rows, op.columns))
        if not op.of_weights:
            rows = np.where(np.asarray(op.groups) > 1, 1.0 + TILE / 2.0 / op.rows, rows)
        padded: Array = op.flop * rows * columns
        return padded

    def _product_rate(self, op: Compute) -> Array:
        profile = self.profile
        tiles = op.groups * np.ceil(op.rows / TILE) * np.ceil(op.columns / TILE)
        waves = tiles / self.accelerator.compute_units.value
        fraction = profile.gemm_fraction if op.peak == "bf16" else profile.gemm_fp8_fraction
        burst = self.accelerator.peak_flops(op.peak) * fraction.value
        best = self.accelerator.best_flops(op.peak)
        # Another device's share of the peak is no reason to exceed what this one ever reached.
        if best is not None and fraction.kind is Provenance.ASSUMED:
            burst = min(burst, best)
        full = burst * profile.gemm_sustained.value
        # What starts and ends a product's tiles takes its time at any pace of those between: of one
        # in fp8 as much as of one in bf16, and unseen in one that is slow for want of alignment.
        slow = 1.0 if op.aligned else profile.unaligned_fraction.value
        full = full * slow
        if op.of_weights:
            full = full * profile.weight_gradient_ratio.value
        pace = slow * self.accelerator.peak_flops(op.peak) / self.accelerator.bf16_flops.value
        deep = _saturating(op.depth, profile.gemm_half_depth.value * pace)
        return full * _saturating(waves, profile.gemm_half_waves.value) * deep

    def _attention_rate(self, op: Compute, executed: Array) -> Array:
        """Return the rate of kernels that execute so many times what the mask leaves.

        What an older generation does more slowly are the products and the softmax of a pair; what
        rows and heads cost besides takes it no longer than the best. So it loses less on short
        sequences and narrow heads, as in charts of FlashAttention 2 and 3 (1.5 times at width 64
        or 512 tokens, 1.8 at 128 and 16k).
        """
        profile, backward = self.profile, op.kind is Kind.ATTENTION_BACKWARD
        waves = np.ceil(op.rows / TILE) / self.accelerator.compute_units.value
        full = self.accelerator.bf16_flops.value * profile.attention_fraction.value
        tokens, width = profile.attention_half_tokens, profile.attention_half_width
        wide_ratio = profile.attention_wide_ratio
        if backward:
            full = full * profile.attention_backward_ratio.value
            tokens = profile.attention_backward_half_tokens
            width = profile.attention_backward_half_width
            wide_ratio = profile.attention_backward_wide_ratio
        slower = 1.0
        if self.attention_kernel is not None:
            slower = self.attention_kernel.slowdown(self.accelerator.name, backward=backward)
        full = full / slower
        long = _saturating(op.columns * executed, tokens.value / slower)
        wide = _saturating(op.depth, width.value / slower)
        wide = wide * np.where(op.depth > WIDE, wide_ratio.value, 1.0)
        return full * _saturating(waves, profile.attention_half_waves.value) * long * wide


def _saturating(amount: Array, half: float) -> Array:
    return amount / (amount + half)


def _filled(side: Array) -> Array:
    """Return rows or columns of a product in whole tiles."""
    filled: Array = np.ceil(side / LEAST_TILE) * LEAST_TILE
    return filled
