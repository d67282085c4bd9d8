"""A config that notes which fields are asked for, so that misspelt ones are found."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How like a field that is asked for another is that is a slip of the keyboard: one letter of ten.
#: Less like, ``moe_intermediate_size`` would be taken for ``intermediate_size``.
LIKE = 0.9
#: Fields that are alike, and each known: groups of experts (DeepSeek) and of heads (Mamba). Models
#: of both kinds of layers ask for either only where they have such layers.
ALIKE = ("n_group", "n_groups")


class Asked(Mapping[str, Any]):
    """A config that notes which fields are asked for, whether or not it has them.

    What a family's readers ask for is what is known of its configs: there is no list beside them.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._names: set[str] = set()
        self._answered: set[str] = set()

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - any JSON
        """Return a field, having noted its name."""
        self._names.add(name)
        return self._config[name]

    def __iter__(self) -> Iterator[str]:
        """Give the names of the fields that are there."""
        return iter(self._config)

    def __len__(self) -> int:
        """Return how many fields are there."""
        return len(self._config)

    def answered(self, *names: str) -> None:
        """Note names of one field of which some is there, so that the others are not missed."""
        self._answered.update(names)

    def slips(self) -> dict[str, str]:
        """Return the fields that nobody asked for and look like an absent one, with that one.

        Those that begin with ``_`` are what software notes for itself.

        >>> config = Asked({"num_key_value_head": 8, "rope_theta": 1e4})
        >>> config.get("num_key_value_heads"), config.slips()
        (None, {'num_key_value_head': 'num_key_value_heads'})
        """
        absent = sorted(self._names - self._answered - self._config.keys())
        known = {*self._names, *ALIKE}
        unknown = [name for name in self._config if name not in known and name[:1] != "_"]
        near = {name: get_close_matches(name, absent, n=1, cutoff=LIKE) for name in unknown}
        return {name: found[0] for name, found in near.items() if found}
