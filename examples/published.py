"""Measured runs of the models that the examples plan, wherever they ran: ``published.csv``."""

from __future__ import annotations

import csv
from pathlib import Path

FILE = Path(__file__).with_suffix(".csv")


def like(*models: str) -> list[str]:
    """Return a sentence for each published run of some models, with its source."""
    with FILE.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["model"] in models]
    return [_sentence(row) for row in rows]


def _sentence(row: dict[str, str]) -> str:
    size = f"{row['seq_len']} tokens x {row['global_batch']}" if row["seq_len"] else "size not said"
    rate = f"{float(row['tokens_per_s_per_accelerator']):,.0f}"
    return (
        f"published: {row['model']}, {row['accelerators']} x {row['accelerator']}, "
        f"{size}, {row['precision']}: {rate} tokens/s each ({row['source']})"
    )
