"""What recurrent mixers send where a sequence is cut, and the buffers they need for that.

* **Ulysses** turns a rank's tokens of all heads into all tokens of some heads before the
  convolution and back after the scan; groups are replicated where they are fewer than ranks
  (Megatron-Core ``ssm/mamba_context_parallel.py``).
* **Ring**: every rank scans its own run of tokens from an empty state. All ranks' last states, and
  what hands a state on through a run, are gathered in fp32, and what came before is added
  (``validate/kernels/state_pass.py``; LASP-2, arXiv:2502.07563, for linear attention; flash-linear-
  attention ``ops/cp/chunk_delta_h.py`` for the delta rule). What is sent does not grow with the
  sequence. The convolution needs the last tokens of the run before: a halo from the neighbour.

Zigzag gives a rank two runs, which are scanned apart: two states in one gather, and two halos.
Nothing hides any of it: the scan before makes the states, what comes behind waits for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.dtype import BF16, FP32
from models.operation import Axis, Communication
from topologies.collective import Collective

if TYPE_CHECKING:
    from models.layout import Array
    from models.shape import Shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """Numbers that one rank of a recurrent mixer hands to others.

    Parameters
    ----------
    name
        Of the mixer: operations' names begin with it.
    into, tensors
        Columns of a tensor-parallel rank that Ulysses exchanges before the convolution, replicas
        included, and tensors they are in.
    out
        Columns it returns.
    convolved, conv
        Columns of one rank that pass the convolution, and tokens it sees.
    state
        fp32 numbers of one rank and run: its last state and what hands a state on through it.
    gradients
        How gradients of states come back to the ranks that made them.
    """

    name: str
    into: Array
    tensors: float
    out: Array
    convolved: Array
    conv: int
    state: Array
    gradients: Collective = Collective.REDUCE_SCATTER


def runs(shapes: Shapes) -> Array:
    """Return runs of tokens that one rank of a ring holds: two in zigzag."""
    return np.where(shapes.zigzag & (shapes.ring > 1), 2.0, 1.0)


def exchanged_elements(recurrence: Recurrence, shapes: Shapes) -> tuple[Array, Array]:
    """Return elements of one rank in Ulysses' exchanges: of the input, and of the output."""
    active = shapes.ulysses > 1
    into, out = shapes.tokens * recurrence.into, shapes.tokens * recurrence.out
    return np.where(active, into, 0.0), np.where(active, out, 0.0)


def exchange(recurrence: Recurrence, shapes: Shapes) -> tuple[Communication, Communication]:
    """Return Ulysses' all-to-all of what is convolved and scanned, and of the output."""
    active = np.where(shapes.ulysses > 1, 1.0, 0.0)
    into, out = exchanged_elements(recurrence, shapes)
    found = []
    for what, elements, calls in (("input", into, recurrence.tensors), ("output", out, 1.0)):
        found.append(
            Communication(
                name=f"{recurrence.name} ulysses {what}",
                collective=Collective.ALL_TO_ALL,
                axis=Axis.ULYSSES,
                nbytes=elements * BF16 / calls,
                calls=calls * active,
                selective=shapes.pick(0.0, 1.0),
            )
        )
    return found[0], found[1]


def halo(recurrence: Recurrence, shapes: Shapes) -> Communication:
    """Return the tokens before each run that its convolution sees, from the neighbour.

    Backward their gradients go the other way. On a double ring some neighbours are in another
    window, and the others wait for them.
    """
    tokens = shapes.micro_batch * (recurrence.conv - 1.0)
    return Communication(
        name=f"{recurrence.name} halo",
        collective=Collective.SHIFT,
        axis=Axis.RING,
        nbytes=tokens * recurrence.convolved * BF16,
        calls=np.where(shapes.ring > 1, runs(shapes), 0.0),
        selective=shapes.pick(0.0, 1.0),
    )


def states(
    recurrence: Recurrence, shapes: Shapes, *, backward: bool = False
) -> tuple[Communication, Communication]:
    """Return the gathering of all ranks' states, or the way back of their gradients.

    On a double ring first inside windows, then each rank with its like in the other windows.
    """
    own = state_bytes(recurrence, shapes)
    what = "state gradients" if backward else "states"
    inside = Communication(
        name=f"{recurrence.name} {what} inside windows",
        collective=recurrence.gradients if backward else Collective.ALL_GATHER,
        axis=Axis.INNER_RING,
        nbytes=own * shapes.inner_ring,
        calls=np.where(shapes.inner_ring > 1, 1.0, 0.0),
        selective=shapes.pick(0.0, 1.0),
    )
    between = Communication(
        name=f"{recurrence.name} {what}",
        collective=inside.collective,
        axis=Axis.RING,
        nbytes=own * shapes.ring,
        calls=np.where(shapes.ring > 1, 1.0, 0.0),
        selective=inside.selective,
    )
    return (between, inside) if backward else (inside, between)


def state_bytes(recurrence: Recurrence, shapes: Shapes) -> Array:
    """Return bytes of one rank's states and what hands them on, whatever the sequence's length."""
    own = FP32 * shapes.micro_batch * runs(shapes) * recurrence.state
    return np.where(shapes.ring > 1, own, 0.0)


def gathered_bytes(recurrence: Recurrence, shapes: Shapes) -> Array:
    """Return bytes of the states of all ranks."""
    return shapes.ring * state_bytes(recurrence, shapes)


def buffer_bytes(recurrence: Recurrence, shapes: Shapes) -> Array:
    """Return the largest buffers of communication in either pass.

    Of Ulysses the input as before its exchange and the output as after it, or their gradients; of
    a ring the states of all ranks or their gradients, and the halos.
    """
    into, out = exchanged_elements(recurrence, shapes)
    near = halo(recurrence, shapes)
    return (into + out) * BF16 + gathered_bytes(recurrence, shapes) + near.nbytes * near.calls
