"""What the mixers of layers do: operations, saved tensors, fullest moments, parameters of a rank.

Every type of mixer in :mod:`models.architecture` has a class here with the methods of
:class:`~models.mixers.half.MixerWork`; :func:`~models.mixers.halves.halves` finds it.
"""
