"""Figures that whole runs decide: recovered from made-up runs, bounded, and told by real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.profile import load_profile
from tests.validate.published.made_up import guess, row
from topologies.errors import SpecError
from validate.fitting.run_figures import FIGURES
from validate.fitting.run_fit import RunFit, check_families
from validate.fitting.run_sheets import cross_validation
from validate.published.columns import TRAINING_RUN
from validate.published.predict import predict
from validate.published.row import read_table

FILE = Path(__file__).parents[2] / "data" / "published_runs.csv"
NAMES = [str(figure) for figure in FIGURES]
H100, HOST = NAMES.index("gemm_sustained of h100"), NAMES.index("host_launch_s of all")


def made_up(change: np.ndarray, families: int = 5, many: int = 40, off: float = 0.0) -> RunFit:
    """Return runs on H100 that take as long as figures changed so would have them.

    The first family takes longer by a factor that no figure explains.
    """
    random = np.random.default_rng(0)
    rows = [
        row(accelerator="H100", gpus="8", family=f"f{at % families}", step_s=1.0)
        for at in range(many)
    ]
    slopes = np.zeros((many, len(FIGURES)))
    slopes[:, H100] = -random.uniform(0.3, 0.9, many)
    slopes[:, HOST] = random.uniform(0.0, 0.4, many)
    error = -slopes @ change + random.normal(0.0, 0.01, many)
    error[::families] -= off
    return RunFit(
        rows=tuple(rows),
        predicted=tuple(
            guess(each, 1.0, float(np.exp(e))) for each, e in zip(rows, error, strict=True)
        ),
        error=error,
        slopes=slopes,
    )


def changed(**named: float) -> np.ndarray:
    return np.array([named.get(name.split(" ")[0], 0.0) for name in NAMES]) * (
        np.isin(np.arange(len(NAMES)), (H100, HOST))
    )


def test_figures_of_made_up_runs_are_found_and_others_stay() -> None:
    change = changed(gemm_sustained=-0.2, host_launch_s=0.2)
    assert made_up(change, many=2_000).solved() == pytest.approx(change, abs=0.03)


def test_no_figure_exceeds_what_it_can_be() -> None:
    fit = made_up(changed(gemm_sustained=0.5))
    sustained = load_profile("h100-sxm").gemm_sustained.value
    assert sustained * np.exp(fit.solved()[H100]) <= 1.0 + 1e-6


def test_a_family_that_differs_is_further_off_where_nothing_was_fitted_to_it() -> None:
    fit = made_up(changed(gemm_sustained=-0.1), off=0.3)
    held = fit.held_out()
    assert held["overall"].n == len(fit.rows)
    fitted = np.abs(np.expm1(fit.error + fit.slopes @ fit.solved())).mean()
    assert held["overall"].mean > fitted


def test_slopes_of_published_runs_are_what_each_figure_takes_of_them() -> None:
    """The host's part is its share of the time; products are most of a large model's."""
    rows = [each for each in read_table(str(FILE)).rows if each.text("source") == "dgxc-v25.02"]
    found = predict(rows[:6])
    fit = RunFit.of(found, lambda _: None)
    assert {each.kind for each in fit.rows} == {TRAINING_RUN}
    each_s = load_profile("h100-sxm").micro_batch_s.value
    hosts = [
        each_s * each.row.count("global_batch") / (each.layout.dp * each.layout.micro_batch)
        for each in fit.predicted
    ]
    times = np.array([each.predicted for each in fit.predicted], dtype=float)
    share = np.log1p(0.05 * np.array(hosts) / times) / np.log1p(0.05)
    assert fit.slopes[:, NAMES.index("micro_batch_s of all")] == pytest.approx(share, rel=1e-6)
    assert ((fit.slopes[:, H100] > -1.0) & (fit.slopes[:, H100] < -0.4)).all()
    assert not fit.slopes[:, NAMES.index("gemm_sustained of a100")].any()


def test_tables_name_what_is_told_and_every_source() -> None:
    figures, errors = cross_validation(made_up(changed(gemm_sustained=-0.2)))
    assert [line[0] for line in figures.rows] == [NAMES[H100], NAMES[HOST]]
    assert [line[0] for line in errors.rows] == ["overall", "a"]


@pytest.mark.parametrize(("names", "told"), [([], "none"), (["a", "a"], r"one family .*\(a\)")])
def test_one_family_alone_cannot_be_left_out(names: list[str], told: str) -> None:
    runs = [row(accelerator="H100", gpus="8", family=name, step_s=1.0) for name in names]
    times = [guess(each, 1.0, 1.1) for each in runs]
    with pytest.raises(SpecError, match=f"two families of sources at least; here are .*{told}"):
        check_families(times)
