"""What a published step does not hold whole on its devices: states in host memory, tiles."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from models.architecture import Mlp
from models.dtype import BF16
from models.layout import LayoutBatch
from models.memory import memory_bill, transit_bytes
from models.memory_bill import LINES, SUMS
from validate.published.row import UnexpressedError

if TYPE_CHECKING:
    from models.architecture import Architecture, Layer
    from models.layout import Layout
    from planner.plans import Plan
    from planner.scenario import Scenario
    from validate.published.row import Row

#: What rows say is in host memory, and which field that is.
_OFFLOADED = {
    "optimizer cpu": ("optimizer",),
    "optimizer+param cpu": ("optimizer", "parameters"),
    "activation checkpoints cpu": ("checkpoints",),
    "activation checkpoints to cpu": ("checkpoints",),
}
#: What is said to be left out: ``no tiled MLP``, ``no ckpt offload``, ``no tiling``.
_LEFT_OUT = re.compile(r"\bno \w+( MLP| offload)?", re.IGNORECASE)
_TILED_LOSS = re.compile(r"liger|tiled loss|fused loss", re.IGNORECASE)
_TILED_MLP = re.compile(r"tiled MLP", re.IGNORECASE)
#: Layers whose inputs, or whose parameters, are on the device: the running one and the next.
AT_HAND = 2
#: Lines of the bill that a pass asks for, and that tiles make smaller.
_PASSING = ("activations", "logits", "working", "buffers")
_ALLOCATOR = "fragmentation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparing:
    """What a step does not hold whole on its devices.

    Parameters
    ----------
    optimizer
        Master weights, moments and gradients are in host memory, where they are updated
        (ZeRO-Offload, arXiv:2101.06840 section 3).
    parameters
        Parameters are too, but for those of :data:`AT_HAND` layers.
    checkpoints
        Inputs of layers that are recomputed are too, but for :data:`AT_HAND` of them.
    loss
        Logits are made for a tile of tokens at a time, with as many elements as the whole hidden
        states have (linkedin/Liger-Kernel ``ops/fused_linear_cross_entropy.py``).
    mlp
        MLPs run over tiles of as many tokens as the model is wide (ArcticTraining, ALST's
        ``TiledMLP``; arXiv:2506.13996 section 3.1).
    """

    optimizer: bool = False
    parameters: bool = False
    checkpoints: bool = False
    loss: bool = False
    mlp: bool = False

    @classmethod
    def of(cls, row: Row) -> Sparing:
        """Return what a row says.

        Raises
        ------
        UnexpressedError
            If it says what is not modelled.
        """
        said = row.text("offload", "none").lower()
        parts = [] if said == "none" else said.split(" + ")
        for part in parts:
            if part not in _OFFLOADED:
                raise UnexpressedError(f"offload not modelled: {part[:40]}")
        method = _LEFT_OUT.sub("", row.text("method"))
        return cls(
            **{field: True for part in parts for field in _OFFLOADED[part]},
            loss=bool(_TILED_LOSS.search(method)),
            mlp=bool(_TILED_MLP.search(method)),
        )

    def bytes_on_device(self, scenario: Scenario, layout: Layout, kind: str = "device") -> float:
        """Return what the fullest rank holds of a step of one layout, of one kind of sum.

        States and all else that stays are the plan's. What a pass asks for is that of a model as
        wide as its tiles, but for parameters and gradients on their way.

        Raises
        ------
        UnexpressedError
            If checkpoints of pipelines are in host memory.
        """
        whole, transit = _lines(scenario, layout)
        tiles, narrow = whole, transit
        if self.loss or self.mlp:
            tiled = replace(scenario, architecture=self._tiled(scenario, layout))
            tiles, narrow = _lines(tiled, layout)
        passing = sum(tiles[line] for line in _PASSING)
        left = passing + transit - narrow
        left -= self._moved(scenario, layout) if self.checkpoints else 0.0
        held = {**whole, **self._states(whole, len(scenario.architecture.layers))}
        for line in (*_PASSING, _ALLOCATOR):
            del held[line]
        # What the allocator holds beyond what is asked for grows with that.
        held |= {"activations": left, _ALLOCATOR: tiles[_ALLOCATOR] * left / passing}
        return sum(nbytes for line, nbytes in held.items() if line in SUMS[kind])

    def _states(self, bill: dict[str, float], layers: int) -> dict[str, float]:
        """Return the lines of a bill that host memory makes smaller."""
        found: dict[str, float] = {}
        if self.optimizer:
            found |= {"gradients": 0.0, "optimizer": 0.0}
        if self.parameters:
            found["parameters"] = bill["parameters"] * min(AT_HAND / layers, 1.0)
        return found

    def _moved(self, scenario: Scenario, layout: Layout) -> float:
        """Return the bytes of checkpoints that are in host memory."""
        if layout.pp > 1:
            raise UnexpressedError("checkpoints of pipelines in host memory are not modelled")
        model = scenario.architecture
        away = max(len(model.layers) - AT_HAND, 0)
        return BF16 * model.hidden * _tokens(scenario, layout) * away

    def _tiled(self, scenario: Scenario, layout: Layout) -> Architecture:
        """Return a model whose logits and MLPs have as many elements as their tiles."""
        model = scenario.architecture
        if self.loss:
            model = replace(model, vocab=min(model.vocab, model.hidden))
        if not self.mlp:
            return model
        share = min(model.hidden / _tokens(scenario, layout), 1.0)
        return replace(model, layers=tuple(_narrow(layer, share) for layer in model.layers))


def _narrow(layer: Layer, share: float) -> Layer:
    """Return a layer whose MLP has a share of its width."""
    mlp = layer.mlp
    if not isinstance(mlp, Mlp):
        raise UnexpressedError("tiles of experts are not modelled")
    return replace(layer, mlp=replace(mlp, intermediate=max(int(mlp.intermediate * share), 1)))


def _tokens(scenario: Scenario, layout: Layout) -> float:
    """Return the tokens of a micro-batch whose hidden states a rank keeps."""
    ranks = layout.ulysses * layout.ring * (layout.tp if layout.tp_sp else 1)
    return scenario.workload.seq_len * layout.micro_batch / ranks


def _lines(scenario: Scenario, layout: Layout) -> tuple[dict[str, float], float]:
    """Return the memory bill of one layout by line, as its plan has it, without any times.

    And what of its buffers is of parameters and gradients.
    """
    prepared, profile = scenario.prepared(LayoutBatch.of([layout])), scenario.device.profile
    bill = memory_bill(prepared, profile, scenario.capacity_bytes)
    lines = {line: float(getattr(bill, line)[0]) for line in LINES}
    return lines, float(transit_bytes(prepared, profile)[0])


def plan_of(scenario: Scenario, layout: Layout) -> Plan:
    """Return the plan of one layout."""
    (plan,) = scenario.evaluate(LayoutBatch.of([layout]))
    return plan
