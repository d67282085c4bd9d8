from __future__ import annotations

import os
import stat
import threading
from errno import ENOSPC
from pathlib import Path

import pytest

from topologies.errors import SpecError
from topologies.whole_file import check_place, whole_file


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def begin(path, failure, *field):
    """Begin to write a file and fail."""
    with whole_file(path, *field) as stream:
        stream.write(b"new")
        raise failure


def test_a_file_appears_once_it_is_whole(tmp_path):
    path = tmp_path / "x"
    with whole_file(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, SystemExit])
def test_what_was_there_stays_after_any_exception(tmp_path, failure):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(failure):
        begin(path, failure)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_stream_may_be_closed_before_its_file_is_in_place(tmp_path):
    with whole_file(tmp_path / "x") as stream:
        stream.write(b"new")
        stream.close()
    assert (tmp_path / "x").read_bytes() == b"new"


def test_permissions_are_those_of_the_old_file_or_of_any_new_one(tmp_path):
    ordinary, new, old = (tmp_path / name for name in ("ordinary", "new", "old"))
    ordinary.touch()
    old.touch(0o600)
    old.chmod(0o640)
    for path in (new, old):
        with whole_file(path) as stream:
            stream.write(b"x")
    assert mode(new) == mode(ordinary)
    assert mode(old) == 0o640


def test_what_replaces_a_private_file_is_private_from_the_start(tmp_path):
    path = tmp_path / "x"
    path.touch(0o600)
    with whole_file(path):
        (draft,) = set(tmp_path.iterdir()) - {path}
        assert mode(draft) == 0o600


def test_links_are_followed_and_names_may_be_as_long_as_files_have_them(tmp_path):
    real = tmp_path / ("é" * 127)
    (tmp_path / "link").symlink_to(real)
    with whole_file(tmp_path / "link") as stream:
        stream.write(b"x")
    assert (tmp_path / "link").is_symlink()
    assert real.read_bytes() == b"x"


def test_pipes_are_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append(Path(tmp_path / "pipe").read_bytes()))
    reader.start()
    with whole_file(tmp_path / "pipe") as stream:
        stream.write(b"x")
    reader.join()
    assert read == [b"x"]
    assert not (tmp_path / "pipe").is_file()


def test_a_full_disk_is_a_problem_of_the_file(tmp_path):
    full = OSError(ENOSPC, "No space left on device")
    with pytest.raises(SpecError, match=r"--csv = .*x: cannot be written: No space left"):
        begin(tmp_path / "x", full, "--csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("", "file = '': give the name of a file"),
        ("/", "Is a directory"),
        ("/no/such/folder/x", "No such file"),
        ("a\0b", "null"),
    ],
)
def test_names_that_cannot_be_written_are_refused(name, mend):
    with pytest.raises(SpecError, match=mend), whole_file(name):
        pytest.fail("written")
    with pytest.raises(SpecError, match=mend):
        check_place(name)


def test_a_place_is_checked_before_anything_is_written_there(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "x")
    check_place(tmp_path / "new")
    check_place(tmp_path / "file")
    check_place(os.devnull)
    with pytest.raises(SpecError, match=r"--json = .*x: cannot be written: Not a directory"):
        check_place(tmp_path / "file" / "x", "--json")
    with pytest.raises(SpecError, match="No such file"):
        check_place(tmp_path / "link")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link"}
    assert (tmp_path / "file").read_text() == "old"


def test_a_folder_that_may_not_be_written_to_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)
    with pytest.raises(SpecError, match="Permission denied"):
        check_place(tmp_path / "new")
