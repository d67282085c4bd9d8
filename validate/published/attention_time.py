"""Seconds of attention alone: the inventory's own operations on the planner's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.attention_kernels import architecture_of, attention_kernels
from models.compute import Device
from models.interval import widening
from models.layout import LayoutBatch
from models.mixers.core_attention import CoreAttention
from models.named_axes import Kernels
from models.operation import Compute, Work
from models.part_times import PartClock
from models.profile import load_profile
from models.sequence_parallel import even_blocks
from models.sequence_parallel.sent import CORE_ATTENTION
from models.shape import Shapes
from topologies.fabric import Fabric
from topologies.figure import Figure, Provenance

if TYPE_CHECKING:
    from models.attention_kernels import AttentionKernel
    from models.layout import Array
    from models.operation import Operation
    from topologies.accelerator import Accelerator
    from validate.published.attention_job import AttentionJob

#: The kernels of rings and exchanges in Python.
FROM_PYTHON = "fa2"
#: What a Python loop spends on the host for each exchange or hop, the kernels around it included.
HOST_CALL_S = Figure(
    value=0.4e-3,
    kind=Provenance.FITTED,
    source="feifeibear/long-context-attention@56118e0, 8,192 tokens over 8 A100 and 8 L20: 0.3 to "
    "0.8 ms for each all-to-all or hop",
)


def attention_seconds(job: AttentionJob) -> tuple[float, tuple[float, float]]:
    """Return the time of a job and its interval from the 10th to the 90th percentile."""
    accelerator = job.cluster.accelerator
    device = Device(
        accelerator, load_profile(accelerator.name), attention_kernel=_kernel(job, accelerator)
    )
    batch = LayoutBatch.of([job.layout])
    shapes, _ = Shapes.of(batch, job.workload, job.cluster.fast_domain)
    work = _work(job, shapes)
    times = PartClock(device, Fabric(job.cluster), shapes).times(work)
    phases = {"fwd": (times.forward,), "bwd": (times.backward,)}.get(
        job.passes, (times.forward, times.backward)
    )
    computed = sum(_first(spent.compute) for spent in phases)
    waited = sum(_first(spent.total - spent.compute) for spent in phases)
    hosted = HOST_CALL_S.value * _calls(job, work) if _from_python(job) else 0.0
    found = max(computed + waited, hosted) / job.over
    wider = float(widening(computed, waited, device.profile))
    return found, (found / wider, found * wider)


def _work(job: AttentionJob, shapes: Shapes) -> Work:
    core, nothing = CoreAttention(job.attention, shapes), np.zeros(len(shapes))
    return Work(
        forward=tuple(_masked(op, job, shapes) for op in core.forward()),
        backward=tuple(_masked(op, job, shapes) for op in core.backward()),
        saved=(),
        input_bytes=nothing,
        working_bytes=nothing,
        buffer_bytes=nothing,
        fused=shapes.fused,
    )


def _masked(op: Operation, job: AttentionJob, shapes: Shapes) -> Operation:
    """Return core attention under the job's mask; other operations as they are."""
    if not isinstance(op, Compute) or op.name != CORE_ATTENTION:
        return op
    if not job.causal:
        return even_blocks.unmasked(op, job.attention, shapes)
    return even_blocks.striped(op, job.attention, shapes) if job.striped else op


def _calls(job: AttentionJob, work: Work) -> float:
    """Return how often the host sends: exchanges, and hops of keys and values together."""
    sent = {
        "fwd": work.forward_communication(),
        "bwd": work.backward_communication(),
    }
    phases = [name for name in sent if name in job.passes.split("+")]
    return sum(_first(op.calls) for name in phases for op in sent[name])


def _from_python(job: AttentionJob) -> bool:
    return job.layout.kernels == Kernels.EAGER


def _kernel(job: AttentionJob, accelerator: Accelerator) -> AttentionKernel | None:
    """Return the generation of kernels; None for the best, and where no other is known."""
    if job.newest or architecture_of(accelerator.name) is None:
        return None
    return attention_kernels()[FROM_PYTHON]


def _first(values: Array) -> float:
    return float(np.broadcast_to(values, (1,))[0])
