"""The space of layouts: every legal one for a job, as batches of arrays.

Enumerated are all tp x ulysses x ring x pp x dp that use every accelerator; micro-batches that are
powers of two; every ZeRO stage and every power-of-two HSDP replica count; both context-parallel
methods, both placements of a hybrid, the rank orders that differ; flat rings and, where the
framework has them, double rings whose windows are powers of two; even stages, and balanced ones
where they differ; interleaving by 2 to 8 chunks, and every other schedule that the framework runs;
experts over every divisor of their number that the ranks of a stage allow, each whole or cut as
attention is, by every way of dispatch, shared experts beside it or not;
no, selective and full recomputation, and full recomputation of the fewest layers that fit (found in
closed form: more are never faster).

With fused kernels selective recomputation repeats one of three sets of modules: the core attention;
norms, activations of experts and up-projections of latent attention; these with dense MLPs and
shared experts. Modules that a model does not have, or no framework of the choice repeats, are left
out of a set, and sets that are then the same are tried once. Any other set can be pinned.

Left out unless pinned, because they are never faster nor smaller than what is in: GPipe (against
1F1B), looped BFS (against interleaved 1F1B), contiguous rings where the sequence can be cut in
zigzag, more recomputed layers than needed. Full recomputation that keeps one input of several
layers (uniform) is as fast as that of all layers and may be smaller; it is left to a pin as well.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from models.layout import AXES, LayoutBatch
from models.legality import mesh_legal, options_legal
from planner.options import MESH_AXES, OPTION_AXES, MeshOptions
from topologies.divisors import divisors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.rules.rule import Job
    from planner.bounds import Bounds
    from planner.options import Options

#: Layouts evaluated together: large enough to amortise NumPy's calls, small enough for the cache.
BATCH = 65_536
LARGEST_MICRO_BATCH = 64


@dataclass
class Space:
    """All legal layouts of a job within bounds, that a framework can run.

    Parameters
    ----------
    job
        Model, workload and accelerators.
    bounds
        Pins and bounds on axes.
    framework
        Name of a framework, ``any`` or ``unrestricted``.
    refused
        Filled while enumerating: how many combinations each axis' rules turned away.
    """

    job: Job
    bounds: Bounds
    framework: str
    refused: Counter[str] = field(default_factory=Counter)

    def batches(self) -> Iterator[LayoutBatch]:
        """Yield the legal layouts, whole meshes at a time, about :data:`BATCH` in each."""
        waiting: list[tuple[tuple[int, ...], Options]] = []
        size = 0
        choices = MeshOptions(self.job, self.bounds, self.framework)
        for mesh in self.meshes():
            for micro_batch in self._micro_batches(mesh):
                options = choices.of(mesh, micro_batch)
                length = len(options["zero"])
                if length:
                    waiting.append(((*mesh, micro_batch), options))
                    size += length
            if size >= BATCH:
                yield from self._join(waiting)
                waiting, size = [], 0
        if waiting:
            yield from self._join(waiting)

    def meshes(self) -> list[tuple[int, ...]]:
        """Return every legal mesh: tp, ulysses, ring, pp, dp; few pipeline ranks first.

        Batches of few pipeline ranks have few kinds of rank, which makes them quick to cost.
        """
        rows = np.array(list(self._factorisations()), dtype=np.int32).reshape(-1, len(MESH_AXES))
        columns = {axis: np.full(len(rows), 1, dtype=np.int32) for axis in AXES}
        columns |= dict(zip(MESH_AXES, rows.T, strict=True))
        batch = LayoutBatch(**columns)
        lawful = mesh_legal(batch, self.job, self.refused) & self.bounds.allows("cp", batch.cp)
        found = [tuple(map(int, row)) for row in rows[lawful]]
        return sorted(found, key=lambda mesh: mesh[MESH_AXES.index("pp")])

    def _factorisations(self) -> Iterator[tuple[int, ...]]:
        """Yield tp, ulysses, ring, pp, dp whose product is the number of accelerators."""
        job = self.job
        heads = max((number for number, _ in job.architecture.cut_heads), default=job.gpus)
        for tp in self._divisors("tp", job.gpus, heads):
            for ulysses in self._divisors("ulysses", job.gpus // tp, heads // tp):
                cp_left = job.gpus // (tp * ulysses)
                for ring in self._divisors("ring", cp_left, job.workload.seq_len):
                    pp_left = cp_left // ring
                    for pp in self._divisors("pp", pp_left, len(job.architecture.layers)):
                        dp = pp_left // pp
                        if dp in self.bounds.choose("dp", [dp]):
                            yield tp, ulysses, ring, pp, dp

    def _divisors(self, axis: str, number: int, most: int) -> list[int]:
        found = [value for value in divisors(number) if value <= most]
        return [value for value in self.bounds.choose(axis, found) if number % value == 0]

    def _micro_batches(self, mesh: tuple[int, ...]) -> list[int]:
        powers = [2**k for k in range(LARGEST_MICRO_BATCH.bit_length())]
        share, rest = divmod(self.job.workload.global_batch, mesh[-1])
        wanted = self.bounds.choose("micro_batch", powers)
        fitting = [size for size in wanted if rest == 0 and share % size == 0]
        self.refused["micro_batch"] += len(wanted) - len(fitting)
        return fitting

    def _join(self, blocks: Sequence[tuple[tuple[int, ...], Options]]) -> Iterator[LayoutBatch]:
        """Yield one batch of blocks, each a mesh with a micro-batch and its options, or none."""
        lengths = [len(options["zero"]) for _, options in blocks]
        heads = np.repeat(np.array([head for head, _ in blocks], dtype=np.int32), lengths, axis=0)
        columns = dict(zip((*MESH_AXES, "micro_batch"), heads.T.copy(), strict=True))
        for axis in OPTION_AXES:
            columns[axis] = np.concatenate([options[axis] for _, options in blocks])
        batch = LayoutBatch(**columns)
        lawful = options_legal(batch, self.job, self.refused)
        if lawful.all():
            yield batch
        elif lawful.any():
            yield batch.take(lawful)
