"""The page *scaling*."""

from __future__ import annotations


def show() -> None:
    """Show the page."""
