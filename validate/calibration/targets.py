"""What is held out: whole layers of sequence-parallel attention, and whole decoder blocks.

No shape of theirs is among what is measured for fits. They are predicted from the inventory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from models.layout import Layout
from models.named_axes import CpMethod, Kernels, SequenceOrder
from validate.calibration.item import Item, Scale
from validate.kernels import attention
from validate.kernels.ring import Ring
from validate.llama import Layer, Size, rotary_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from validate.calibration.bench import Bench

LAYER, BLOCK = "layer", "block"
#: Ranks that one process plays where it is alone.
VIRTUAL = 4


def items(scale: Scale, world: int) -> list[Item]:
    """Return attention by every method, and blocks around it, of every held-out shape."""
    ranks = world if world > 1 else VIRTUAL
    found = []
    for hidden, heads, kv_heads, mlp, tokens in scale.blocks:
        shape = {"hidden": hidden, "heads": heads, "kv_heads": kv_heads}
        for method in _methods(ranks):
            if heads % method["ulysses"]:
                continue
            found.append(Item.of(LAYER, **shape, tokens=tokens, **method, virtual=world == 1))
            if world > 1:
                found.append(Item.of(BLOCK, **shape, mlp=mlp, tokens=tokens, **method))
        if world == 1:
            alone = {"ulysses": 1, "ring": 1, "gathers": False}
            found.append(Item.of(BLOCK, **shape, mlp=mlp, tokens=tokens, **alone))
    return found


def _methods(ranks: int) -> Iterator[dict[str, int | bool]]:
    yield {"ulysses": ranks, "ring": 1, "gathers": False}
    yield {"ulysses": 1, "ring": ranks, "gathers": False}
    yield {"ulysses": 1, "ring": ranks, "gathers": True}
    if ranks >= 4:
        yield {"ulysses": 2, "ring": ranks // 2, "gathers": False}


def layout(item: Item) -> Layout:
    """Return the layout that the inventory is asked about."""
    return Layout(
        ulysses=item.number("ulysses"),
        ring=item.number("ring"),
        cp_method=CpMethod.ALL_GATHER if item["gathers"] else CpMethod.P2P,
        sequence_order=SequenceOrder.ZIGZAG,
        kernels=Kernels.EAGER,
    )


def prepare(item: Item, bench: Bench) -> Callable[[], object]:
    """Return one forward and one backward pass."""
    if item.kind == BLOCK:
        return _block(item, bench)
    return _virtual(item, bench) if item["virtual"] else _layer(item, bench)


def _how(item: Item) -> Ring:
    return Ring(order=SequenceOrder.ZIGZAG, gathers=bool(item["gathers"]))


def _qkv(item: Item, bench: Bench) -> list[Tensor]:
    heads, tokens = item.number("heads"), item.number("tokens")
    width = item.number("hidden") // heads
    return [bench.heads(each, tokens, width) for each in (heads, *2 * [item.number("kv_heads")])]


def _layer(item: Item, bench: Bench) -> Callable[[], object]:
    mesh = bench.mesh(item.number("ulysses"), item.number("ring"))
    q, k, v = (each.detach().requires_grad_() for each in _qkv(item, bench))
    gradient = _qkv(item, bench)[0]

    def both() -> None:
        found = attention.attention(q, k, v, mesh, _how(item))
        torch.autograd.grad(found, (q, k, v), gradient)

    return both


def _virtual(item: Item, bench: Bench) -> Callable[[], object]:
    """Return the passes of all ranks, one after the other."""
    ranks = item.number("ulysses") * item.number("ring")
    mesh = bench.mesh(item.number("ulysses"), item.number("ring"))
    q, k, v = (list(each) for each in zip(*(_qkv(item, bench) for _ in range(ranks)), strict=True))
    gradients = [_qkv(item, bench)[0] for _ in range(ranks)]

    def both() -> None:
        _, held = attention.forward(mesh, _how(item), q, k, v)
        attention.backward(
            mesh, _how(item), held, gradients,
            heads=item.number("heads"), kv_heads=item.number("kv_heads"),
        )  # fmt: skip

    return both


def _block(item: Item, bench: Bench) -> Callable[[], object]:
    hidden, tokens = item.number("hidden"), item.number("tokens")
    size = Size(
        hidden=hidden,
        heads=item.number("heads"),
        kv_heads=item.number("kv_heads"),
        mlp=item.number("mlp"),
    )
    layer = Layer(size).to(device=bench.device, dtype=bench.pool.dtype)
    mesh = bench.mesh(item.number("ulysses"), item.number("ring"))
    places = torch.arange(tokens, device=bench.device)
    rotary = rotary_tables(places, size.width, bench.pool.dtype)
    stream = bench.tensor(1, tokens, hidden).detach().requires_grad_()
    gradient = bench.tensor(1, tokens, hidden)
    leaves = [stream, *layer.parameters()]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention.attention(q, k, v, mesh, _how(item))

    def both() -> None:
        torch.autograd.grad(layer(stream, rotary, attend), leaves, gradient)

    return both
