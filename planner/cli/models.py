"""``meshwright models``: the architectures the planner knows."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from planner.cli.columns import Columns
from planner.cli.job_options import JsonFile, Model

if TYPE_CHECKING:
    from models.architecture import Architecture, Layer

#: Of the summary, what a narrow screen leaves out, the first first.
DISPENSABLE = (
    *("max positions", "head dim", "vocab", "mlp", "experts"),
    *("kv heads", "heads", "hidden", "layers", "active"),
)
SUMMARIES = Columns(names=("name",), dispensable=DISPENSABLE)
KINDS = Columns(words=("token mixer", "channel mixer", "norms"), dispensable=("active each",))

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
        screen = output.console()
        screen.print(SUMMARIES.table([_written(row) for row in rows], screen.width))


@app.command()
def show(model: Model, json_file: JsonFile = None) -> None:
    """Show one architecture, layer kind by layer kind."""
    from models.catalogue import load_architecture
    from planner.cli import output

    architecture = load_architecture(model)
    if json_file is not None:
        kinds = [_fields(architecture, layer) for layer in architecture.kinds]
        extra = {"predict_layers": len(architecture.predict_layers), "notes": architecture.notes}
        output.write_json(json_file, {**_summary(architecture), **extra, "kinds": kinds})
    if json_file == "-":
        return
    screen = output.console()
    screen.print(f"[bold]{architecture.title}[/bold]  {_sizes(architecture)}")
    screen.print(f"source: {architecture.source}")
    for note in _notes(architecture):
        screen.print(note)
    screen.print()
    for part in SUMMARIES.parts([_written(_summary(architecture))], screen.width):
        screen.print(part)
        screen.print()
    kinds = [_words(architecture, layer) for layer in architecture.kinds]
    screen.print(KINDS.table(kinds, screen.width))


def _summary(architecture: Architecture) -> dict[str, Any]:
    """Return one row of the list; heads and widths are those of the first layer that has them."""
    softmax = [part for layer in architecture.layers for part in _softmax(layer)]
    mlps = [layer.mlp for layer in architecture.layers]
    return {
        "name": architecture.name,
        "parameters": architecture.params,
        "active": architecture.active_params,
        "layers": len(architecture.layers),
        "hidden": architecture.hidden,
        "heads": _first(softmax, "heads"),
        "kv_heads": _first(softmax, "kv_heads"),
        "head_dim": _first(softmax, "head_dim"),
        "mlp": _first(mlps, "intermediate"),
        "experts": _first(mlps, "experts"),
        "vocab": architecture.vocab,
        "max_positions": architecture.max_positions,
    }


def _softmax(layer: Layer) -> list[Any]:
    """Return what attends by softmax in a layer."""
    from models.architecture import Attention, LatentAttention, SideBySide

    mixer = layer.mixer.attention if isinstance(layer.mixer, SideBySide) else layer.mixer
    return [mixer] if isinstance(mixer, Attention | LatentAttention) else []


def _written(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as people read it: parameters in billions, a dash where there is nothing."""
    billions = {name: f"{row[name] / 1e9:.2f} B" for name in ("parameters", "active")}
    written = {name: "-" if value is None else value for name, value in (row | billions).items()}
    return {name.replace("_", " "): value for name, value in written.items()}


def _first(parts: list[Any], name: str) -> int | None:
    """Return a size of the first part that has it."""
    return next((getattr(part, name) for part in parts if hasattr(part, name)), None)


def _sizes(architecture: Architecture) -> str:
    """Return the parameters, and those a token uses where they are fewer."""
    text = f"{architecture.params:,} parameters"
    if architecture.active_params < architecture.params:
        text += f", of which a token uses {architecture.active_params:,}"
    return text


def _notes(architecture: Architecture) -> list[str]:
    """Return sentences about what is not in the table."""
    notes = list(architecture.notes)
    if architecture.predict_layers:
        notes.append(
            "multi-token prediction, not counted above: "
            f"{architecture.predict_params:,} parameters "
            f"in {_several(len(architecture.predict_layers), 'layer')}"
        )
    return notes


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _words(architecture: Architecture, layer: Layer) -> dict[str, Any]:
    """Return one kind of layer in words."""
    return {
        "layers": architecture.layers.count(layer),
        "parameters each": f"{layer.params(architecture.hidden):,}",
        "active each": f"{layer.active_params(architecture.hidden):,}",
        "token mixer": layer.mixer.words if layer.mixer else "none",
        "channel mixer": layer.mlp.words if layer.mlp else "none",
        "norms": layer.norm_words,
    }


def _fields(architecture: Architecture, layer: Layer) -> dict[str, Any]:
    """Return one kind of layer with every field of its mixers."""
    return {
        "layers": architecture.layers.count(layer),
        "parameters_each": layer.params(architecture.hidden),
        "active_each": layer.active_params(architecture.hidden),
        "mixer": _part(layer.mixer),
        "mlp": _part(layer.mlp),
        "norm": layer.norm,
        "norms": layer.norms,
        "norms_after": layer.norms_after,
        "parallel": layer.parallel,
    }


def _part(part: Any) -> dict[str, Any] | None:  # noqa: ANN401 - any of the mixers
    """Return a mixer's type, words and fields."""
    if part is None:
        return None
    return {"type": type(part).__name__, "words": part.words, **asdict(part)}
