"""How tokens spread over experts: how evenly, and over how many ranks or machines each one goes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import comb
from typing import TYPE_CHECKING

from topologies.errors import Problem

if TYPE_CHECKING:
    from models.architecture import Moe

LARGEST_SKEW = 4.0


@dataclass(frozen=True, slots=True)
class Routing:
    """A stated spread of tokens over experts.

    Parameters
    ----------
    skew
        Exponent of the power law that experts' shares follow, the ``i``-th most wanted having
        ``i ** -skew`` of them; 0 is balanced.
    capacity
        Most tokens of an expert over the mean, others being dropped (Switch Transformer,
        arXiv:2101.03961 section 2.2); None for no limit.
    """

    skew: float = 0.0
    capacity: float | None = None

    def busiest(self, experts: int, ranks: int) -> float:
        """Return the tokens of the busiest of some ranks over the mean.

        Experts are dealt to ranks without regard to how wanted they are: the busiest rank has the
        most wanted one, the others of that rank are like all the rest.

        >>> Routing().busiest(64, 8), round(Routing(skew=0.5).busiest(64, 8), 3)
        (1.0, 1.376)
        """
        first = _first_share(experts, self.skew) * experts
        rest = (experts - first) / max(experts - 1, 1)
        if self.capacity is not None:
            first, rest = min(first, self.capacity), min(rest, self.capacity)
        own = experts // ranks
        return (first + (own - 1) * rest) / own

    def idle_problems(self, title: str) -> list[Problem]:
        """Return that a model without experts, of some title, has nothing to spread."""
        asked = {"--expert-skew": self.skew or None, "--expert-capacity": self.capacity}
        mend = f"{title} has no experts: leave it out"
        return [Problem(flag, value, mend) for flag, value in asked.items() if value is not None]

    def problems(self) -> list[Problem]:
        """Return what is wrong with the numbers."""
        found = []
        if not 0 <= self.skew <= LARGEST_SKEW:
            mend = f"an exponent from 0 (balanced) to {LARGEST_SKEW:g}"
            found.append(Problem("--expert-skew", self.skew, mend))
        if self.capacity is not None and not self.capacity >= 1:
            mend = "tokens of an expert over the mean: 1 or more, for example 1.25"
            found.append(Problem("--expert-capacity", self.capacity, mend))
        return found

    def __str__(self) -> str:
        """Return the spread as people read it.

        >>> str(Routing(0.3, 1.5))
        'experts wanted by a power law of exponent 0.3, at most 1.5 times the mean'
        """
        spread = f"wanted by a power law of exponent {self.skew:g}" if self.skew else "balanced"
        limit = "" if self.capacity is None else f", at most {self.capacity:g} times the mean"
        return f"experts {spread}{limit}"


#: Every expert as wanted as any other.
BALANCED = Routing()


@cache
def _first_share(experts: int, skew: float) -> float:
    weights = [place**-skew for place in range(1, experts + 1)]
    return float(weights[0] / sum(weights))


@cache
def parts_visited(moe: Moe, parts: int) -> float:
    """Return how many of some equal parts of the experts a token visits, on average.

    Experts are chosen evenly, out of `groups_used` of the groups (DeepSeek-V3, arXiv:2412.19437
    section 2.1.2: at most 4 nodes), so that a part that lies in a group is visited only if that was
    chosen.

    Parameters
    ----------
    moe
        The experts.
    parts
        Ranks, or machines, that hold as many experts each.

    Examples
    --------
    >>> from models import load_architecture
    >>> moe = load_architecture("deepseek-v3").layers[-1].mlp
    >>> round(parts_visited(moe, 8), 2), round(parts_visited(moe, 64), 2)
    (3.63, 7.36)
    """
    per_part, per_group = moe.experts / parts, moe.experts / moe.groups
    open_experts = round(per_group * moe.groups_used)
    groups_of_part = max(per_part / per_group, 1.0)
    hit = 0.0
    for chosen in range(min(round(groups_of_part), moe.groups_used) + 1):
        within = min(per_part, chosen * per_group)
        missed = _missed(open_experts, round(within), moe.top_k)
        hit += _chosen(moe.groups, round(groups_of_part), moe.groups_used, chosen) * (1.0 - missed)
    return parts * hit


def _chosen(groups: int, own: int, used: int, chosen: int) -> float:
    """Return how likely so many of a part's groups are among those used."""
    return comb(own, chosen) * comb(groups - own, used - chosen) / comb(groups, used)


def _missed(experts: int, own: int, top_k: int) -> float:
    """Return how likely a token visits none of a part's experts."""
    return comb(experts - own, top_k) / comb(experts, top_k)
