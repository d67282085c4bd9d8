"""Whether sequence-parallel kernels give what attention on one device gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from models.layout import SequenceOrder
from validate.kernels import attention, shards
from validate.kernels.attention import ContextMesh
from validate.kernels.axis import GroupAxis, VirtualAxis
from validate.kernels.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from validate.processes import Rank

DTYPES = {
    "f64": torch.float64,
    "f32": torch.float32,
    "bf16": torch.bfloat16,
    "f16": torch.float16,
}
#: Largest relative error, of the Euclidean norm: some ten roundings of each dtype.
TOLERANCES = {"f64": 5e-15, "f32": 2e-6, "bf16": 8e-3, "f16": 1e-3}
#: And over that of one device in the same dtype, whose rounding is the same but for the merges.
OVER_ONE_DEVICE = 1.6
#: What errors are of, in order.
TENSORS = ("o", "dq", "dk", "dv")
SEED = 0
#: Packed documents, each a multiple of what the longest ring cuts it into; and a window.
DOCUMENTS, WINDOW = (32, 96, 64), 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attention to check.

    Parameters
    ----------
    method
        In words.
    ulysses, ring
        The two degrees.
    order, gathers, causal
        As of :class:`validate.kernels.ring.Ring`.
    dtype
        One of :data:`DTYPES`.
    documents, window
        As of the same.
    batch, heads, kv_heads, tokens, width
        Of the whole attention.
    """

    method: str
    ulysses: int
    ring: int
    order: SequenceOrder = SequenceOrder.CONTIGUOUS
    gathers: bool = False
    causal: bool = True
    dtype: str = "f64"
    documents: tuple[int, ...] | None = None
    window: int | None = None
    batch: int = 2
    heads: int = 8
    kv_heads: int = 2
    tokens: int = 192
    width: int = 32

    @property
    def how(self) -> Ring:
        """How it is cut along the ring."""
        return Ring(
            order=self.order,
            causal=self.causal,
            gathers=self.gathers,
            documents=self.documents,
            window=self.window,
        )


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


def cases(world: int, dtypes: Sequence[str]) -> list[Case]:
    """Return what to check on so many ranks: every method, mask and dtype.

    Key/value heads are fewer than the ranks of the largest Ulysses, so that they are repeated.
    """
    found = []
    for case, dtype in product(_methods(world), dtypes):
        found += [replace(case, dtype=dtype), replace(case, dtype=dtype, causal=False)]
    for case, dtype in product(_masks(world), dtypes):
        found.append(replace(case, dtype=dtype))
    return found


def _methods(world: int) -> Iterator[Case]:
    for order in SequenceOrder:
        ring = Case(method=f"ring {order.label}", ulysses=1, ring=world, order=order)
        yield ring
        yield replace(ring, method=f"all-gather {order.label}", gathers=True)
    yield Case(method="ulysses", ulysses=world, ring=1)
    if world >= 4:
        for order in SequenceOrder:
            yield Case(method=f"hybrid {order.label}", ulysses=2, ring=world // 2, order=order)


def _masks(world: int) -> Iterator[Case]:
    """Yield methods with packed documents and with a window, where they have them."""
    for case in _methods(world):
        if case.order == SequenceOrder.ZIGZAG or case.ulysses == world:
            yield replace(case, method=f"{case.method}, packed", documents=DOCUMENTS)
        if case.ulysses == world:
            slid = replace(case, method=f"{case.method}, window", window=WINDOW)
            yield slid
            yield replace(slid, method=f"{slid.method}, packed", documents=DOCUMENTS)


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
    whole = _inputs(case, device)
    numbers = [
        shards.tokens_of(
            case.documents or case.tokens, case.ulysses, case.ring, case.order, place
        ).to(device)
        for place in places
    ]
    q, k, v, gradient = (shards.cut(each.to(dtype), 2, numbers) for each in whole)
    outs, held = attention.forward(mesh, case.how, q, k, v)
    gradients = attention.backward(
        mesh, case.how, held, gradient, heads=case.heads, kv_heads=case.kv_heads
    )
    found = [outs, *([each[at] for each in gradients] for at in range(3))]
    exact = _reference(case, whole)
    # The same tokens of one device's: the error of few may be larger than that of all.
    alone = [shards.cut(each, 2, numbers) for each in _one_device(case, whole, dtype)]
    errors = [
        max(map(_relative, parts, shards.cut(of, 2, numbers)))
        for parts, of in zip([*found, *alone], [*exact, *exact], strict=True)
    ]
    largest = tuple(over_ranks(torch.tensor(errors, dtype=torch.float64)).tolist())
    return Checked(case=case, virtual=virtual, errors=largest[:4], one_device=largest[4:])


def _inputs(case: Case, device: str) -> list[Tensor]:
    """Return q, k, v and the output's gradient, representable in the case's dtype."""
    generator = torch.Generator().manual_seed(SEED)
    shapes = [case.heads, case.kv_heads, case.kv_heads, case.heads]
    drawn = (
        torch.randn(case.batch, heads, case.tokens, case.width, generator=generator)
        for heads in shapes
    )
    return [each.to(DTYPES[case.dtype]).to(torch.float64).to(device) for each in drawn]


def _reference(case: Case, whole: Sequence[Tensor]) -> list[Tensor]:
    """Return output and gradients written out in fp64, scores and all."""
    q, k, v = (each.detach().clone().requires_grad_() for each in whole[:3])
    repeats = case.heads // case.kv_heads
    scores = q @ k.repeat_interleave(repeats, 1).mT * case.width**-0.5
    scores = scores.masked_fill(~_seen(case).to(scores.device), -torch.inf)
    out = scores.softmax(-1) @ v.repeat_interleave(repeats, 1)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), whole[3])]


def _seen(case: Case) -> Tensor:
    """Return which keys every query attends to, ``[tokens, tokens]``."""
    place = torch.arange(case.tokens)
    behind = place[:, None] - place
    seen = torch.ones_like(behind, dtype=torch.bool)
    if case.causal:
        seen &= behind >= 0
    if case.window is not None:
        seen &= behind < case.window
    if case.documents is not None:
        lengths = torch.tensor(case.documents)
        document = torch.arange(len(lengths)).repeat_interleave(lengths)
        seen &= document[:, None] == document
    return seen


def _one_device(case: Case, whole: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Return output and gradients of torch's own attention on one device in the same dtype."""
    q, k, v = (each.to(dtype).requires_grad_() for each in whole[:3])
    masked = case.window is not None or case.documents is not None
    mask = _seen(case).to(q.device) if masked else None
    out = functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=case.causal and not masked, enable_gqa=True
    )
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), whole[3].to(dtype))]


def _relative(found: Tensor, exact: Tensor) -> float:
    return float((found.to(torch.float64) - exact).norm() / exact.norm())
