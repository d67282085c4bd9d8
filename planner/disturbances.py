"""What a simulated step is disturbed by, as users say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING

from topologies.errors import Problem, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from models.layout import Layout
    from planner.scenario import Scenario


#: Steps to draw where they differ.
SAMPLES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbances:
    """All that may go otherwise than planned.

    Parameters
    ----------
    contention
        Whether collectives that share links at the same time slow each other.
    async_ulysses
        Whether Ulysses exchanges a tensor beside the projection of the next one; for layouts that
        have it.
    samples, seed
        Steps to draw, and the seed of all that is drawn; for jitter and packed lengths alone.
    jitter
        Standard deviation of the logarithm of one accelerator's pass.
    stragglers
        Factors on the time of all passes of some ranks.
    slow_links
        Factors on the rate of the scale-out links of some ranks' nodes.
    failed_nics
        Network cards that failed in some ranks' nodes.
    packed_tokens, packed_spread
        Mean length of the sequences packed together, and the standard deviation of its logarithm;
        None for whole sequences.
    """

    contention: bool = True
    async_ulysses: bool = False
    samples: int = SAMPLES
    seed: int = 0
    jitter: float = 0.0
    stragglers: Mapping[int, float] = field(default_factory=dict)
    slow_links: Mapping[int, float] = field(default_factory=dict)
    failed_nics: Mapping[int, float] = field(default_factory=dict)
    packed_tokens: float | None = None
    packed_spread: float = 1.0

    @property
    def drawn(self) -> bool:
        """Whether steps differ from each other."""
        return self.jitter > 0 or self.packed_tokens is not None

    def check(self, scenario: Scenario, layout: Layout | None) -> None:
        """Raise if something cannot be, or would change nothing.

        Parameters
        ----------
        scenario
            Where the step is played.
        layout
            What is played; None where it could not be read.

        Raises
        ------
        SpecError
            With every value that cannot.
        """
        found = [*self._wrong_draws(), *self._wrong_numbers(scenario), *self._wrong_ranks(scenario)]
        if self.async_ulysses and layout is not None and layout.ulysses == 1:
            mend = "the layout has no Ulysses: it belongs to --ulysses 2 or more"
            found.append(Problem("--async-ulysses", "on", mend))
        raise_if_any(found)

    def _wrong_draws(self) -> list[Problem]:
        """Return what is wrong with how much is drawn, by which seed."""
        found = []
        usual, mend = Disturbances(), "nothing is drawn: it belongs to --jitter or --packed"
        idle = self.jitter == 0 and self.packed_tokens is None
        if self.samples < 1:
            found.append(Problem("--samples", self.samples, "at least 1"))
        elif idle and self.samples != usual.samples:
            found.append(Problem("--samples", self.samples, mend))
        if self.seed < 0:
            found.append(Problem("--seed", self.seed, "0 or more"))
        elif idle and self.seed != usual.seed:
            found.append(Problem("--seed", self.seed, mend))
        return found

    def _wrong_numbers(self, scenario: Scenario) -> list[Problem]:
        found = []
        if not 0 <= self.jitter <= 1:
            found.append(Problem("--jitter", self.jitter, "between 0 and 1, such as 0.05"))
        longest = scenario.workload.seq_len
        if self.packed_tokens is not None and not 1 <= self.packed_tokens <= longest:
            mend = f"between 1 and the {longest} tokens of a pack"
            found.append(Problem("--packed", self.packed_tokens, mend))
        if self.packed_tokens is not None and scenario.workload.packed_len is not None:
            mend = "--packed-len packs sequences all alike, --packed draws lengths: leave one out"
            found.append(Problem("--packed", self.packed_tokens, mend))
        if not 0 <= self.packed_spread <= 4:
            found.append(Problem("--packed", self.packed_spread, "a spread between 0 and 4"))
        return found

    def _wrong_ranks(self, scenario: Scenario) -> list[Problem]:
        ranks, cards = scenario.cluster.accelerators, scenario.cluster.cards
        limits: dict[str, tuple[Mapping[int, float], Callable[[float], bool], str]] = {
            "--straggler": (
                self.stragglers,
                lambda f: f >= 1,
                "a factor of 1 or more, such as 1.1",
            ),
            "--slow-link": (
                self.slow_links,
                lambda f: 0 < f <= 1,
                "the share of its rate that is left, above 0 and up to 1",
            ),
            "--failed-nics": (
                self.failed_nics,
                lambda f: f == int(f) and 0 < f < cards,
                f"a number of cards from 1 to {cards - 1}: the node has {cards}",
            ),
        }
        found = []
        for option, (values, allowed, mend) in limits.items():
            for rank, value in values.items():
                if not 0 <= rank < ranks:
                    found.append(Problem(option, rank, f"a rank from 0 to {ranks - 1}"))
                if not (isfinite(value) and allowed(value)):
                    found.append(Problem(option, value, mend))
        return found


def by_rank(texts: Sequence[str], option: str) -> dict[int, float]:
    """Return what ``RANK:VALUE`` says for each rank.

    Raises
    ------
    SpecError
        With every text that is not of that form.

    Examples
    --------
    >>> by_rank(["17:1.2"], "--straggler")
    {17: 1.2}
    """
    found: dict[int, float] = {}
    problems = []
    for text in texts:
        rank, _, value = text.partition(":")
        try:
            found[int(rank)] = float(value)
        except ValueError:
            problems.append(Problem(option, text, "a rank and a number, such as 17:1.2"))
    raise_if_any(problems)
    return found


def lengths(text: str) -> tuple[float, float]:
    """Return mean length and spread of ``8k`` or ``8k:0.7``.

    Raises
    ------
    SpecError
        If the text is not of that form.

    Examples
    --------
    >>> lengths("8k:0.7")
    (8192.0, 0.7)
    """
    from models.workload import parse_count

    mean, colon, spread = text.partition(":")
    tokens = float(parse_count(mean, "--packed"))
    if not colon:
        return tokens, Disturbances().packed_spread
    try:
        return tokens, float(spread)
    except ValueError:
        mend = "a mean length and the spread of its logarithm, such as 8k:0.7"
        raise_if_any([Problem("--packed", text, mend)])
        raise
