"""What others build on: exported names, command-line options, imports that point one way."""

from __future__ import annotations

import importlib
import inspect

import pytest

PACKAGES = ("topologies", "models", "planner")
LAYOUT_OPTIONS = {
    *("--tp", "--ulysses", "--ring", "--cp", "--pp", "--dp", "--vp", "--micro-batch", "--zero"),
    *("--dp-replicate", "--tp-sp", "--cp-method", "--sequence-order", "--cp-placement"),
    *("--schedule", "--recompute", "--recompute-layers", "--recompute-modules", "--rank-order"),
    *("--stage-split", "--kernels", "--inner-ring", "--ep", "--etp", "--dispatch"),
    *("--shared-overlap", "--expert-overlap", "--recompute-method"),
}
JOB_OPTIONS = {
    *("--cluster", "--seq-len", "--global-batch", "--gpus", "--precision", "--json"),
    *("--ecmp", "--ecmp-seed", "--profile", "--optimizer", "--gradients", "--reduce"),
    *(
        "--expert-skew",
        "--expert-capacity",
        "--predict-depth",
        "--software",
        "--packed-len",
        "--fit-chance",
    ),
}
OWN_OPTIONS = {
    "plan": {"--framework", "--top", "--beside", "--task", "--simulate"},
    "estimate": {"--map"},
    "simulate": {
        *("--trace", "--contention", "--async-ulysses", "--samples", "--seed", "--jitter"),
        *("--straggler", "--slow-link", "--failed-nics", "--packed"),
    },
    "sweep": {"--framework", "--network", "--csv", "--figure"},
}


@pytest.mark.parametrize("package", PACKAGES)
def test_exported_names_are_sorted_and_real(package):
    module = importlib.import_module(package)
    assert list(module.__all__) == sorted(module.__all__)
    for name in module.__all__:
        exported = getattr(module, name)
        assert exported is not None
        assert inspect.getdoc(exported)
    with pytest.raises(AttributeError):
        _ = module.no_such_name


@pytest.mark.parametrize("command", sorted(OWN_OPTIONS))
def test_the_options_of_every_command_are_those_people_know(command):
    import typer

    function = getattr(importlib.import_module(f"planner.cli.{command}"), command)
    app = typer.Typer()
    app.command()(function)
    parsed = typer.main.get_command(app)
    options = {flag for p in parsed.params for flag in p.opts if flag.startswith("--")} - {
        "--install-completion",
        "--show-completion",
    }
    assert options == LAYOUT_OPTIONS | JOB_OPTIONS | OWN_OPTIONS[command]


def test_every_axis_of_a_layout_has_an_option():
    from models.layout import AXES
    from planner.cli.axes import AXIS_HELP

    assert set(AXIS_HELP) == {*AXES, "cp"}
