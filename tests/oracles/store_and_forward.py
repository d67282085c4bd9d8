"""Collectives message by message, under the assumptions of the ASTRA-sim simulator.

An independent program of the *same* model, to hold what we believe about rings, switches and trees
against another simulator's runs: an oracle, not a prediction. No plan rests on it.

A heap of ``(time, sequence)`` moves messages over directed links of latency ``L``, ``B`` bytes/s;
ties are first come, first served:

* *aware*: ``m`` bytes keep a link, first in first out, busy for ``m / B`` and are stored whole by
  the next hop after ``L + m / B``: a switch, two hops, serialises them twice (network/Link.cpp).
* *unaware*: a message over ``h`` hops takes ``h L + m / B`` and never meets another. The parallel
  sends of one rank are then free of each other: `direct` on a switch beats the rank's own link.
* A reduction is three accesses to memory, ``3 m / M``; none waits for another (PacketBundle.cc).
* Every delay is cut to whole nanoseconds, and ranks pause before each send and after each phase.

Paths are in astra-sim/astra-sim@518bd51; the schedules follow its collective_algorithm/. Cuts,
pauses and what the trees reduce were worked out from recorded times, which come out exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import accumulate, count, pairwise
from math import prod
from operator import floordiv
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from topologies.errors import Problem, raise_if_any, unknown_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    _Step = tuple[Sequence[int], int, int]

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]
Algorithm = Literal["ring", "direct", "halvingDoubling", "doubleBinaryTree"]
Kind = Literal["ring", "switch", "fully_connected"]
MultiDim = Literal["localBWAware", "baseline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dim:
    """One dimension of a topology; ranks of different dimensions share no link.

    Parameters
    ----------
    kind
        A two-way ring, a single switch, or a link between every two ranks.
    npus
        Ranks along the dimension.
    Bps, latency_s
        Of one directed link. ASTRA-sim's "GB/s" is ``2**30`` here and ``1e9`` for local memory.
    """

    kind: Kind
    npus: int
    Bps: float
    latency_s: float

    def route(self, src: int, dst: int) -> tuple[tuple[int, int], ...]:
        """Return the directed links from `src` to `dst`; the switch is rank -1.

        >>> Dim(kind="ring", npus=8, Bps=1.0, latency_s=0.0).route(1, 7)
        ((1, 0), (0, 7))
        """
        if self.kind == "switch":
            return (src, -1), (-1, dst)
        if self.kind == "fully_connected":
            return ((src, dst),)
        ahead = (dst - src) % self.npus
        step, hops = (1, ahead) if 2 * ahead <= self.npus else (-1, self.npus - ahead)
        return tuple(pairwise((src + step * hop) % self.npus for hop in range(hops + 1)))


def collective_seconds(
    collective: Collective,
    nbytes: int,
    dims: Sequence[Dim],
    algorithm: Algorithm,
    *,
    aware: bool,
    multi_dim: MultiDim = "localBWAware",
    local_Bps: float = 1.6e12,
    endpoint_s: float = 1e-9,
    cut_through: bool = False,
) -> float:
    """Return the seconds of one collective, alone on its links, until its last rank is done.

    Parameters
    ----------
    collective, algorithm
        What is done and how, in ASTRA-sim's words. `halvingDoubling` and `doubleBinaryTree` are
        all-reduces over a power of two of ranks.
    nbytes
        Bytes of the whole tensor; of one rank's shard for an all-gather.
    dims
        Dimensions from the inside out. The phases of several follow one another.
    aware
        Whether messages share links.
    multi_dim
        For all-reduce: `localBWAware` scatters from the inside out, reduces over the last
        dimension and gathers back; `baseline` reduces all bytes over each.
    local_Bps, endpoint_s
        Bytes/s of local memory, and the pause before each send; defaults of the recorded runs.
    cut_through
        Hand the head of a message on while its tail arrives: real switches do, ASTRA-sim does not.

    Raises
    ------
    SpecError
        If a word is unknown or an algorithm does not do what is asked for.

    Examples
    --------
    Two steps of two hops, of ``1000 ns + 1000 B / (1 B/ns)``; 1 ns before each and at the end.

    >>> pair = Dim(kind="switch", npus=2, Bps=1e9, latency_s=1e-6)
    >>> round(collective_seconds("all_reduce", 2000, [pair], "ring", aware=True) * 1e9)
    8003
    """
    raise_if_any(_problems(collective, dims, algorithm, multi_dim))
    total_ns, pause_ns = 0, _ns(endpoint_s)
    for phase, phase_bytes, dim in _phases(collective, nbytes, dims, multi_dim):
        messages = _SCHEDULES[algorithm](phase, phase_bytes, dim.npus)
        total_ns += _makespan_ns(messages, _Links(dim, aware, cut_through, local_Bps), pause_ns)
    return total_ns / 1e9


def _problems(collective: str, dims: Sequence[Dim], algorithm: str, how: str) -> list[Problem]:
    """Return what no published run could have asked for."""
    words = [("collective", collective, get_args(Collective))]
    words += [("algorithm", algorithm, get_args(Algorithm)), ("multi_dim", how, get_args(MultiDim))]
    words += [("kind", dim.kind, get_args(Kind)) for dim in dims]
    found = [] if dims else [Problem("dims", dims, "give at least one dimension")]
    found += [unknown_name(*each) for each in words if each[1] not in each[2]]
    found += [Problem("npus", dim.npus, "use 2 or more") for dim in dims if dim.npus < 2]
    odd = any(dim.npus & (dim.npus - 1) for dim in dims)
    if algorithm in ("halvingDoubling", "doubleBinaryTree") and (odd or collective != "all_reduce"):
        found.append(Problem("algorithm", algorithm, "only all-reduce a power of two of ranks"))
    return found


def _phases(
    collective: Collective, nbytes: int, dims: Sequence[Dim], multi_dim: MultiDim
) -> list[tuple[Collective, int, Dim]]:
    """Return ``(collective, bytes, dim)`` of each phase, in order.

    Scattering leaves less for the next dimension, so it goes outwards, and gathering inwards.
    """
    if collective == "all_to_all" or (collective == "all_reduce" and multi_dim == "baseline"):
        return [(collective, nbytes, dim) for dim in dims]
    inner = dims[:-1] if collective == "all_reduce" else dims
    whole = nbytes * prod(dim.npus for dim in dims) if collective == "all_gather" else nbytes
    left = list(accumulate((dim.npus for dim in inner), floordiv, initial=whole))
    phases: list[tuple[Collective, int, Dim]] = []
    if collective != "all_gather":
        phases += [("reduce_scatter", left[i], dim) for i, dim in enumerate(inner)]
    if collective == "all_reduce":
        phases.append((collective, left[-1], dims[-1]))
    if collective != "reduce_scatter":
        phases += [("all_gather", left[i + 1], dim) for i, dim in enumerate(inner)][::-1]
    return phases


class _Message(NamedTuple):
    """Bytes from one rank to another, sent once the messages `after` are in and reduced."""

    src: int
    dst: int
    nbytes: int
    reduced_bytes: int
    after: Sequence[int]


@dataclass(slots=True)
class _Links:
    """The links of one dimension, and the nanosecond from which each is free again."""

    dim: Dim
    aware: bool
    cut_through: bool
    local_Bps: float
    free_ns: dict[tuple[int, int], int] = field(default_factory=dict)

    def forward(self, message: _Message, hop: int, now_ns: int) -> tuple[int, int]:
        """Return when `message` is over its next hop, or over its last and reduced; hops left."""
        route = self.dim.route(message.src, message.dst)
        latency_s, busy_s = self.dim.latency_s, message.nbytes / self.dim.Bps
        reduce_ns = 3 * _ns(message.reduced_bytes / self.local_Bps)
        if not self.aware:
            return now_ns + _ns(len(route) * latency_s + busy_s) + reduce_ns, 0
        start_ns = max(now_ns, self.free_ns.get(route[hop], 0))
        self.free_ns[route[hop]] = start_ns + _ns(busy_s)
        left = len(route) - hop - 1
        over_ns = start_ns + _ns(latency_s + (0.0 if left and self.cut_through else busy_s))
        return over_ns + (0 if left else reduce_ns), left


def _makespan_ns(messages: Sequence[_Message], links: _Links, pause_ns: int) -> int:
    """Return the nanoseconds until the last message is in and reduced, and the pause after."""
    ready_ns = [0] * len(messages)
    waiting_for = [len(message.after) for message in messages]
    followers: list[list[int]] = [[] for _ in messages]
    for index, message in enumerate(messages):
        for earlier in message.after:
            followers[earlier].append(index)
    queue = [(pause_ns, i, i, 0) for i, message in enumerate(messages) if not message.after]
    sequence, last_ns = count(len(messages)), 0
    while queue:
        now_ns, _, index, hop = heappop(queue)
        now_ns, left = links.forward(messages[index], hop, now_ns)
        last_ns = max(last_ns, now_ns)
        if left:
            heappush(queue, (now_ns, next(sequence), index, hop + 1))
        for follower in () if left else followers[index]:
            waiting_for[follower] -= 1
            ready_ns[follower] = max(ready_ns[follower], now_ns)
            if not waiting_for[follower]:
                heappush(queue, (ready_ns[follower] + pause_ns, next(sequence), follower, 0))
    return last_ns + pause_ns


def _ns(seconds: float) -> int:
    """Return whole nanoseconds, cut; a millionth keeps a whole one from being cut by rounding."""
    return int(seconds * 1e9 + 1e-6)


def _in_steps(n: int, steps: Iterable[_Step], *, swap: bool = False) -> list[_Message]:
    """Return the messages of steps ``(distances, bytes, bytes reduced)`` that all ranks make.

    A rank starts a step when all of the last one is in. Distances count ahead around the ranks, or
    with `swap` are the bit in which two partners differ.
    """
    messages: list[_Message] = []
    after: list[list[int]] = [[] for _ in range(n)]
    for distances, nbytes, reduced_bytes in steps:
        received: list[list[int]] = [[] for _ in range(n)]
        for rank in range(n):
            for distance in distances:
                peer = rank ^ distance if swap else (rank + distance) % n
                received[peer].append(len(messages))
                messages.append(_Message(rank, peer, nbytes, reduced_bytes, after[rank]))
        after = received
    return messages


def _ring(collective: Collective, nbytes: int, n: int) -> list[_Message]:
    """Return messages to the next rank, each passed on once the one before it is in.

    An all-to-all passes what is for the ``k``-th next rank on ``k`` times: ``n (n - 1) / 2`` steps.
    """
    nbytes = nbytes if collective == "all_gather" else nbytes // n
    steps = {"all_reduce": 2 * (n - 1), "all_to_all": n * (n - 1) // 2}.get(collective, n - 1)
    reducing = n - 1 if collective in ("all_reduce", "reduce_scatter") else 0
    return _in_steps(n, (((1,), nbytes, nbytes * (step < reducing)) for step in range(steps)))


def _direct(collective: Collective, nbytes: int, n: int) -> list[_Message]:
    """Return messages to all other ranks at once, the next rank first; twice to all-reduce."""
    nbytes = nbytes if collective == "all_gather" else nbytes // n
    reduced = {"all_reduce": (nbytes, 0), "reduce_scatter": (nbytes,)}.get(collective, (0,))
    return _in_steps(n, ((range(1, n), nbytes, reduced_bytes) for reduced_bytes in reduced))


def _halving_doubling(_: Collective, nbytes: int, n: int) -> list[_Message]:
    """Return swaps with partners 1, 2, 4... away, of halves, quarters...; then all the way back.

    ASTRA-sim charges a reduction when it makes the *next* message, with that one's size, and none
    for the last of the halving steps: ``S/4 + S/8 + ... + S/n``, not ``S (n - 1) / n``.
    """
    depth = n.bit_length() - 1
    reduced = [nbytes >> bit + 2 for bit in range(depth - 1)] + [0]
    there = [((1 << bit,), nbytes >> bit + 1, reduced[bit]) for bit in range(depth)]
    back = [(distances, size, 0) for distances, size, _ in reversed(there)]
    return _in_steps(n, there + back, swap=True)


def _double_binary_tree(_: Collective, nbytes: int, n: int) -> list[_Message]:
    """Return all bytes up a tree and down again, ``2 log2(n)`` steps that are not pipelined.

    The root 0 has the one child 1, node ``i`` the children ``2 i`` and ``2 i + 1``. A single chunk
    uses one of the two trees. Inner nodes pay a reduction on the way down too.
    """
    up = {node: node - 1 for node in range(1, n)}
    down = {node: n - 2 + node for node in up}
    children = {node: [up[child] for child in (2 * node, 2 * node + 1) if child < n] for node in up}
    return [_Message(i, i // 2, nbytes, nbytes, children[i]) for i in up] + [
        _Message(i // 2, i, nbytes, nbytes if children[i] else 0, (down.get(i // 2, up[1]),))
        for i in down
    ]


_SCHEDULES: dict[Algorithm, Callable[[Collective, int, int], list[_Message]]] = {
    "ring": _ring,
    "direct": _direct,
    "halvingDoubling": _halving_doubling,
    "doubleBinaryTree": _double_binary_tree,
}
