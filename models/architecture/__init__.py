"""What a model is made of: a list of typed layers, and the parameters each holds.

A layer is a token mixer and a channel mixer, each of one of a few types, or without one of them.
Every type has ``matrix_params(hidden)``, what tensor parallelism splits, ``small_params(hidden)``,
what every tensor-parallel rank holds whole, a ``label`` for sentences and ``words`` for tables.
"""

from __future__ import annotations

from models.architecture.architecture import Architecture
from models.architecture.attention import Attention
from models.architecture.latent_attention import LatentAttention
from models.architecture.layer import ChannelMixer, Layer, Mixer, NormKind, Recurrent
from models.architecture.linear_attention import GatedDeltaNet
from models.architecture.mlp import Mlp
from models.architecture.moe import Moe
from models.architecture.side_by_side import SideBySide
from models.architecture.state_space import Mamba1, Mamba2

__all__ = [
    "Architecture",
    "Attention",
    "ChannelMixer",
    "GatedDeltaNet",
    "LatentAttention",
    "Layer",
    "Mamba1",
    "Mamba2",
    "Mixer",
    "Mlp",
    "Moe",
    "NormKind",
    "Recurrent",
    "SideBySide",
]
