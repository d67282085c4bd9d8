"""Whether sequence-parallel kernels give what attention on one device gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from validate.cases import DTYPES, Case
from validate.kernels import attention, shards
from validate.kernels.attention import ContextMesh
from validate.kernels.axis import GroupAxis, VirtualAxis
from validate.references import inputs, log_decay, one_device, reference, state_passed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from validate.processes import Rank

#: Largest relative error, of the Euclidean norm: some ten roundings of each dtype.
TOLERANCES = {"f64": 5e-15, "f32": 2e-6, "bf16": 8e-3, "f16": 1e-3}
#: And over that of one device in the same dtype, whose rounding is the same but for the merges.
OVER_ONE_DEVICE = 1.6
#: What errors are of, in order.
TENSORS = ("o", "dq", "dk", "dv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What became of a case.

    Parameters
    ----------
    case
        What was checked.
    virtual
        Whether one process played all ranks.
    errors
        Relative error of the output and the gradients of q, k, v: the largest of all ranks.
    one_device
        The same of attention on one device in the same dtype.
    """

    case: Case
    virtual: bool
    errors: tuple[float, ...]
    one_device: tuple[float, ...]

    @property
    def tolerance(self) -> float:
        """What each error may be."""
        return TOLERANCES[self.case.dtype]

    @property
    def exact(self) -> bool:
        """Whether all errors are rounding."""
        rounding = torch.finfo(DTYPES[self.case.dtype]).eps / 2.0
        allowed = (max(OVER_ONE_DEVICE * one, 2.0 * rounding) for one in self.one_device)
        return all(
            error <= min(self.tolerance, most)
            for error, most in zip(self.errors, allowed, strict=True)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return documented JSON values."""
        case = asdict(self.case) | {"order": self.case.order.label}
        return {
            **case,
            "virtual": self.virtual,
            "errors": dict(zip(TENSORS, self.errors, strict=True)),
            "one_device_errors": dict(zip(TENSORS, self.one_device, strict=True)),
            "tolerance": self.tolerance,
            "exact": self.exact,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the ranks of a job are to check.

    Parameters
    ----------
    real
        One rank each.
    virtual
        All ranks of these in every process.
    device
        Of the tensors.
    """

    real: Sequence[Case]
    virtual: Sequence[Case]
    device: str = "cpu"


def check(rank: Rank, told: Told) -> list[Checked]:
    """Check cases as one of the ranks of a job; the result is the same on all."""
    meshes: dict[tuple[int, int], ContextMesh] = {}
    found = []
    for case in told.real:
        key = case.ulysses, case.ring
        if key not in meshes:
            meshes[key] = mesh_of_job(*key)
        place = shards.places(*key)[rank.rank]
        found.append(
            _checked(case, meshes[key], [place], _over_ranks, virtual=False, device=told.device)
        )
        rank.report(len(found))
    for each in check_virtually(told.virtual, told.device):
        found.append(each)
        rank.report(len(found))
    return found


def check_virtually(told: Sequence[Case], device: str = "cpu") -> Iterator[Checked]:
    """Check cases in this process alone, which plays all their ranks."""
    for case in told:
        mesh = virtual_mesh(case.ulysses, case.ring)
        every = shards.places(case.ulysses, case.ring)
        yield _checked(case, mesh, every, lambda errors: errors, virtual=True, device=device)


def virtual_mesh(ulysses: int, ring: int) -> ContextMesh:
    """Return a mesh whose ranks are all played by this process."""
    ranks = [[r * ulysses + u for u in range(ulysses)] for r in range(ring)]
    return ContextMesh(
        ulysses=VirtualAxis(ranks),
        ring=VirtualAxis([list(one) for one in zip(*ranks, strict=True)]),
    )


def mesh_of_job(ulysses: int, ring: int) -> ContextMesh:
    """Return the mesh of all ranks of this process' job, Ulysses inside."""
    from torch.distributed.device_mesh import init_device_mesh

    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    mesh = init_device_mesh(device, (ring, ulysses), mesh_dim_names=("ring", "ulysses"))
    return ContextMesh(
        ulysses=GroupAxis(mesh.get_group("ulysses")), ring=GroupAxis(mesh.get_group("ring"))
    )


def _over_ranks(errors: Tensor) -> Tensor:
    """Return the largest of all ranks."""
    moved = errors.cuda() if dist.get_backend() == "nccl" else errors
    dist.all_reduce(moved, op=dist.ReduceOp.MAX)
    return moved.cpu()


def _checked(
    case: Case,
    mesh: ContextMesh,
    places: Sequence[tuple[int, int]],
    over_ranks: Callable[[Tensor], Tensor],
    *,
    virtual: bool,
    device: str = "cpu",
) -> Checked:
    dtype = DTYPES[case.dtype]
    whole = inputs(case, device)
    numbers = [
        shards.tokens_of(
            case.documents or case.tokens, case.ulysses, case.ring, case.order, place
        ).to(device)
        for place in places
    ]
    q, k, v, gradient = (shards.cut(each.to(dtype), 2, numbers) for each in whole)
    if case.state_space:
        decay = shards.cut(log_decay(case, device), 2, numbers)
        found = state_passed(mesh.ring, q, k, v, decay, gradient)
    else:
        outs, held = attention.forward(mesh, case.how, q, k, v)
        gradients = attention.backward(
            mesh, case.how, held, gradient, heads=case.heads, kv_heads=case.kv_heads
        )
        found = [outs, *([each[at] for each in gradients] for at in range(3))]
    exact = reference(case, whole)
    # The same tokens of one device's: the error of few may be larger than that of all.
    alone = [shards.cut(each, 2, numbers) for each in one_device(case, whole, dtype)]
    errors = [
        max(map(_relative, parts, shards.cut(of, 2, numbers)))
        for parts, of in zip([*found, *alone], [*exact, *exact], strict=True)
    ]
    largest = tuple(over_ranks(torch.tensor(errors, dtype=torch.float64)).tolist())
    return Checked(case=case, virtual=virtual, errors=largest[:4], one_device=largest[4:])


def _relative(found: Tensor, exact: Tensor) -> float:
    return float((found.to(torch.float64) - exact).norm() / exact.norm())
