"""What to choose: scenarios, the space of layouts, exact search, plans and why.

>>> from planner import estimate
>>> one = estimate("llama-3.1-8b", "h100-dgx", seq_len="8k", global_batch=8, dp=8)
>>> one.layout.dp, one.fits
(8, False)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from planner.ask import estimate, plan, simulate, sweep

__all__ = ["estimate", "plan", "simulate", "sweep"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Import on first use: the command line's help must not wait for NumPy."""
    if name in __all__:
        from planner import ask

        return getattr(ask, name)
    raise AttributeError(name)


def __dir__() -> list[str]:
    """Return all names, those that are imported on first use too."""
    return sorted({*globals(), *__all__})
