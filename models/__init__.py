"""What it costs: architectures, layouts, the inventory of work, and the clocks that read it.

Names are imported on first use, so that the command line's help waits for nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.architecture import Architecture
    from models.catalogue import load_architecture, model_names
    from models.layout import Layout, LayoutBatch
    from models.profile import Profile, load_profile
    from models.profile_file import read_profile
    from models.workload import Workload

__all__ = [
    "Architecture",
    "Layout",
    "LayoutBatch",
    "Profile",
    "Workload",
    "load_architecture",
    "load_profile",
    "model_names",
    "read_profile",
]
_HOMES = {
    "architecture": ("Architecture",),
    "catalogue": ("load_architecture", "model_names"),
    "layout": ("Layout", "LayoutBatch"),
    "profile": ("Profile", "load_profile"),
    "profile_file": ("read_profile",),
    "workload": ("Workload",),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Import a public name from the module it lives in."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"models.{home}"), name)
    raise AttributeError(name)
