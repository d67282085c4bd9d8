"""NCCL's tuning constants as ``data/nccl_tuning.yaml`` gives them, in NCCL's units (us, GB/s)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from topologies.schema import Strict, checked
from topologies.yaml_file import read_yaml

FILE = Path(__file__).parent / "data" / "nccl_tuning.yaml"

#: For the protocols ll, ll128, simple; or for 1 node, 2 nodes, more.
Three = tuple[float, float, float]
#: What is kept of what is sent, as a fraction.
Kept = tuple[int, int]


class _Sourced(Strict, strict=False):
    """Constants that come from one place."""

    kind: Literal["spec", "assumed"]
    source: str = Field(min_length=1)
    note: str = ""


class GenerationsSchema(_Sourced):
    """One number per generation."""

    volta: float
    ampere: float
    hopper: float
    blackwell: float

    def of(self, generation: str) -> float:
        """Return the number of a generation."""
        found: float = getattr(self, generation)
        return found


class RatesSchema(_Sourced):
    """GB/s per generation, for 1 node, 2 nodes and more."""

    volta: Three
    ampere: Three
    hopper: Three
    blackwell: Three

    def of(self, generation: str) -> Three:
        """Return the rates of a generation."""
        found: Three = getattr(self, generation)
        return found


class ProcessorsSchema(Strict, strict=False):
    """The generation in whose row of a table a processor stands."""

    intel: str
    amd: str
    arm: str


class LlRatesSchema(RatesSchema):
    """The most that protocol ll reaches."""

    rows_over_nodes: ProcessorsSchema

    def over_nodes(self, cpu: str) -> Three:
        """Return the rates over nodes with a kind of processor."""
        return self.of(getattr(self.rows_over_nodes, cpu))


class BaseSchema(_Sourced):
    """Start of a collective by protocol."""

    ring: Three
    tree: Three


class LinkSchema(Strict, strict=False):
    """Latencies of one step over one kind of link."""

    ring: Three
    tree: Three
    nvls: float
    nvls_tree: float


class HardwareSchema(_Sourced):
    """Latencies of steps by kind of link."""

    nvlink: LinkSchema
    pci: LinkSchema
    net: LinkSchema


class OverheadSchema(_Sourced):
    """Least duration of a ring's step over nodes, by processor."""

    intel: Three
    amd: Three
    arm: Three

    def of(self, cpu: str) -> Three:
        """Return the durations by protocol for a kind of processor."""
        found: Three = getattr(self, cpu)
        return found


class RingSchema(_Sourced):
    """Shares of the links' rate that a ring's protocols reach."""

    ll_share: float
    ll128_share: float


class TreeSchema(_Sourced):
    """Shares of the links' rate that a tree's protocols reach."""

    share: float
    ll_divisor: float
    ll128_kept_in_node: Kept
    ll128_kept_over_nodes: Kept
    pattern_share: float
    all_reduce_share: float


class PlateauSchema(GenerationsSchema):
    """How many times longer a large ring all-reduce over nodes takes to start."""

    bytes_per_channel_rank: float


class CorrectionSchema(_Sourced):
    """Factors on a tree's rate by size, in doublings from `first_bytes`."""

    first_bytes: float
    ll: list[float]
    ll128: list[float]
    simple: list[float]
    nvls_tree_generation: str
    nvls_tree_cpus: list[str]


class GridSchema(Strict, strict=False):
    """Rates a channel may have, per generation."""

    volta: list[float]
    ampere: list[float]
    hopper: list[float]
    blackwell: list[float]

    def of(self, generation: str) -> list[float]:
        """Return the rates of a generation, the fastest first."""
        found: list[float] = getattr(self, generation)
        return found


class GridsSchema(_Sourced):
    """Rates a channel may have in one node and over nodes."""

    inside: GridSchema
    between: GridSchema


class ChannelsSchema(_Sourced):
    """How many channels a group may have, and how much faster a tree's are inside a node."""

    inside: int
    between: int
    tree_inside: float
    nvls_most: int


class Tables(Strict, strict=False):
    """``data/nccl_tuning.yaml``."""

    base_us: BaseSchema
    hw_us: HardwareSchema
    net_overhead_us: OverheadSchema
    ring: RingSchema
    tree: TreeSchema
    nvls_efficiency: GenerationsSchema
    ll_max_GBps: LlRatesSchema
    ring_ll128_GBps: RatesSchema
    tree_ll128_GBps: RatesSchema
    tree_GBps: RatesSchema
    nvls_tree_GBps: RatesSchema
    plateau: PlateauSchema
    tree_correction: CorrectionSchema
    channel_GBps: GridsSchema
    channels: ChannelsSchema


#: Generations of NVIDIA accelerators that the tables know, the oldest first.
GENERATIONS = tuple(GridSchema.model_fields)
#: Kinds of processors of a node that they tell apart.
PROCESSORS = tuple(ProcessorsSchema.model_fields)


@cache
def load_tables() -> Tables:
    """Return the constants."""
    return checked(Tables, read_yaml(FILE), FILE.name)
