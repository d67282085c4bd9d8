"""The page *accuracy*."""

from __future__ import annotations


def show() -> None:
    """Show the page."""
