"""How large a user says that a cluster is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StatedSize:
    """The nodes that there are, by a user's own words.

    Parameters
    ----------
    nodes
        How many.
    said
        Where that is said: ``mine.yaml``, ``--cluster h100-dgx:4``.
    mend
        How to say that there are more.
    """

    nodes: int
    said: str
    mend: str

    def refusal(self, node: int) -> str:
        """Return why there are no more accelerators, and what to do.

        Parameters
        ----------
        node
            Accelerators of a node.
        """
        count = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        return (
            f"{self.said} states {count} of {node}: take at most {self.nodes * node} "
            f"accelerators, or {self.mend}"
        )
