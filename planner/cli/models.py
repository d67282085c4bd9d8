"""``meshwright models``: the architectures the planner knows."""

from __future__ import annotations

from typing import Any

import typer

from planner.cli.job_options import JsonFile, Model

app = typer.Typer(help="Architectures: list them, or show one.", no_args_is_help=True)


@app.command(name="list")
def list_models(json_file: JsonFile = None) -> None:
    """List the architecture catalogue."""
    from models.catalogue import load_architecture, model_names
    from planner.cli import output

    rows = [_summary(load_architecture(name)) for name in model_names()]
    if json_file is not None:
        output.write_json(json_file, {"models": rows})
    if json_file != "-":
        output.print_rows(rows)


@app.command()
def show(model: Model, json_file: JsonFile = None) -> None:
    """Show one architecture, layer kind by layer kind."""
    from models.catalogue import load_architecture
    from planner.cli import output

    architecture = load_architecture(model)
    kinds = [_kind(architecture, position) for position in range(len(architecture.kinds))]
    if json_file is not None:
        output.write_json(json_file, {**_summary(architecture), "kinds": kinds})
    if json_file == "-":
        return
    screen = output.console()
    screen.print(f"[bold]{architecture.title}[/bold]  {architecture.params:,} parameters")
    screen.print(f"source: {architecture.source}\n")
    output.print_rows([_summary(architecture)])
    screen.print()
    output.print_rows(kinds)


def _summary(architecture: Any) -> dict[str, Any]:  # noqa: ANN401 - imported when run
    mixer = architecture.kinds[0].mixer
    return {
        "name": architecture.name,
        "parameters": f"{architecture.params / 1e9:.2f} B",
        "layers": len(architecture.layers),
        "hidden": architecture.hidden,
        "heads": mixer.heads,
        "kv_heads": mixer.kv_heads,
        "head_dim": mixer.head_dim,
        "mlp": architecture.kinds[0].mlp.intermediate,
        "vocab": architecture.vocab,
        "max_positions": architecture.max_positions,
    }


def _kind(architecture: Any, position: int) -> dict[str, Any]:  # noqa: ANN401 - imported when run
    layer = architecture.kinds[position]
    return {
        "layers": architecture.kind_of_layer.count(position),
        "parameters_each": layer.params(architecture.hidden),
        "window": layer.mixer.window or "all",
        "qk_norm": layer.mixer.qk_norm,
        "norm": layer.norm,
        "norms": layer.norms,
        "gated": layer.mlp.gated,
        "activation": layer.mlp.activation,
    }
