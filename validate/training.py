"""A small Llama trained by a job of ranks that cut its sequence, from or to a checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn import functional

from models.named_axes import SequenceOrder
from validate.cases import DTYPES
from validate.exactness import mesh_of_job
from validate.kernels import shards
from validate.kernels.attention import attention
from validate.kernels.ring import Ring
from validate.llama import Llama, Size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from validate.processes import Rank

LEARNING_RATE = 3e-3
#: How often a token of the data follows from the one before, and not by chance.
LAWFUL = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What a job trains, and how it cuts the sequence.

    Parameters
    ----------
    ulysses, ring, order, gathers
        The two degrees, and how the ring is cut.
    dtype
        Of parameters in use, activations and gradients sent; the optimizer's are fp32 (f64 of f64).
    steps, batch, tokens, size, seed
        What is trained on what.
    after
        A checkpoint to go on from; None for the start.
    into
        Where to leave one; None for nowhere.
    """

    ulysses: int
    ring: int
    order: SequenceOrder = SequenceOrder.ZIGZAG
    gathers: bool = False
    dtype: str = "f32"
    steps: int = 200
    batch: int = 4
    tokens: int = 128
    size: Size = field(default_factory=Size)
    seed: int = 0
    after: str | None = None
    into: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What came of a lesson; the same on all ranks.

    Parameters
    ----------
    losses
        Mean over all tokens, of every step.
    gradients
        Of the first step, all parameters' in a row.
    started, ended
        Digests of the weights before the first and after the last step.
    """

    losses: list[float]
    gradients: NDArray[Any]
    started: str
    ended: str


def train(rank: Rank, lesson: Lesson) -> Learnt:
    """Train as one of the ranks of a job, which also share the parameters (FSDP2)."""
    torch.manual_seed(lesson.seed)
    kept = torch.float64 if lesson.dtype == "f64" else torch.float32
    model = Llama(lesson.size).to(kept)
    policy = MixedPrecisionPolicy(param_dtype=DTYPES[lesson.dtype], reduce_dtype=kept)
    fully_shard(model, mp_policy=policy)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    begun = _resumed(model, optimizer, lesson.after)
    mesh = mesh_of_job(lesson.ulysses, lesson.ring)
    place = shards.places(lesson.ulysses, lesson.ring)[rank.rank]
    own = shards.tokens_of(lesson.tokens, lesson.ulysses, lesson.ring, lesson.order, place)
    how = Ring(order=lesson.order, gathers=lesson.gathers)
    started, losses, gradients = _digest(model), [], None
    for step in range(begun, begun + lesson.steps):
        text = _text(lesson, step)
        # Labels are shifted before the sequence is cut: a rank's last is another's first.
        tokens, labels = text[:, :-1][:, own], text[:, 1:][:, own]
        logits = model(tokens, own, lambda q, k, v: attention(q, k, v, mesh, how))
        loss = functional.cross_entropy(logits.flatten(0, 1).to(kept), labels.flatten())
        loss.backward()
        gradients = _gathered(model) if gradients is None else gradients
        optimizer.step()
        optimizer.zero_grad()
        losses.append(_mean(loss.detach()))
        rank.report(step)
    if lesson.into is not None:
        _save(model, optimizer, begun + lesson.steps, lesson.into)
    found = torch.zeros(0) if gradients is None else gradients
    return Learnt(losses=losses, gradients=found.numpy(), started=started, ended=_digest(model))


def _text(lesson: Lesson, step: int) -> Tensor:
    """Return a batch of sequences in which most tokens follow from the one before."""
    generator = torch.Generator().manual_seed(lesson.seed * 1_000_003 + step)
    vocab = lesson.size.vocab
    follows = torch.randperm(vocab, generator=torch.Generator().manual_seed(lesson.seed))
    shape = lesson.batch, lesson.tokens + 1
    chance = torch.randint(vocab, shape, generator=generator)
    lawful = torch.rand(shape, generator=generator) < LAWFUL
    text = chance
    for at in range(1, shape[1]):
        text[:, at] = torch.where(lawful[:, at], follows[text[:, at - 1]], chance[:, at])
    return text


def _mean(loss: Tensor) -> float:
    """Return the mean over ranks, which hold as many tokens each."""
    total = loss.clone().to(torch.float64)
    dist.all_reduce(total)
    return float(total.item() / dist.get_world_size())


def _gathered(model: Llama) -> Tensor:
    """Return the gradients of all parameters, whole."""
    found = []
    for parameter in model.parameters():
        gradient: Any = parameter.grad
        found.append(gradient.full_tensor().flatten())
    return torch.cat(found)


def _digest(model: Llama) -> str:
    """Return a digest of the weights, to the last bit."""
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(weights[name].contiguous().view(torch.uint8).numpy().tobytes())
    whole: list[Any] = [digest.hexdigest() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(whole)
    return str(whole[0])


def _save(model: Llama, optimizer: torch.optim.Optimizer, step: int, folder: str) -> None:
    weights, state = get_state_dict(model, optimizer)
    content = {"model": weights, "optimizer": state, "step": torch.tensor(step)}
    dcp.save(content, checkpoint_id=folder)


def _resumed(model: Llama, optimizer: torch.optim.Optimizer, folder: str | None) -> int:
    """Take up a checkpoint, whatever cut the sequence when it was left; return its step."""
    if folder is None:
        return 0
    content = {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, optimizer),
        "step": torch.tensor(0),
    }
    dcp.load(content, checkpoint_id=folder)
    set_state_dict(
        model,
        optimizer,
        model_state_dict=content["model"],
        optim_state_dict=content["optimizer"],
    )
    return int(content["step"])
