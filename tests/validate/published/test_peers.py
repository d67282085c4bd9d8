"""Other cost models on the same runs: matched, measured alike, compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.validate.published.made_up import guess, row
from tests.validate.published.sample import FILE, sample
from topologies.errors import SpecError
from validate.published.peers import compare
from validate.published.quoted_peers import quoted_peers

if TYPE_CHECKING:
    from pathlib import Path

PEERS = FILE.with_name("peer_predictions.csv")
HEAD = "n_gpus,tp,pp,dp,mbs,gbs,seq,hidden,layers,measured_ms,one_ms,two_ms\n"
JOB = {"gpus": 8, "pp": 1, "dp": 1, "micro_batch": 1, "global_batch": 8}
SIZES = {"seq_len": 2048, "hidden": 64, "layers": 2}


def _table(folder: Path, text: str) -> str:
    path = folder / "peers.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_peers_and_we_are_held_against_the_same_rows(tmp_path: Path) -> None:
    path = _table(
        tmp_path,
        HEAD
        + "8,1,1,1,1,8,2048,64,2,1000,1100,1000\n"
        + "8,2,1,1,1,8,2048,64,2,2000,2000,1900\n"
        + "8,4,1,1,1,8,2048,64,2,3000,900,3300\n"
        + "8,8,1,1,1,8,2048,64,2,4000,4000,4000\n",  # nobody ran it here
    )
    ours = [
        guess(row(**JOB, **SIZES, tp=tp), measured, predicted, tp=tp)
        for tp, measured, predicted in ((1, 1.0, 1.2), (2, 2.0, 2.0), (4, 3.0, 3.0))
    ]
    unlike = guess(row(**JOB, **SIZES, tp=8), 5.0, 5.0, tp=8)  # another step: another run
    found = {each.name: each for each in compare(path, [*ours, unlike])}
    assert list(found) == ["meshwright", "one", "two"]
    assert {each.unmatched for each in found.values()} == {1}
    assert {each.errors.n for each in found.values()} == {3}
    assert found["meshwright"].errors.mean == pytest.approx(0.2 / 3)
    assert found["one"].errors.mean == pytest.approx((0.1 + 0.0 + 0.7) / 3)
    assert found["two"].errors.median == pytest.approx(0.05)
    assert found["one"].sweeps.regret == pytest.approx(2.0)  # it would choose the slowest
    assert (found["two"].sweeps.tau, found["two"].sweeps.regret) == (1.0, 0.0)
    assert found["one"].record()["interval_coverage"] is None


@pytest.mark.parametrize("text", ["a,b\n1,2\n", HEAD, HEAD.replace("mbs,", "") + "1\n"])
def test_a_table_without_runs_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError, match="needs rows with columns"):
        compare(_table(tmp_path, text), [])


def test_a_number_that_is_none_is_named(tmp_path: Path) -> None:
    path = _table(tmp_path, HEAD + "8,1,1,1,1,8,2048,64,2,1000,fast,1000\n")
    ours = [guess(row(**JOB, **SIZES, tp=1), 1.0, 1.0)]
    with pytest.raises(SpecError, match="one_ms = fast: use milliseconds"):
        compare(path, ours)
    with pytest.raises(SpecError, match="cannot be read"):
        compare(str(tmp_path / "none.csv"), ours)


def test_published_runs_are_predicted_better_than_by_others() -> None:
    found = {each.name: each for each in compare(str(PEERS), sample().times)}
    ours = found.pop("meshwright")
    assert set(found) == {"calculon", "llm_analysis", "naive_1param"}
    assert {each.errors.n for each in (ours, *found.values())} == {13}
    assert ours.unmatched == 0
    assert ours.errors.mean < min(each.errors.mean for each in found.values())
    assert ours.sweeps.pairs > 10
    assert ours.sweeps.tau > max(each.sweeps.tau for each in found.values())


def test_figures_are_quoted_for_their_source_only() -> None:
    names = {peer.name for peer in quoted_peers([row(source="vtrain-single")])}
    assert {"calculon", "vTrain"} <= names
    assert all(
        peer.source and peer.runs == 1440 for peer in quoted_peers([row(source="vtrain-single")])
    )
    assert quoted_peers([row(source="other")]) == ()
