"""Every example prints what is committed beside it, and that says what the example is about."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

import examples

FOLDER = Path(examples.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.txt"))


def output(name: str) -> str:
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def rows(name: str, start: str) -> list[list[str]]:
    """Return the rows of a table that begin with some words, the rest of each split by column."""
    lines = [line for line in output(name).splitlines() if line.startswith(start)]
    return [line.removeprefix(start).split() for line in lines]


def seconds(name: str, start: str) -> float:
    """Return the step of the first row that begins with some words."""
    return float(rows(name, f"{start}  ")[0][0])


def test_every_script_has_its_output() -> None:
    scripts = {path.stem for path in FOLDER.glob("*.py") if "def main()" in path.read_text()}
    assert scripts == set(NAMES)
    assert len(NAMES) == 5


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_output_is_what_it_prints(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import_module(f"examples.{name}").main()
    assert capsys.readouterr().out == output(name)


def test_pairs_of_passes_are_worth_most_of_deepseeks_choices() -> None:
    published = seconds("deepseek_v3", "as published")
    worse = ["1F1B: exchanges exposed", "products in bf16"]
    assert all(seconds("deepseek_v3", title) > 1.2 * published for title in worse)
    assert seconds("deepseek_v3", "every copy sent (all-to-all)") > 1.05 * published
    assert seconds("deepseek_v3", "routing skewed (0.2)") > 1.05 * published


def test_a_state_is_handed_on_at_any_length_and_keys_are_not() -> None:
    told = [line for line in output("million_tokens").splitlines() if line.startswith("handed on")]
    sizes = {
        kind.split(":")[0]: [float(word.replace(",", "")) for word in kind.split() if "." in word]
        for line in told
        for kind in line.split("per layer: ")[1].split("; ")
    }
    assert set(sizes) == {"attention", "Mamba-2"}
    assert sizes["Mamba-2"][0] == sizes["Mamba-2"][1]
    assert sizes["attention"][1] == 8 * sizes["attention"][0]


def test_windows_save_most_of_the_compute_and_waste_most_of_what_is_gathered() -> None:
    with_windows, without = (
        float(row[0]) for row in rows("windows_at_128k", "ulysses 8              ")[:2]
    )
    assert with_windows < 0.7 * without
    assert "sees 27% with windows" in output("windows_at_128k")
