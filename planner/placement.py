"""Where each rank of a layout sits: its place on every axis, and how far each axis reaches."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from models.expert_mesh import expert_data_ranks, expert_stride
from models.layout import LayoutBatch, strides
from topologies.errors import Problem, raise_if_any
from topologies.reach import outermost_tier

if TYPE_CHECKING:
    from models.layout import Ints, Layout
    from models.named_axes import RankOrder
    from topologies.cluster import Cluster

#: Axes that place ranks; a double ring has its windows as `ring`, their members as `inner_ring`.
PLACED_AXES = ("tp", "ulysses", "ring", "inner_ring", "dp", "pp")
MAP = "accelerator = sum of coordinate * stride"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedAxis:
    """One axis of more than one rank.

    Parameters
    ----------
    name, size
        The axis and its degree.
    stride
        Accelerators from one of its ranks to the next.
    reach
        The outermost tier of links that any of its groups crosses.
    scale_out
        Whether that tier leaves the fast domain.
    """

    name: str
    size: int
    stride: int
    reach: str
    scale_out: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the axis as documented JSON values."""
        return {"axis": self.name, "size": self.size, "stride": self.stride, "reach": self.reach}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the ranks of one layout sit; rank ``r`` is accelerator ``r``.

    Parameters
    ----------
    rank_order
        Order of the axes in the rank number.
    axes
        Axes of more than one rank, innermost first.
    accelerators, accelerators_per_node
        Of the cluster.
    experts
        Axes of the expert mesh, which lie over the others: ``etp``, ``ep`` and ``edp``, the ranks
        that hold the same experts. Empty where experts are whole on every rank.
    """

    rank_order: RankOrder
    axes: tuple[PlacedAxis, ...]
    accelerators: int
    accelerators_per_node: int
    experts: tuple[PlacedAxis, ...] = ()

    @classmethod
    def of(cls, layout: Layout, cluster: Cluster) -> Placement:
        """Return the placement of a layout that takes all of a cluster's accelerators."""
        found = strides(LayoutBatch.of([layout]))
        sizes = {name: getattr(layout, name) for name in PLACED_AXES}
        sizes["ring"] //= layout.inner_ring
        axes = [
            _placed(name, size, int(getattr(found, name)[0]), cluster)
            for name, size in sizes.items()
            if size > 1
        ]
        return cls(
            rank_order=layout.rank_order,
            axes=tuple(sorted(axes, key=lambda axis: axis.stride)),
            accelerators=cluster.accelerators,
            accelerators_per_node=cluster.accelerators_per_node,
            experts=_experts(layout, cluster),
        )

    def accelerator(self, **coordinates: int) -> int:
        """Return the accelerator at some coordinates; an axis not given is at 0.

        Raises
        ------
        SpecError
            With every coordinate that the layout does not have.

        Examples
        --------
        >>> from models import Layout
        >>> from topologies import load_cluster
        >>> placement = Placement.of(Layout(tp=4, dp=4), load_cluster("h100-dgx:2"))
        >>> placement.accelerator(dp=2, tp=1), placement.coordinates(9)
        (9, {'tp': 1, 'dp': 2})
        """
        sizes = dict.fromkeys(PLACED_AXES, 1) | {axis.name: axis.size for axis in self.axes}
        raise_if_any(
            [
                Problem(name, place, f"from 0 to {sizes[name] - 1}")
                if name in sizes
                else Problem(name, place, f"no such axis; axes are {', '.join(sizes)}")
                for name, place in coordinates.items()
                if not 0 <= place < sizes.get(name, 0)
            ]
        )
        return sum(coordinates.get(axis.name, 0) * axis.stride for axis in self.axes)

    def coordinates(self, rank: int) -> dict[str, int]:
        """Return a rank's place on every axis.

        Raises
        ------
        SpecError
            If there is no such rank.
        """
        self._check(rank)
        return {axis.name: rank // axis.stride % axis.size for axis in self.axes}

    def node(self, rank: int) -> int:
        """Return the node a rank sits in.

        Raises
        ------
        SpecError
            If there is no such rank.
        """
        self._check(rank)
        return rank // self.accelerators_per_node

    def ranks(self) -> dict[str, Ints]:
        """Return the places of all ranks on every axis, as one array for each."""
        numbers = np.arange(self.accelerators, dtype=np.int32)
        return {axis.name: numbers // axis.stride % axis.size for axis in self.axes}

    def blocks(self, ranks: range) -> list[dict[str, range]]:
        """Return neighbouring ranks as blocks: the places each has on every axis.

        Ranks that fill the inner axes whole are one block; where an axis begins or ends on the way,
        they are several.
        """
        found = []
        at = ranks.start
        while at < ranks.stop:
            found.append(self._block(at, ranks.stop))
            at += prod(map(len, found[-1].values()))
        return found

    def _block(self, at: int, stop: int) -> dict[str, range]:
        """Return the largest block that begins at a rank and ends before another."""
        fitting = [a.stride for a in self.axes if at % a.stride == 0 and at + a.stride <= stop]
        widest = max(fitting, default=1)
        block = {}
        for axis in self.axes:
            place, many = at // axis.stride % axis.size, 1
            if axis.stride < widest:
                many = axis.size
            elif axis.stride == widest:
                many = min(axis.size - place, (stop - at) // widest)
            block[axis.name] = range(place, place + many)
        return block

    def to_dict(self) -> dict[str, Any]:
        """Return the placement as documented JSON values."""
        return {
            "rank_order": self.rank_order.label,
            "axes": [axis.to_dict() for axis in self.axes],
            "expert_axes": [axis.to_dict() for axis in self.experts],
            "accelerators_per_node": self.accelerators_per_node,
            "map": MAP,
        }

    def _check(self, rank: int) -> None:
        if not 0 <= rank < self.accelerators:
            raise_if_any([Problem("rank", rank, f"from 0 to {self.accelerators - 1}")])


def _experts(layout: Layout, cluster: Cluster) -> tuple[PlacedAxis, ...]:
    """Return the axes of the expert mesh, innermost first, where experts are spread or cut."""
    batch = LayoutBatch.of([layout])
    sizes = {"etp": layout.etp, "ep": layout.ep, "edp": int(expert_data_ranks(batch)[0])}
    if layout.ep * layout.etp == 1:
        return ()
    axes = [
        _placed(name, size, int(expert_stride(batch, name)[0]), cluster)
        for name, size in sizes.items()
        if size > 1
    ]
    return tuple(sorted(axes, key=lambda axis: axis.stride))


def _placed(name: str, size: int, stride: int, cluster: Cluster) -> PlacedAxis:
    tier = outermost_tier(cluster, size, stride)
    return PlacedAxis(
        name=name, size=size, stride=stride, reach=tier.name, scale_out=tier.scale_out
    )
