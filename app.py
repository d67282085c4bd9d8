"""The planning page's entry: ``streamlit run app.py``, or ``meshwright app``."""

from __future__ import annotations

from ui.frame import run

run()
