"""Ring attention beside torch's own context-parallel template, on processes of this machine.

python -m benchmarks.ring_attention
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor.experimental._context_parallel import _attention as template

from models.named_axes import SequenceOrder
from validate import processes
from validate.kernels import ring
from validate.kernels.axis import GroupAxis
from validate.kernels.ring import Local, Ring

if TYPE_CHECKING:
    from collections.abc import Callable

    from validate.processes import Rank

WORLD, ROUNDS = 2, 15
FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001
FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward  # noqa: SLF001


class Case(NamedTuple):
    """Tokens of a rank, heads, key/value heads, width and dtype."""

    tokens: int
    heads: int
    kv_heads: int
    width: int
    dtype: torch.dtype


CASES = (
    Case(512, 8, 2, 64, torch.float32),
    Case(1024, 8, 2, 64, torch.float32),
    Case(1024, 8, 8, 128, torch.float32),
    Case(1024, 8, 2, 64, torch.bfloat16),
    Case(2048, 4, 1, 128, torch.bfloat16),
)


def main() -> None:
    """Print how much of torch's time the kernels here take, each in turns with the other."""
    found = processes.run(WORLD, measure, CASES, timeout_s=300)
    for at, case in enumerate(CASES):
        wall, cpu = (statistics.median(rank[at][kind] for rank in found) for kind in range(2))
        print(
            f"zigzag ring of {WORLD}, {case.tokens:,} tokens a rank, {case.heads} heads of "
            f"{case.width} on {case.kv_heads}, {str(case.dtype).removeprefix('torch.')}: forward "
            f"and backward in {wall:.2f} of torch's time, {cpu:.2f} of its CPU time"
        )


def measure(rank: Rank, cases: tuple[Case, ...]) -> list[tuple[float, float]]:
    """Return our time over torch's for each case: wall, and of the CPU."""
    template._cp_options.enable_load_balance = True  # noqa: SLF001
    axis = GroupAxis(dist.group.WORLD)
    found = []
    for case in cases:
        mine, theirs = _jobs(case, axis)
        spent: dict[str, list[tuple[float, float]]] = {"mine": [], "theirs": []}
        for turn in range(ROUNDS + 2):
            for name, job in (("mine", mine), ("theirs", theirs)):
                took = _timed(job)
                if turn > 1:  # the first ones are still setting up
                    spent[name].append(took)
        ratios = [
            statistics.median(one[kind] for one in spent["mine"])
            / statistics.median(one[kind] for one in spent["theirs"])
            for kind in range(2)
        ]
        found.append((ratios[0], ratios[1]))
        rank.report(str(case))
    return found


def _timed(job: Callable[[], object]) -> tuple[float, float]:
    dist.barrier()
    wall, cpu = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - wall, time.process_time() - cpu


def _jobs(case: Case, axis: GroupAxis) -> tuple[Callable[[], object], Callable[[], object]]:
    torch.manual_seed(axis.place)

    def drawn(heads: int) -> Tensor:
        return torch.randn(1, heads, case.tokens, case.width).to(case.dtype)

    q, gradient, k, v = (drawn(heads) for heads in (case.heads,) * 2 + (case.kv_heads,) * 2)
    how = Ring(order=SequenceOrder.ZIGZAG)

    def mine() -> Any:  # noqa: ANN401
        held = ring.forward(axis, how, [Local(q=q, k=k, v=v)])
        return ring.backward(axis, how, held, [gradient])

    def theirs() -> Any:  # noqa: ANN401
        out, lse = template._templated_ring_attention(  # noqa: SLF001
            axis.group, 2, FLASH, q, k, v, is_causal=True
        )
        return template._templated_ring_attention_backward(  # noqa: SLF001
            axis.group, 2, FLASH_BACKWARD, gradient, "grad_out", q, k, v, out, lse,
            is_causal=True, dropout_p=0.0,
        )  # fmt: skip

    return mine, theirs


if __name__ == "__main__":
    main()
