"""The software that runs a job: its kernels of attention, and which communication it hides.

The same layout runs at different speeds in different years. Runs of 2020 to 2022 compute attention
as two products with a softmax between, whose scores go through memory, and reduce gradients once
all of them are there; what frameworks of today do is the usual software.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.attention_kernels import (
    AttentionKernel,
    architecture_of,
    attention_kernels,
    best_kernel,
)
from topologies.errors import SpecError, unknown_name
from topologies.figure import Figure, Provenance
from topologies.schema import AmountSchema, Strict, checked
from topologies.units import MICRO
from topologies.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = Path(__file__).parent / "data" / "software.yaml"
USUAL = "usual"
#: Attention as products and a softmax, with its scores in memory.
UNFUSED = "unfused"
#: What of software is measured or assumed; all else is as its sources say.
FIGURES = ("tp_hidden", "host_ratio", "host_backward_ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """What a framework of some time does beside what the layout says.

    Parameters
    ----------
    name, title, source
        What users ask for, what it is, and where that was read.
    attention
        Generations of its attention kernels, the preferred first; ``unfused`` for products and a
        softmax; none for the fastest that the device has.
    hides_gradients, hides_parameters
        Whether ZeRO-0 and 1 reduce gradients beside the backward pass, and ZeRO-1 gathers
        parameters beside the forward pass. ZeRO-2 and 3 always do, layer by layer.
    keeps_sent
        Whether a pipeline stage keeps what it sent on until the micro-batch comes back.
    scatters_sends
        Whether every rank of tensor parallelism sends a share of what a stage makes, and the next
        stage's gather it, where all of them would send the same.
    copies_gradients
        Whether the optimizer's step works on a copy in fp32 of gradients that are kept in bf16.
    update_bytes
        Bytes per parameter that is updated of what the optimizer's step computes on the way.
    group_sets
        How often each group of ranks has a communicator.
    bf16_loss
        Whether the loss reads logits in bf16, keeps those and makes their gradient beside them, as
        the cross entropy of flash-attention does.
    gradient_buffers
        ZeRO stages whose gradients have buffers of their own from the start; those of others are
        there from the backward pass on that makes them, a first micro-batch's until the last.
    gradient_bucket
        Parameters whose gradients are sent together, from buffers made for them; 0 where they are
        sent from where they are, layer by layer.
    repeats_kv
        Whether keys and values are copied for every query head before they are exchanged, sent
        around a ring and attended to.
    reduces_to_all
        Whether ZeRO-1 sums gradients for every rank, not for each its own.
    gathers_in_turn
        Whether ZeRO-1 gathers parameters by a broadcast from each rank after the other.
    shards_masters
        Whether ZeRO-3's shards are of the master weights alone, which are cast as they are
        gathered; else shards in 16 bits are beside them.
    tp_hidden
        Share of tensor parallelism's gathering and scattering along the sequence that runs beside
        products.
    host_ahead
        Whether the host starts kernels while others run, so that the slower of both counts; where
        it waits for each kernel (``CUDA_LAUNCH_BLOCKING=1``) both add up.
    host_ratio
        Time of the host from one kernel to the next over the profile's, which is of bare operators:
        modules, autograd, checkpoints and states of random numbers come with Python of their own.
    host_backward_ratio
        The same time in a backward pass over that in a forward pass: where the engine of autograd
        runs operators of its own, no Python stands between them.
    repeats_last
        Whether recomputation runs a layer's last product again, whose output no backward pass
        needs: whole functions are called again, or all that is done after the last thing kept is
        left out (torch's checkpoints without reentrance, what XLA compiles).
    """

    name: str
    title: str
    source: str
    attention: tuple[str, ...]
    hides_gradients: bool
    hides_parameters: bool
    keeps_sent: bool
    scatters_sends: bool
    copies_gradients: bool
    update_bytes: float
    group_sets: int
    bf16_loss: bool
    gradient_buffers: tuple[int, ...]
    gradient_bucket: float
    repeats_kv: bool
    reduces_to_all: bool
    gathers_in_turn: bool
    shards_masters: bool
    host_ahead: bool
    repeats_last: bool
    tp_hidden: Figure
    host_ratio: Figure
    host_backward_ratio: Figure

    @property
    def unfused(self) -> bool:
        """Whether the scores of attention go through memory."""
        return UNFUSED in self.attention

    def attention_on(self, accelerator: str) -> AttentionKernel | None:
        """Return the first of its attention kernels that an accelerator runs.

        None stands for the accelerator's best: also where none of them was measured there.
        """
        architecture = architecture_of(accelerator)
        known = (attention_kernels()[name] for name in self.attention if name != UNFUSED)
        return next((kernel for kernel in known if architecture in kernel.forward), None)

    def expands_kv_gradients(self, accelerator: str) -> bool:
        """Return whether attention's backward pass there has gradients of kv for each query head.

        >>> usual = load_software("usual")
        >>> usual.expands_kv_gradients("a100-sxm-80gb"), usual.expands_kv_gradients("h100-sxm")
        (True, False)
        """
        if self.unfused:
            return False
        best = attention_kernels().get(best_kernel(accelerator) or "")
        kernel = self.attention_on(accelerator) or best
        return kernel is not None and kernel.expands_kv_gradients

    def traits(self, accelerator: str, host_launch_s: float) -> tuple[str, ...]:
        """Return in words what of it changes times.

        Parameters
        ----------
        accelerator
            Its kernels of attention are told for.
        host_launch_s
            The profile's time of the host for one operator.

        Examples
        --------
        >>> for trait in load_software("megatron-2021").traits("a100-sxm-80gb", 7.2e-6):
        ...     print(trait)
        attention through memory, as products and a softmax
        gradients reduced and parameters gathered apart from passes
        the host runs ahead, 90 us an operator, 43 us backward
        """
        kernel = self.attention_on(accelerator)
        attention = "the fastest known on the device" if kernel is None else kernel.title
        if self.unfused:
            attention = "through memory, as products and a softmax"
        beside = {True: "beside", False: "apart from"}
        gradients, parameters = beside[self.hides_gradients], beside[self.hides_parameters]
        sent = f"gradients reduced {gradients} passes, parameters gathered {parameters} them"
        if gradients == parameters:
            sent = f"gradients reduced and parameters gathered {gradients} passes"
        ahead = "runs ahead" if self.host_ahead else "waits for every kernel"
        operator_us = self.host_ratio.value * host_launch_s / MICRO
        pace = f"{operator_us:.0f} us an operator"
        if (backward := self.host_backward_ratio.value) != 1.0:
            pace += f", {backward * operator_us:.0f} us backward"
        found = [
            f"attention {attention}",
            sent,
            f"the host {ahead}, {pace}",
        ]
        if self.repeats_kv:
            found.append("keys and values copied for every query head")
        if self.reduces_to_all:
            found.append("ZeRO-1 sums gradients for every rank")
        if self.gathers_in_turn:
            found.append("parameters gathered by a broadcast from every rank in turn")
        if self.tp_hidden.value:
            found.append(f"{self.tp_hidden.value:.0%} of tensor parallelism's sends hidden")
        return tuple(found)

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Yield every figure with its name."""
        for name in FIGURES:
            yield f"{self.name}.{name}", getattr(self, name)


class _SoftwareSchema(Strict):
    title: str
    source: str
    attention: list[str]
    hides_gradients: bool
    hides_parameters: bool
    keeps_sent: bool
    scatters_sends: bool
    copies_gradients: bool
    update_bytes: float
    group_sets: int
    bf16_loss: bool
    gradient_buffers: list[int]
    gradient_bucket: float
    repeats_kv: bool
    reduces_to_all: bool
    gathers_in_turn: bool
    shards_masters: bool
    host_ahead: bool
    repeats_last: bool
    tp_hidden: AmountSchema
    host_ratio: AmountSchema
    host_backward_ratio: AmountSchema

    def build(self, name: str) -> Software:
        figures = {each: getattr(self, each).si() for each in FIGURES}
        stated: dict[str, Any] = self.model_dump(exclude=set(FIGURES))
        listed = {each: tuple(stated[each]) for each in ("attention", "gradient_buffers")}
        return Software(name=name, **{**stated, **listed}, **figures)


@cache
def softwares() -> dict[str, Software]:
    """Return all software by name.

    Raises
    ------
    SpecError
        If the file is not what the schema says.
    """
    found: dict[str, Software] = {}
    whole: dict[str, dict[str, Any]] = {}
    for name, entry in read_yaml(FILE).items():
        kin = entry.get("kin")
        if kin is not None and kin not in whole:
            raise SpecError([unknown_name(f"{FILE.name}: {name}: kin", kin, tuple(whole))])
        own = {key: value for key, value in entry.items() if key != "kin"}
        whole[name] = {**(_inherited(whole[kin], kin) if kin else {}), **own}
        found[name] = checked(_SoftwareSchema, whole[name], f"{FILE.name}: {name}").build(name)
    return found


def _inherited(entry: dict[str, Any], kin: str) -> dict[str, Any]:
    """Return an entry for another that is like it: figures are assumed there."""
    assumed = {"kind": str(Provenance.ASSUMED), "source": f"assumed: as {kin}"}
    return {
        key: {**value, **assumed} if key in FIGURES else value
        for key, value in entry.items()
        if key not in ("title", "source")
    }


def load_software(name: str) -> Software:
    """Return software by its name.

    Raises
    ------
    SpecError
        If there is none of that name.
    """
    if name not in softwares():
        raise SpecError([unknown_name("--software", name, tuple(softwares()))])
    return softwares()[name]


def usual_software() -> Software:
    """Return what nothing else was asked for."""
    return load_software(USUAL)
