"""A fitted profile as a file of ``models/data/profiles``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from models.profile import file_parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.profile import ProfileSchema
    from topologies.figure import Figure

#: Significant digits of fitted figures.
DIGITS = 3


def profile_text(
    name: str, title: str, own: ProfileSchema | None, kin: str, figures: Mapping[str, Figure]
) -> str:
    """Return YAML: fitted figures laid over the device's own file, or over its kin.

    Parameters
    ----------
    name, title
        Of a new file: the accelerator's.
    own
        The file that is the accelerator's already; None if there is none.
    kin
        The profile that a new file takes all else from.
    figures
        That were fitted, in SI units.
    """
    lines = {} if own is None else {key: _amount(each.model_dump(exclude_defaults=True))
                                    for key, each in own.parameters.items()}  # fmt: skip
    for si_name, figure in figures.items():
        key, size = file_parameter(si_name)
        value = float(f"{figure.value / size:.{DIGITS}g}")
        lines[key] = _amount({"value": value, "kind": figure.kind, "source": figure.source})
    kin_line = own.kin if own is not None else kin
    head = [
        "schema_version: meshwright-profile/1",
        f"name: {name if own is None else own.name}",
        f"title: {json.dumps(title if own is None else own.title)}",
        f"accelerators: [{', '.join([name] if own is None else own.accelerators)}]",
        *([] if kin_line is None else [f"kin: {kin_line}"]),
        "parameters:",
    ]
    return "\n".join([*head, *(f"  {key}: {text}" for key, text in lines.items()), ""])


def _amount(figure: Mapping[str, object]) -> str:
    fields = [
        f"{key}: {json.dumps(text, ensure_ascii=False) if key in ('source', 'note') else text}"
        for key, text in figure.items()
        if key != "value"
    ]
    # YAML takes 1e-06 for a text.
    value = np.format_float_positional(float(str(figure["value"])), trim="-")
    return "{" + ", ".join([f"value: {value}", *fields]) + "}"
