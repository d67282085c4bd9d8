"""Which sets of modules the search recomputes: few, each the best of its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.framework_choice import recompute_modules
from models.inventory import repeatable_modules
from models.recompute_modules import NOTHING, USUAL_MODULES, RecomputeModules

if TYPE_CHECKING:
    from models.architecture import Architecture

#: Outputs that are dropped and made again by reading their input once: no product, no collective.
CHEAP = RecomputeModules.LAYERNORM | RecomputeModules.MOE_ACT | RecomputeModules.MLA_UP_PROJ
#: Most bytes freed per second of compute first. Beyond these only whole layers free more.
SETS = (USUAL_MODULES, CHEAP, CHEAP | RecomputeModules.MLP | RecomputeModules.SHARED_EXPERTS)


def module_sets(architecture: Architecture, framework: str) -> list[RecomputeModules]:
    """Return the sets to try: of those above what a model has and a framework repeats.

    Sets that come out the same, or empty, are tried once or not at all. The usual set is always
    there: it stands for all layouts that repeat no modules.
    """
    able = repeatable_modules(architecture) & recompute_modules(framework, architecture)
    return sorted({USUAL_MODULES, *(modules & able for modules in SETS)} - {NOTHING})
