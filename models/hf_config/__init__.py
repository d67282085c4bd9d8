"""Reading a Hugging Face ``config.json`` as a list of typed layers.

Accepts the field names of old and of v5 configs (``torch_dtype`` or ``dtype``; ``rope_theta`` or
``rope_parameters``; ``num_local_experts``, ``n_routed_experts`` or ``num_experts``; GPT-2's
``n_embd``) and multimodal wrappers, whose text part is taken. A model type that is not listed in
:data:`FAMILIES` is refused by name, never guessed at; so is a field that is misspelt, which is one
that nobody reads and that is all but the same as one that was looked for and is not there.
"""

from __future__ import annotations

from models.hf_config.families import FAMILIES
from models.hf_config.read import architecture_from_config
from models.hf_config.wrappers import WRAPPERS

__all__ = ["FAMILIES", "WRAPPERS", "architecture_from_config"]
