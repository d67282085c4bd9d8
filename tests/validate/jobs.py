"""What processes of test jobs run: module-level, so that they can be sent there."""

from __future__ import annotations

import os
import signal
import time

import torch
import torch.distributed as dist

from models.named_axes import SequenceOrder
from topologies.errors import Problem, SpecError
from validate import exactness, training
from validate.kernels import attention, merge, ring
from validate.kernels.axis import GroupAxis
from validate.kernels.ring import Local, Ring


def add_up(rank, told):
    """Return the sum over ranks of told + rank, and the rank."""
    rank.report("adding")
    number = torch.tensor([float(told + rank.rank)])
    dist.all_reduce(number)
    return rank.rank, float(number)


def die(rank, told):
    """Have one rank killed while the others wait for it."""
    if rank.rank == told:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


def hang(rank, told):
    """Have one rank sleep while the others wait for it."""
    if rank.rank == told:
        time.sleep(3600)
    dist.barrier()


def fail(rank, told):
    """Have one rank meet a bug while the others wait for it."""
    if rank.rank == told:
        raise ZeroDivisionError("by nothing")
    dist.barrier()


def refuse(rank, told):
    """Have every rank refuse its input."""
    raise SpecError([Problem("--ulysses", told, "a divisor of the 8 query heads")])


def sleep(rank, told):
    """Have all ranks say which processes they are, and sleep."""
    rank.report(os.getpid())
    time.sleep(told)


def train_with_a_slip(rank, lesson):
    """Train with merges that forget the new log-sum-exp."""
    once = merge.Merged.add

    def forgets(self, added, queries):
        before = self.lse.clone()
        once(self, added, queries)
        self.lse.copy_(before)

    merge.Merged.add = forgets
    return training.train(rank, lesson)


def beside_torchs_template(rank, told):
    """Return the largest relative differences of our zigzag ring from torch's private template."""
    from torch.distributed.tensor.experimental._context_parallel import _attention as template

    template._cp_options.enable_load_balance = True
    template._cp_options.convert_to_f32 = False
    axis = GroupAxis(dist.group.WORLD)
    torch.manual_seed(rank.rank)
    q, gradient, k, v = (torch.randn(2, heads, 64, 16, dtype=torch.float64) for heads in told)
    own = [Local(q=q, k=k, v=v)]
    how = Ring(order=SequenceOrder.ZIGZAG)
    held = ring.forward(axis, how, own)
    (found,) = ring.backward(axis, how, held, [gradient])
    aten = torch.ops.aten
    flash = aten._scaled_dot_product_flash_attention_for_cpu
    out, lse = template._templated_ring_attention(axis.group, 2, flash, q, k, v, is_causal=True)
    back = aten._scaled_dot_product_flash_attention_for_cpu_backward
    theirs = template._templated_ring_attention_backward(
        axis.group,
        2,
        back,
        gradient,
        "grad_out",
        q,
        k,
        v,
        out,
        lse,
        is_causal=True,
        dropout_p=0.0,
    )
    pairs = zip((held[0].whole.out, *found), (out, *theirs[:3]), strict=True)
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


def peak_of_long_attention(rank, told):
    """Return by how much long attention raises what this process ever held, in bytes."""
    import resource

    tokens, window = told
    mesh = exactness.virtual_mesh(1, 4)
    how = Ring(order=SequenceOrder.ZIGZAG, window=window, gathers=window is not None)
    parts = [torch.randn(1, 1, tokens // 4, 16) for _ in range(4)]
    small = [part[:, :, :64] for part in parts]

    def run(each):
        outs, held = attention.forward(mesh, how, each, each, each)
        attention.backward(mesh, how, held, outs, heads=1, kv_heads=1)

    run(small)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(parts)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def meet_unequal(rank, told):
    """Have every rank check that its tensors are like the others', with one longer."""
    mesh = exactness.mesh_of_job(2, 2)
    tokens = 8 + 2 * (rank.rank == told)
    q, k = torch.zeros(1, 4, tokens, 8), torch.zeros(1, 2, tokens, 8)
    attention.check_alike(mesh, [q], [k])
    return tokens
