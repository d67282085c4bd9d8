"""The parts of a layer that fused kernels can run again one by one: Megatron-Core's modules."""

from __future__ import annotations

from enum import IntFlag
from typing import Self


class RecomputeModules(IntFlag):
    """A set of modules that selective recomputation repeats; arrays hold its number.

    As Megatron-Core's ``--recompute-modules`` (``transformer_config.py``). What is repeated is not
    kept, but its input is. ``core_attn``: the attention kernel, with what it sends along the ring
    and through Ulysses. ``layernorm``: the norms before both mixers, whose outputs are dropped once
    the product behind has read them. ``mlp``: all of a dense MLP, with the norm that is part of its
    first product. ``moe_act``: the activation between the experts' two products. ``mla_up_proj``:
    the up-projections of latent attention. ``moe``: a whole layer of experts. ``shared_experts``:
    the experts that see every token.
    """

    CORE_ATTN = 1
    LAYERNORM = 2
    MLP = 4
    MOE_ACT = 8
    MLA_UP_PROJ = 16
    MOE = 32
    SHARED_EXPERTS = 64

    @property
    def label(self) -> str:
        """The set as users write it.

        >>> (RecomputeModules.LAYERNORM | RecomputeModules.MLP).label
        'layernorm+mlp'
        """
        names = [str(each.name).lower() for each in RecomputeModules if each in self]
        return "+".join(names) or "none"

    @classmethod
    def labels(cls) -> list[str]:
        """Return the names of all modules."""
        return [each.label for each in cls]

    @classmethod
    def from_label(cls, label: str) -> Self:
        """Return the set of a list of names, joined by ``+`` or ``,``.

        Raises
        ------
        KeyError
            If there is no such module.
        """
        known = {each.label: each for each in cls}
        names = label.replace(",", "+").replace("-", "_").split("+")
        found = cls(0)
        for name in names:
            found |= known[name.strip()]
        return found


#: No module.
NOTHING = RecomputeModules(0)
#: What Megatron-Core repeats where nobody says.
USUAL_MODULES = RecomputeModules.CORE_ATTN
