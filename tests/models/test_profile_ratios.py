"""What a measured ratio does to the collectives it was measured of, and to nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.collectives import cost, seconds_by
from models.measured_collectives import Measured
from models.profile import CollectiveRatio, Profile, load_profile
from models.profile_file import open_profile, read_profile
from tests.calibrations import ratio, written
from topologies.catalogue import load_cluster
from topologies.collective import Collective
from topologies.errors import SpecError
from topologies.fabric import Fabric
from topologies.figure import Figure, Provenance
from topologies.library import Algorithm

BASE = load_profile("h100-sxm")
SIZES = np.logspace(1, 10, 40)
#: Groups inside a node, over nodes, of one rank, and of ranks alone in their nodes.
GROUPS = ((8.0, 1.0), (2.0, 1.0), (16.0, 1.0), (1.0, 1.0), (4.0, 8.0))


def links_of(name: str = "h100-dgx:4") -> Any:
    sizes, strides = (np.array(part) for part in zip(*GROUPS, strict=True))
    return Fabric(load_cluster(name)).links((sizes, strides))


def ratio_of(collective: Collective, *factors: float, scale_out: bool = False) -> CollectiveRatio:
    start, per_byte, per_root = (
        Figure(value=factor, kind=Provenance.MEASURED, source="a test") for factor in factors
    )
    return CollectiveRatio(
        collective=collective,
        scale_out=scale_out,
        start=start,
        per_byte=per_byte,
        per_root_byte=per_root,
    )


def doubled(collective: Collective) -> Profile:
    twice = (ratio_of(collective, 2, 2, 2, scale_out=far) for far in (False, True))
    return replace(BASE, collectives=tuple(twice))


def times(collective: Collective, profile: Profile, name: str = "h100-dgx:4") -> Any:
    links = links_of(name)
    found = cost(collective, links, profile)
    return np.stack([found.seconds(np.full(len(GROUPS), nbytes)) for nbytes in SIZES])


@pytest.mark.parametrize("name", ["h100-dgx:4", "mi300x:4", "aws-p5:4", "cpu-gloo:2", "tpu-v4:4"])
@pytest.mark.parametrize("collective", Collective)
def test_twice_as_long_is_twice_as_long_exactly_and_changes_nothing_else(
    collective: Collective, name: str
) -> None:
    profile = doubled(collective)
    for other in Collective:
        factor = 2.0 if other is collective else 1.0
        assert (times(other, profile, name) == factor * times(other, BASE, name)).all()
    before, after = (cost(collective, links_of(name), one) for one in (BASE, profile))
    for nbytes in SIZES:
        sent = np.full(len(GROUPS), nbytes)
        assert before.chosen(sent) == after.chosen(sent)


def test_a_ratio_is_of_groups_inside_the_domain_or_outside() -> None:
    kind = Collective.ALL_TO_ALL
    far = links_of().scale_out
    assert far.tolist() == [False, False, True, False, True]
    for scale_out in (False, True):
        profile = replace(BASE, collectives=(ratio_of(kind, 2, 2, 2, scale_out=scale_out),))
        factor = np.where(far == scale_out, 2.0, 1.0)
        assert (times(kind, profile) == factor * times(kind, BASE)).all()


@pytest.mark.parametrize("factors", [(3, 1, 1), (1, 3, 1), (1, 1, 3)])
def test_each_factor_is_of_its_own_term(factors: tuple[float, float, float]) -> None:
    profile = replace(BASE, collectives=(ratio_of(Collective.ALL_GATHER, *factors),))
    before, after = (cost(Collective.ALL_GATHER, links_of(), one) for one in (BASE, profile))
    for name, factor in zip(("start_s", "per_byte_s", "per_root_byte_s"), factors, strict=True):
        was, now = getattr(before, name)[0], getattr(after, name)[0]
        assert now[0] == factor * was[0] > 0
        assert now[2] == was[2] > 0  # over nodes: not measured


def test_single_algorithms_are_scaled_as_the_library_s_choice_is() -> None:
    links, profile = links_of(), doubled(Collective.ALL_REDUCE)
    for algorithm in (Algorithm.RING, Algorithm.TREE):
        job = (algorithm, Collective.ALL_REDUCE, links)
        assert (seconds_by(*job, profile, 1e6) == 2 * seconds_by(*job, BASE, 1e6)).all()


def test_the_least_time_of_an_all_to_all_grows_with_its_start() -> None:
    links = links_of("gb200-nvl72:18")  # trays of four in one fast domain
    assert links.issue_s.tolist()[0] > 0
    assert not links.scale_out.any()
    kind = Collective.ALL_TO_ALL
    profile = replace(BASE, collectives=(ratio_of(kind, 5, 0, 0),))
    least = cost(kind, links, profile).least_s
    assert least is not None
    assert (least == 5.0 * links.issue_s).all()
    alone = seconds_by(Algorithm.PAIRWISE, kind, links, profile, 0.0)
    assert (alone >= least).all()
    assert (times(kind, profile, "gb200-nvl72:18") >= least).all()


def test_a_library_that_takes_the_fastest_looks_at_the_scaled_times() -> None:
    """Where the start weighs a hundredfold, the algorithm of few hops serves larger messages."""
    links = links_of("mi300x:4")
    profile = replace(
        BASE, collectives=(ratio_of(Collective.ALL_REDUCE, 100, 1, 1, scale_out=True),)
    )
    found = cost(Collective.ALL_REDUCE, links, profile)
    assert len(found.algorithms) > 1
    over = 2  # 16 ranks of two nodes
    for nbytes in 2.0 ** (np.arange(5, 33) + 0.5):  # where the choice of a power of two is made
        each = [
            seconds_by(one, Collective.ALL_REDUCE, links, profile, nbytes)[over]
            for one in found.algorithms
        ]
        chosen = found.chosen(np.full(len(GROUPS), nbytes))[over]
        assert each[found.algorithms.index(chosen)] == min(each)


def test_a_profile_that_measured_no_collective_changes_nothing_to_the_bit(tmp_path: Any) -> None:
    found = read_profile(written(tmp_path), "h100-sxm")
    for collective in Collective:
        assert (times(collective, found) == times(collective, BASE)).all()


def test_measured_collectives_are_predicted_by_the_profile_of_their_device(tmp_path: Any) -> None:
    measured = Measured.read()
    everything = {found.system: found for found in measured.errors()}
    same = measured.errors_by(open_profile(written(tmp_path)))
    assert 0 < len(same) < len(everything)
    assert all(found.record() == everything[found.system].record() for found in same)
    longer = [
        ratio(str(kind), *[4.0] * 3, scale_out=far) for kind in Collective for far in (False, True)
    ]
    worse = measured.errors_by(open_profile(written(tmp_path, collectives=longer)))
    assert [found.system for found in worse] == [found.system for found in same]
    assert all(
        bad.held_small[1] > good.held_small[1] for bad, good in zip(worse, same, strict=True)
    )
    with pytest.raises(SpecError, match="cpu-core: no measured system has that device"):
        measured.errors_by(open_profile(written(tmp_path, accelerator="cpu-core")))
