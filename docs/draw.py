"""Redraw the pictures of the README: ``make picture``.

``plan.svg`` is the screen of the README's first command, ``sweep.svg`` a sweep over lengths. Both
are computed afresh; nothing in them is written by hand.
"""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console

from planner.bounds import Bounds
from planner.cli import report, sweep_report
from planner.ranking import plan_scenario
from planner.scenario import Scenario
from planner.sweeps import Grid, run_sweep

HERE = Path(__file__).parent
WIDTH = 150


def main() -> None:
    """Draw both pictures."""
    draw_plan()
    draw_sweep()


def draw_plan() -> None:
    """Draw the plan of the 70B at 256K tokens on 256 accelerators."""
    scenario = Scenario.load("llama-3.1-70b", "h100-dgx:32", seq_len=262_144, global_batch=64)
    screen = Console(record=True, width=WIDTH, highlight=False, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    report.answer(screen, scenario, plan_scenario(scenario, Bounds({})))
    svg = screen.export_svg(title="meshwright plan llama-3.1-70b", unique_id="plan")
    # No font from a server: every viewer has a monospaced one.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, ", "")
    (HERE / "plan.svg").write_text(svg, encoding="utf-8")


def draw_sweep() -> None:
    """Draw the utilisation of each way to cut the sequence, 8K to 1M tokens on 64 accelerators."""
    base = Scenario.load("llama-3.1-8b", "h100-dgx:8", seq_len=8_192, global_batch=64)
    lengths = [2**power for power in range(13, 21)]
    grid = Grid(seq_lens=lengths, gpus=[64], global_batches=[64])
    points = run_sweep(base, grid, Bounds({}))
    (HERE / "sweep.svg").write_text(sweep_report.chart(base, points).to_svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
