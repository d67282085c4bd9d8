"""The page's tests need what the page needs; without it they are skipped, each saying so."""

import importlib.util

import pytest

MISSING = [name for name in ("streamlit", "plotly") if importlib.util.find_spec(name) is None]


def pytest_collection_modifyitems(items):
    if MISSING:
        reason = f"the planning page needs {' and '.join(MISSING)}: pip install -e '.[app]'"
        for item in items:
            if "tests/ui/" in str(item.path):
                item.add_marker(pytest.mark.skip(reason=reason))


collect_ignore = (
    []
    if not MISSING
    else [
        "test_figures.py",
        "test_pages.py",
        "test_browser.py",
        "test_faults.py",
        "test_command.py",
    ]
)
