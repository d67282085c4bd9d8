"""Questions that people really have, ready to be asked."""

from __future__ import annotations

from dataclasses import dataclass

from ui.question import Question


@dataclass(frozen=True, slots=True)
class Preset:
    """A question with a name.

    Parameters
    ----------
    title
        What it asks, in a line.
    question
        The question.
    """

    title: str
    question: Question


PRESETS: tuple[Preset, ...] = (
    Preset(
        "Llama 3.1 70B, 256K tokens, 256 H100",
        Question(),
    ),
    Preset(
        "Llama 3.1 405B, 128K tokens, 16,384 H100",
        # 16 million tokens a step as published (arXiv:2407.21783 section 3.4.2). The whole space
        # has three million layouts; these pins leave what is run at that size.
        Question(
            model="llama-3.1-405b",
            cluster="meta-24k",
            gpus="16384",
            seq_len="128k",
            global_batch="128",
            pins="kernels=fused pp=8..16",
        ),
    ),
    Preset(
        "Llama 3.1 8B, 1M tokens, 64 H100",
        Question(model="llama-3.1-8b", gpus="64", seq_len="1m", global_batch="16"),
    ),
    Preset(
        "DeepSeek V3, 4K tokens, 2,048 H800, fp8",
        # The published 16 pipeline ranks over 64 ranks of experts (arXiv:2412.19437 section 3.2).
        Question(
            model="deepseek-v3",
            cluster="h800-hgx",
            gpus="2048",
            seq_len="4k",
            global_batch="15360",
            precision="fp8-blockwise",
            pins="tp=1 pp=16 ep=64 cp=1 kernels=fused zero=1",
        ),
    ),
)
