"""README's figures of accuracy are those of the committed report."""

from __future__ import annotations

import re
from pathlib import Path

from models.profile import Profile, load_profile
from topologies.catalogue import accelerator_names
from topologies.figure import Provenance

ROOT = Path(__file__).parents[1]


def figures(line: str) -> tuple[str, str, str]:
    """Return rows, median and 90th percentile of a line of the report's tables of errors."""
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    return f"{int(cells[1]):,}", cells[3], cells[4]


def test_readme_says_what_the_report_found() -> None:
    report = (ROOT / "ACCURACY.md").read_text()
    readme = " ".join((ROOT / "README.md").read_text().split())
    runs = next(line for line in report.splitlines() if line.startswith("| kind: training_run"))
    left_out = report[report.index("## Sources left out") :]
    held_out = next(line for line in left_out.splitlines() if line.startswith("| overall"))
    rows, median, p90 = figures(runs)
    assert f"Of {rows} published training steps" in readme
    assert f"the median error is {median} (90% within {p90})" in readme
    rows, median, p90 = figures(held_out)
    assert f"it is {median} ({p90}, {rows} steps)" in readme
    experts = next(line for line in report.splitlines() if line.startswith("| model: experts"))
    rows, median, p90 = figures(experts)
    whole = re.sub(r"\.0%", "%", p90)
    assert f"mixtures of experts ({median}, 90% within {whole}, {rows} steps)" in readme


def span(profiles: list[Profile], figure: str) -> str:
    """Return the range of a figure over profiles, in per cent."""
    values = [getattr(profile, figure).value for profile in profiles]
    return f"{100 * min(values):.0f} to {max(values):.0%}"


def test_readme_says_how_wide_intervals_are() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    known = {name: load_profile(name) for name in accelerator_names() if name != "cpu-core"}
    fitted = [each for each in known.values() if each.compute_spread.kind is Provenance.FITTED]
    assert {each.name for each in fitted} == {"a100", "a100-sxm-40gb", "h100"}
    blackwell = [known[name] for name in ("b200-sxm", "b300-sxm", "gb200", "gb300")]
    widest = max(each.compute_spread.value for each in blackwell)
    others = [each for each in known.values() if each.compute_spread.value > widest]
    assert f"compute {span(fitted, 'compute_spread')} (one standard deviation)" in readme
    assert f"{span(blackwell, 'compute_spread')} on Blackwell" in readme
    assert f"{span(others, 'compute_spread')} on devices unlike these" in readme
    assert f"{span([*known.values()], 'communication_spread')} on communication" in readme
