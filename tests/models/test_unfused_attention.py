"""Softmax of heads that Megatron's kernel takes together, and of those that it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.catalogue import load_architecture
from models.inventory import layer_work
from models.sequence_parallel.sent import CORE_ATTENTION
from models.software import load_software
from models.unfused_attention import score_bytes, unfused_attention
from tests.models.cases import shapes

OLD, GPT = load_software("megatron-2021"), load_architecture("gpt3-175b")


def test_heads_that_one_kernel_cannot_take_together_cost_the_host_more():
    """Of 96 heads on 8 ranks 12 are left, on 32 three: then only four sequences fuse."""

    def kernels(tokens=2048, **axes):
        work = layer_work(GPT.layers[0], GPT.hidden, replace(shapes(tokens, **axes), software=OLD))
        return [
            sum(float(op.launches[0]) for op in ops if op.name == CORE_ATTENTION)
            for ops in (work.forward_compute(), work.backward_compute())
        ]

    fused = kernels(tp=8)
    assert kernels(tp=32, micro_batch=4) == fused
    # To fp32, scaled, masked, its softmax and back, in both passes.
    assert kernels(tp=32) == [each + 4 for each in fused]
    assert kernels(tp=32, micro_batch=2) == [each + 4 for each in fused]
    assert kernels(tokens=8192, tp=8) == [each + 4 for each in fused]


def test_separate_kernels_move_scores_in_fp32_and_keep_them_so():
    """Read and written of a score by each, in the order they run; a mask has a byte."""
    forward = [(2, 4), (4, 4), (4 + 1, 4), (4, 4), (4, 2)]
    backward = [(2, 4), (4 + 4, 4), (4 + 1, 4), (4, 4), (4, 2)]
    fused = [[(2, 2)], [(2 + 2, 2)]]

    def moved(heads):
        one, keys, width = np.array([heads]), np.array([2048.0]), 128.0
        of_pass = {"queries": keys, "keys": keys, "width": width, "value_width": width}
        return [
            sum(
                float(op.nbytes[0])
                for op in unfused_attention("", backward=behind, heads=one, **of_pass)
                if op.flop[0] == 0.0
            )
            / (heads * 2048.0**2)
            for behind in (False, True)
        ]

    more = [apart - one for apart, one in zip(moved(3.0), moved(4.0), strict=True)]
    assert more == [
        sum(map(sum, apart)) - sum(map(sum, one))
        for apart, one in zip((forward, backward), fused, strict=True)
    ]
    heads, keys = np.array([4.0, 3.0]), np.array([2048.0, 2048.0])
    kept, working = (nbytes / (heads * keys) for nbytes in score_bytes(heads, np.ones(2), keys))
    assert kept.tolist() == [2 + 2 + 1, 4 + 2 + 1]
    assert working.tolist() == [2 + 2, 4 + 4]
