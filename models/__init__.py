"""What it costs: architectures, layouts, the inventory of work, and the clocks that read it."""

from models.catalogue import load_architecture, model_names

__all__ = ["load_architecture", "model_names"]
