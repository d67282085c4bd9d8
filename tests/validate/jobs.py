"""What processes of test jobs run: module-level, so that they can be sent there."""

from __future__ import annotations

import os
import signal
import time

import torch
import torch.distributed as dist

from topologies.errors import Problem, SpecError
from validate import training
from validate.kernels import merge


def add_up(rank, told):
    """Return the sum over ranks of told + rank, and the rank."""
    rank.report("adding")
    number = torch.tensor([float(told + rank.rank)])
    dist.all_reduce(number)
    return rank.rank, float(number)


def die(rank, told):
    """Have one rank killed while the others wait for it."""
    if rank.rank == told:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


def hang(rank, told):
    """Have one rank sleep while the others wait for it."""
    if rank.rank == told:
        time.sleep(3600)
    dist.barrier()


def fail(rank, told):
    """Have one rank meet a bug while the others wait for it."""
    if rank.rank == told:
        raise ZeroDivisionError("by nothing")
    dist.barrier()


def refuse(rank, told):
    """Have every rank refuse its input."""
    raise SpecError([Problem("--ulysses", told, "a divisor of the 8 query heads")])


def sleep(rank, told):
    """Have all ranks say which processes they are, and sleep."""
    rank.report(os.getpid())
    time.sleep(told)


def train_with_a_slip(rank, lesson):
    """Train with merges that forget the new log-sum-exp."""
    once = merge.Merged.add

    def forgets(self, added, queries):
        before = self.lse.clone()
        once(self, added, queries)
        self.lse.copy_(before)

    merge.Merged.add = forgets
    return training.train(rank, lesson)
