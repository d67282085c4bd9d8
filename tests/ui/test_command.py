"""``meshwright app``: light to load, clear about what is missing, and it ends with its process."""

import importlib.util
import os
import re
import subprocess
import sys
import urllib.request

import pytest

from tests.ui.server import children, running
from topologies.errors import SpecError
from ui.cli import app


def test_help_loads_nothing_heavy():
    code = (
        "import sys, ui.cli; print([m for m in ('streamlit','plotly','numpy') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert shown.strip() == "[]"


def test_what_is_missing_is_said_with_its_mend(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match="make app"):
        app()


def test_the_command_is_an_entry_point_of_the_distribution():
    import tomllib

    from tests.ui.server import ROOT

    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert content["project"]["entry-points"]["meshwright.commands"]["app"] == "ui.cli:app"
    built = content["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "ui" in built["packages"]
    assert "app.py" in built["force-include"]


def test_it_serves_and_leaves_nothing_behind(tmp_path):
    with (tmp_path / "log").open("w") as stream, running(stream) as (url, process):
        with urllib.request.urlopen(url, timeout=10) as answer:
            page = answer.read().decode()
        left = children(process.pid)
    assert "<title>" in page
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert process.poll() is not None
    assert not [pid for pid in left if _alive(pid)]


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
