"""The example of links that change the best layout: what its committed output says."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples import links_decide

OUTPUT = Path(links_decide.__file__).with_suffix(".txt")


def test_each_way_to_join_has_its_own_best_layout():
    blocks = OUTPUT.read_text(encoding="utf-8").strip().split("\n\n")
    assert len(blocks) == len(links_decide.PAIRS) == 3
    for block in blocks:
        _, _, real, other = block.splitlines()
        losses = [float(row.split()[-1].rstrip("%")) for row in (real, other)]
        assert min(losses) > 0
        assert max(losses) > 4


@pytest.mark.parametrize("pair", links_decide.PAIRS, ids=lambda pair: pair.cluster)
def test_the_two_clusters_differ_in_one_tier_only(pair):
    from topologies import load_cluster

    real = load_cluster(pair.cluster)
    other = pair.joined_otherwise(real)
    changed = [a.name for a, b in zip(real.tiers, other.tiers, strict=True) if a != b]
    assert len(changed) == 1
    assert (real.accelerator, real.accelerators) == (other.accelerator, other.accelerators)
