"""How a published run kept and sent its gradients, by its framework."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from models.model_states import USUAL_STATES, ModelStates

if TYPE_CHECKING:
    from validate.published.row import Row

_BF16 = ModelStates(gradients="bf16", reduce="bf16")
#: What is kept of a parameter, and sent, by framework with its version, and precision; the first
#: that fits, else what is usual.
#:
#: - NeMo of 2024 has its own optimizer, with what bf16 weights lack of fp32 ones in place of those:
#:   nemo_toolkit 2.3.0 ``megatron_base_model.py``, ``store_param_remainders``.
#: - NeMo's and Megatron-Bridge's runs for speed send in bf16: nemo_toolkit 2.3.0
#:   ``scripts/performance`` and ``nemo/collections/llm/recipes``, ``grad_reduce_in_fp32 = False``.
#: - DeepSpeed keeps gradients as they come (deepspeed 0.9.0 ``zero/stage_1_and_2.py``), and its
#:   pipelines sum bf16 ones in fp32 beside them (``bf16_optimizer.py``).
#: - Where DeepSpeed knows of sequence parallelism it sends in fp32 (deepspeed 0.19.0 ``engine.py``,
#:   ``seq_parallel_communication_data_type``): ALST's runs, whose kernels are Liger's.
#: - InternEvo keeps and sends gradients as they come (InternEvo 0.5.2 ``hybrid_zero_optim.py``).
STATES = (
    (r"nemo/\S* (nemo )?24\.", r".*", replace(_BF16, optimizer="adamw-remainders")),
    (r"nemo/|megatron-bridge/", r".*", _BF16),
    (r"megatron-deepspeed", r"FP16", _BF16),
    (r"megatron-deepspeed", r"BF16", ModelStates(gradients="bf16+fp32", reduce="fp32")),
    (r"(megatron-lm/)?deepspeed|xtuner", r".*", _BF16),
    (r"liger", r".*", replace(_BF16, reduce="fp32")),
    (r"internevo", r".*", _BF16),
)


def states_of(row: Row) -> ModelStates:
    """Return what a row's framework keeps of each parameter."""
    framework = f"{row.text('framework')} {row.text('framework_version')}".lower()
    precision = row.text("precision", "BF16").upper()
    for name, kind, states in STATES:
        if re.match(name, framework) and re.match(kind, precision):
            return states
    return USUAL_STATES
