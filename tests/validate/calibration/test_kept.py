"""What an interrupted run keeps: read back to the bit, or refused in one sentence."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tests.validate.calibration.jobs import TINY
from topologies.errors import SpecError
from validate.calibration import everything, kept
from validate.calibration.bench import Sample
from validate.calibration.kept import Kept
from validate.calibration.rounds import Heard

ITEMS = everything.items("cpu", 2, TINY)
IDENTITY = {"device": "a core", "world": 2, "seed": 0, "cluster": None, "kernels": "abc"}
HEARD = Heard(
    samples=((5, Sample(0.1, 1 / 3), 3), (0, Sample(2e-7, 0.3), 9), (5, Sample(0.3, 0.4), 3)),
    impossible=((7, "the device's memory is too small"),),
)


def beside(folder, *, fresh=False, **identity):
    return Kept.beside(str(folder / "mine.json"), IDENTITY | identity, fresh=fresh)


def left(folder):
    """Leave what an interrupted run leaves; return its file."""
    mine = beside(folder)
    mine.add(ITEMS, HEARD)
    mine.write()
    return mine.path


def refusal(folder, **identity):
    with pytest.raises(SpecError) as caught:
        beside(folder, **identity)
    (problem,) = caught.value.problems
    text = str(problem)
    assert text.startswith(f"--out = {folder / '.mine.json.kept.json'}: ")
    assert text.endswith("remove it, or give --fresh to begin anew")
    return text


def test_nothing_is_kept_where_nothing_was(tmp_path):
    assert beside(tmp_path).measurements(ITEMS) == []
    assert list(tmp_path.iterdir()) == []


def test_what_was_kept_is_read_back_to_the_bit(tmp_path):
    left(tmp_path)
    found = beside(tmp_path)
    assert found.samples == {
        ITEMS[5]: [Sample(0.1, 1 / 3), Sample(0.3, 0.4)],
        ITEMS[0]: [Sample(2e-7, 0.3)],
    }
    assert found.calls == {ITEMS[5]: 3, ITEMS[0]: 9}
    assert found.rounds(ITEMS)[:6] == (1, 0, 0, 0, 0, 2)
    assert sum(found.rounds(ITEMS)) == 3
    assert found.impossible == {}  # to be tried again: the memory may be free


def test_measurements_are_in_the_order_of_the_items(tmp_path):
    left(tmp_path)
    found = beside(tmp_path).measurements(ITEMS)
    assert [each.item for each in found] == [ITEMS[0], ITEMS[5]]
    assert found[1].seconds == (0.1, 0.3)
    assert found[1].wall_s == (1 / 3, 0.4)
    assert found[1].calls == 3


def test_an_item_of_every_kind_is_read_back(tmp_path):
    mine = beside(tmp_path)
    mine.add(ITEMS, Heard(samples=tuple((at, Sample(1.0, 2.0), 4) for at in range(len(ITEMS)))))
    mine.write()
    assert beside(tmp_path).rounds(ITEMS) == (1,) * len(ITEMS)


def test_the_first_batch_is_written_at_once_and_later_ones_now_and_then(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(kept, "time", SimpleNamespace(monotonic=lambda: clock.now))
    mine = beside(tmp_path)
    mine.add(ITEMS, HEARD)
    first = mine.path.read_bytes()
    clock.now += kept.EVERY_S / 2
    mine.add(ITEMS, HEARD)
    assert mine.path.read_bytes() == first
    clock.now += kept.EVERY_S
    mine.add(ITEMS, HEARD)
    assert sum(beside(tmp_path).rounds(ITEMS)) == 9


def test_it_is_removed_at_the_end_and_nothing_else(tmp_path):
    path = left(tmp_path)
    mine = beside(tmp_path)
    mine.remove()
    mine.remove()
    assert not path.exists()
    assert list(tmp_path.iterdir()) == []


def test_profiles_side_by_side_have_their_own(tmp_path):
    left(tmp_path)
    other = Kept.beside(str(tmp_path / "other.json"), IDENTITY, fresh=False)
    assert other.samples == {}


def test_fresh_reads_nothing_whatever_is_there(tmp_path):
    path = left(tmp_path)
    path.write_text("{")
    assert beside(tmp_path, fresh=True).samples == {}
    assert beside(tmp_path, fresh=True, device="another").samples == {}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99])
def test_a_file_that_was_cut_short_is_refused(tmp_path, share):
    path = left(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "no measurements that can be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"identity": []},
        {"identity": "a core"},
        {"identity": None},
        {"samples": 3},
        {"samples": [["gemm", {"m": 1}, 1]]},
        {"samples": [["gemm", 3, 1, [[1.0, 1.0]]]]},
        {"samples": [["gemm", {"m": 1}, 1, [[1.0]]]]},
        {"samples": [["gemm", {"m": 1}, 1, [["a", 1.0]]]]},
        {"samples": [["gemm", {"m": [1]}, 1, [[1.0, 1.0]]]]},
        {"samples": [["gemm", {"m": 1}, 1, [[float("nan"), 1.0]]]]},
        {"samples": [["gemm", {"m": 1}, 1, [[1.0, float("inf")]]]]},
        {"samples": [["gemm", {"m": 1}, 1, [[0.0, 1.0]]]]},
        {"samples": [["gemm", {"m": 1}, 1, [[1.0, -1.0]]]]},
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, change):
    path = left(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert "no measurements that can be read" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["[]", "3", '"text"', "null", "{}", "[" * 100_000, "\xff"])
def test_other_files_of_that_name_are_refused(tmp_path, text):
    left(tmp_path).write_bytes(text.encode("latin-1"))
    assert "no measurements that can be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "other"),
    [("device", "another"), ("world", 4), ("seed", 1), ("cluster", "dgx"), ("kernels", "xyz")],
)
def test_a_file_of_a_run_that_differs_is_refused(tmp_path, name, other):
    left(tmp_path)
    text = refusal(tmp_path, **{name: other})
    assert f"of a run with {name} {IDENTITY[name]}, not {other}: " in text


def test_a_file_of_another_version_is_refused(tmp_path):
    path = left(tmp_path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"schema_version": "sp-profile-kept/0"}))
    assert "of a run with version sp-profile-kept/0, not sp-profile-kept/1: " in refusal(tmp_path)
    path.write_text(json.dumps(content | {"schema_version": "x", "samples": {"in": "new words"}}))
    assert "of a run with version x, not sp-profile-kept/1: " in refusal(tmp_path)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path):
    path = left(tmp_path)
    path.unlink()
    path.mkdir()
    assert "no measurements that can be read" in refusal(tmp_path)
