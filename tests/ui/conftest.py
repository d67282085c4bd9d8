"""Tests of what is drawn need what draws it; without that they are left out, and it is said so."""

import importlib.util

MISSING = [name for name in ("streamlit", "plotly") if importlib.util.find_spec(name) is None]
NEEDY = [
    "test_browser.py",
    "test_command.py",
    "test_figures.py",
    "test_measured.py",
    "test_pages.py",
]
collect_ignore = NEEDY if MISSING else []


def pytest_terminal_summary(terminalreporter):
    if MISSING:
        terminalreporter.write_line(
            f"skipped in tests/ui: {', '.join(NEEDY)} need {' and '.join(MISSING)} "
            "(pip install -e '.[app]')"
        )
