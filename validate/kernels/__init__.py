"""Real sequence-parallel attention in torch: ring, Ulysses, all-gather and hybrids.

Every program here is written over the ranks of an :class:`validate.kernels.axis.Axis` that this
process plays: one of them in a job of many processes, all of them in a process alone (a virtual
ring). Who computes which block is said by :mod:`models.sequence_parallel.schedule`.
"""
