"""How every step of a schedule runs: which passes have parameters, gradients, sends beside them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from models.simulation.passes import ALONE, Company
from models.simulation.pipeline_order import Pass
from models.state_bytes import gathers_each_pass, reduces_each_pass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.prepared import Prepared
    from models.simulation.gradients import Gradients
    from models.simulation.passes import Passes, PassRun
    from models.simulation.pipeline_order import Action
    from models.simulation.program import Task
    from models.simulation.stages import Stage
    from models.simulation.static_order import Compiled

    Array = NDArray[np.floating[Any]]

#: Passes after which gradients of the weights are there.
_MAKES_GRADIENTS = (Pass.BACKWARD, Pass.WEIGHT_GRADIENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRank:
    """What one rank of the pipeline does.

    Parameters
    ----------
    passes
        Its passes.
    send
        What it sends on of a micro-batch.
    gradients
        What data parallelism does on it.
    own_links
        Whether its links are others than those of the rest.
    """

    passes: Passes
    send: Task
    gradients: Gradients
    own_links: bool


@dataclass(frozen=True, kw_only=True)
class StepRuns:
    """Runs of the steps of a schedule; the same passes in the same company are played once.

    Parameters
    ----------
    prepared
        One layout with its inventory.
    compiled
        The schedule.
    stages
        All of the pipeline.
    pipeline
        Its ranks.
    waits
        Whether ranks wait for each send.
    """

    prepared: Prepared
    compiled: Compiled
    stages: Sequence[Stage]
    pipeline: Sequence[PipelineRank]
    waits: bool

    def runs(self) -> list[list[PassRun]]:
        """Return how every step of the schedule runs, pair by pair of its passes."""
        cache: dict[tuple[object, ...], PassRun] = {}
        gathering, reducing = self._special()
        found = []
        for at, actions in enumerate(self.compiled.runs):
            rank = self._ranks[at]
            sends = not self.waits and self._sends(self.compiled.before[at])
            runs = []
            for place, action in enumerate(actions):
                gathers, reduces = (at, action) in gathering, (at, action) in reducing
                key = (
                    self.stages[action.stage],
                    action.kind,
                    rank if gathers or reduces or self.pipeline[rank].own_links else None,
                    gathers,
                    reduces,
                    self._lead_s(at, action) if gathers and not self._every else 0.0,
                    sends and not place,
                )
                if key not in cache:
                    cache[key] = self._run(rank, action, key)
                runs.append(cache[key])
            found.append(runs)
        return found

    def _run(self, rank: int, action: Action, key: tuple[Any, ...]) -> PassRun:
        _, _, _, gathers, reduces, lead, sends = key
        stage = self.stages[action.stage]
        if not (gathers or reduces or sends or self._every):
            return self.pipeline[rank].passes.run(stage, action.kind)
        gradients, forward = self.pipeline[rank].gradients, action.kind is Pass.FORWARD
        gathered = gradients.gathers(stage) if gathers else []
        reduced = gradients.reductions(stage) if reduces else []
        company = Company(
            gathers=tuple(gathered if forward else reversed(gathered)),
            reductions=tuple(tuple(tasks) for tasks in reversed(reduced)),
            ahead=1 if self._every else None,
            waits=self._waits_for_gradients,
            lead_s=lead,
            send=self.pipeline[rank].send if sends else None,
        )
        return self.pipeline[rank].passes.run(stage, action.kind, company)

    def _lead_s(self, at: int, action: Action) -> float:
        """Return how long the links are free to gather a stage's parameters before its first pass.

        The rank's stages are gathered one after the other, in the order in which they start.
        """
        rank = self._ranks[at]
        before = {
            other.stage
            for step in range(at)
            if self._ranks[step] == rank
            for other in self.compiled.runs[step]
        } - {action.stage}
        gradients = self.pipeline[rank].gradients
        taken = [task.seconds for stage in before for task in gradients.gathers(self.stages[stage])]
        return float(self._starts[at] - sum(taken))

    @cached_property
    def _starts(self) -> Array:
        """Return when every step starts if nothing runs beside the passes."""
        alone: dict[tuple[object, ...], float] = {}
        seconds = np.zeros(len(self.compiled.runs))
        for at, actions in enumerate(self.compiled.runs):
            for action in actions:
                rank = self._ranks[at]
                key = (self.stages[action.stage], action.kind, self.pipeline[rank].own_links)
                if key not in alone:
                    stage = self.stages[action.stage]
                    alone[key] = self.pipeline[rank].passes.run(stage, action.kind, ALONE).seconds
                seconds[at] += alone[key]
        send_s = np.array([self.pipeline[rank].send.seconds for rank in self._ranks])
        return self.compiled.times(seconds, send_s, waits=self.waits).start

    def _special(self) -> tuple[set[tuple[int, Action]], set[tuple[int, Action]]]:
        """Return the passes beside which parameters are gathered, and gradients reduced.

        Those of the first micro-batch and of the last through every stage of a rank, or all.
        """
        zero = int(self.prepared.batch.zero[0])
        gathers: dict[object, tuple[int, Action]] = {}
        reduces: dict[object, tuple[int, Action]] = {}
        for at, actions in enumerate(self.compiled.runs):
            for action in actions:
                # Both directions of DualPipe have stages of their own on every rank.
                own = (self._ranks[at], action.stage)
                every = (*own, action.micro_batch, action.kind)
                makes = action.kind in _MAKES_GRADIENTS
                if zero and (self._every or action.kind is Pass.FORWARD):
                    gathers.setdefault(every if self._every else own, (at, action))
                if makes:
                    reduces[every if self._waits_for_gradients else own] = (at, action)
        return set(gathers.values()), set(reduces.values())

    @property
    def _every(self) -> bool:
        """Whether parameters are gathered for every pass."""
        return bool(gathers_each_pass(self.prepared.batch)[0])

    @property
    def _waits_for_gradients(self) -> bool:
        """Whether a pass ends only when its gradients are reduced."""
        return bool(reduces_each_pass(self.prepared.batch)[0])

    def _sends(self, step: int) -> bool:
        """Return whether a step makes what another rank needs."""
        return step >= 0 and bool(self.compiled.leaving[step])

    @cached_property
    def _ranks(self) -> list[int]:
        ranks: list[int] = self.compiled.rank.tolist()
        return ranks
