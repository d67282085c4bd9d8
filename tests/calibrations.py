"""Calibration files as `meshwright calibrate` writes them, with what a test changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def figure(value: float, kind: str = "measured") -> dict[str, Any]:
    return {"value": value, "kind": kind, "source": "a test"}


def ratio(
    collective: str,
    start: float = 1.0,
    per_byte: float = 1.0,
    per_root_byte: float = 1.0,
    *,
    scale_out: bool = False,
) -> dict[str, Any]:
    return {
        "collective": collective,
        "scale_out": scale_out,
        "start": figure(start),
        "per_byte": figure(per_byte),
        "per_root_byte": figure(per_root_byte),
    }


def calibration(**changes: Any) -> dict[str, Any]:
    """Return a calibration of one H100 that measured nothing but a GEMM."""
    content: dict[str, Any] = {
        "schema_version": "sp-profile/1",
        "name": "h100-sxm, measured",
        "accelerator": "h100-sxm",
        "dtype": "bf16",
        "provenance": {"date": "2026-11-21", "world": 1, "c_eff": 1.0},
        "measurements": [
            {
                "kind": "gemm",
                "args": {"m": 512, "n": 4096.0, "layout": "nt", "bias": False},
                "t": 1.5e-4,
                "p10": 1.4e-4,
                "p90": 1.7e-4,
                "reps": 10,
                "rounds": 5,
                "wall": None,
            }
        ],
        "checks": [{"name": "ring", "ok": True, "rel_err": [1e-3, 2e-3]}],
        "skipped": [["nccl", "one device"]],
        "fits": {
            "gemm": {
                "parameters": ["gemm_fraction"],
                "points": 12,
                "in_sample_median": 0.03,
                "held_out_median": 0.04,
                "held_out_p90": 0.11,
                "lowest": 1e-5,
                "highest": 1e-2,
            }
        },
        "parameters": {},
        "collectives": [],
        "predictions": [{"layer": "ring", "measured": 0.1, "predicted": 0.11}],
    }
    return content | changes


def written(folder: Path, name: str = "mine.json", **changes: Any) -> str:
    """Write a calibration and return its path."""
    path = folder / name
    path.write_text(json.dumps(calibration(**changes)))
    return str(path)
