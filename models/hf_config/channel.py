"""Channel mixers of a config: dense MLPs, mixtures of experts, and where each is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.architecture.mlp import Mlp
from models.architecture.moe import Moe

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.architecture import ChannelMixer
    from models.architecture.moe import Router
    from models.hf_config.family import Family, Size
    from models.hf_config.reader import ConfigReader

WIDTH = ("intermediate_size", "n_inner", "ffn_dim")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
TOP_K = ("num_experts_per_tok", "experts_per_token")
_ACTIVATION = ("hidden_act", "hidden_activation", "activation_function", "mlp_hidden_act")


def dense_everywhere(reader: ConfigReader, family: Family, size: Size) -> list[ChannelMixer | None]:
    """Return a dense MLP for every layer."""
    return [dense(reader, family, size.hidden)] * size.layers


def sparse_layers(reader: ConfigReader, family: Family, size: Size) -> list[ChannelMixer | None]:
    """Return experts where the family has them, a dense MLP elsewhere."""
    where = family.sparse(reader, size.layers) if family.sparse else [True] * size.layers
    moe = family.moe(reader, family, size.hidden) if family.moe and any(where) else None
    mlp = None if all(where) else dense(reader, family, size.hidden)
    return [moe if sparse else mlp for sparse in where]


def dense(reader: ConfigReader, family: Family, hidden: int, *names: str) -> Mlp:
    """Return the dense MLP whose width stands in one of `names`."""
    default = 4 * hidden if family.four_times else None
    return Mlp(
        intermediate=reader.whole(*(names or WIDTH), default=default),
        gated=family.gated,
        bias=reader.holds(family.mlp_bias),
        activation=activation(reader, family),
        joint=family.joint,
    )


def activation(reader: ConfigReader, family: Family) -> str:
    """Return the activation of the MLPs."""
    return reader.activation(*_ACTIVATION, default=family.activation)


def expert_counts(reader: ConfigReader) -> tuple[int, int]:
    """Return the experts and those that a token visits."""
    experts, top_k = reader.whole(*EXPERTS), reader.whole(*TOP_K)
    if top_k > experts and reader.sound(*EXPERTS, *TOP_K):
        name = next(name for name in TOP_K if reader.config.get(name) is not None)
        reader.refuse(name, f"at most the {experts} experts there are")
    return experts, top_k


def plain_moe(width: str, router: Router = "softmax") -> Callable[..., Moe]:
    """Return a reader of experts and nothing beside them; `width` names their width."""

    def moe(reader: ConfigReader, family: Family, hidden: int) -> Moe:
        experts, top_k = expert_counts(reader)
        expert = Mlp(
            intermediate=reader.whole(width),
            gated=family.gated,
            activation=activation(reader, family),
        )
        return Moe(experts=experts, top_k=top_k, expert=expert, router=router)

    return moe


def biased_moe(reader: ConfigReader, family: Family, hidden: int) -> Moe:
    """gpt-oss: experts and router with biases, a softmax over the chosen."""
    experts, top_k = expert_counts(reader)
    expert = Mlp(
        intermediate=reader.whole("intermediate_size"),
        bias=True,
        activation=activation(reader, family),
    )
    return Moe(
        experts=experts, top_k=top_k, expert=expert, router="softmax_of_chosen", router_bias=True
    )


def moe_with_gated_shared(reader: ConfigReader, family: Family, hidden: int) -> Moe:
    """Qwen2-MoE and Qwen3-Next: a shared expert that a gate of one column scales."""
    experts, top_k = expert_counts(reader)
    act = activation(reader, family)
    return Moe(
        experts=experts,
        top_k=top_k,
        expert=Mlp(intermediate=reader.whole("moe_intermediate_size"), activation=act),
        shared=Mlp(
            intermediate=reader.whole("shared_expert_intermediate_size"),
            activation=act,
        ),
        shared_gate=True,
    )


def deepseek_moe(router: Router) -> Callable[..., Moe]:
    """Return a reader of DeepSeek's experts: grouped, with shared ones as wide as several."""

    def moe(reader: ConfigReader, family: Family, hidden: int) -> Moe:
        experts, top_k = expert_counts(reader)
        width, shared = (
            reader.whole("moe_intermediate_size"),
            reader.whole("n_shared_experts", least=0),
        )
        groups, used = expert_groups(reader, experts, top_k)
        act = activation(reader, family)
        return Moe(
            experts=experts,
            top_k=top_k,
            expert=Mlp(intermediate=width, activation=act),
            shared=Mlp(
                intermediate=width * shared, bias=reader.holds(family.mlp_bias), activation=act
            )
            if shared
            else None,
            router=router,
            groups=groups,
            groups_used=used,
        )

    return moe


def expert_groups(reader: ConfigReader, experts: int, top_k: int) -> tuple[int, int]:
    """Return the groups of experts and those a token may choose from."""
    groups = reader.whole("n_group", default=1)
    used = reader.whole("topk_group", default=groups)
    if not reader.sound("n_group", "topk_group", *EXPERTS, *TOP_K):
        return 1, 1
    if experts % groups:
        reader.refuse("n_group", f"a divisor of the {experts} experts")
    elif used > groups or top_k > experts // groups * used:
        reader.refuse("topk_group", f"at most {groups}, and enough for {top_k} experts per token")
    return groups, used


def llama4_moe(reader: ConfigReader, family: Family, hidden: int) -> Moe:
    """Llama 4: routed experts and a shared one of the same width."""
    experts, top_k = expert_counts(reader)
    expert = Mlp(
        intermediate=reader.whole("intermediate_size"), activation=activation(reader, family)
    )
    return Moe(experts=experts, top_k=top_k, expert=expert, shared=expert, router="sigmoid")


def llama4_layers(reader: ConfigReader, family: Family, size: Size) -> list[ChannelMixer | None]:
    """Llama 4: ``moe_layers``, or every so many; dense ones have a width of their own."""
    if reader.config.get("moe_layers") is not None:
        sparse = reader.indices("moe_layers", size.layers)
    else:
        step = reader.whole("interleave_moe_layer_step", default=1)
        sparse = frozenset(range(step - 1, size.layers, step))
    moe = llama4_moe(reader, family, size.hidden) if sparse else None
    mlp = (
        dense(reader, family, size.hidden, "intermediate_size_mlp")
        if len(sparse) < size.layers
        else None
    )
    return [moe if layer in sparse else mlp for layer in range(size.layers)]


def by_step(reader: ConfigReader, layers: int) -> list[bool]:
    """Qwen: every ``decoder_sparse_step``-th layer that is not in ``mlp_only_layers``."""
    step = reader.whole("decoder_sparse_step", default=1)
    only = reader.indices("mlp_only_layers", layers)
    return [layer not in only and (layer + 1) % step == 0 for layer in range(layers)]


def after_first(reader: ConfigReader, layers: int) -> list[bool]:
    """DeepSeek: all layers but the first ``first_k_dense_replace``."""
    dense_layers = reader.whole("first_k_dense_replace", least=0)
    if dense_layers > layers and reader.sound("num_hidden_layers"):
        reader.refuse("first_k_dense_replace", f"at most the {layers} layers there are")
    if reader.config.get("mlp_layer_types") is not None:
        kinds = reader.kinds("mlp_layer_types", layers, {"dense": "dense", "sparse": "sparse"})
        return [kind == "sparse" for kind in kinds]
    return [layer >= dense_layers for layer in range(layers)]


def periodic(reader: ConfigReader, layers: int, name: str) -> list[bool]:
    """Return which layers ``<name>_period`` and ``<name>_offset`` mean (Jamba)."""
    period = reader.whole(f"{name}_period")
    offset = reader.whole(f"{name}_offset", least=0)
    if offset >= period and reader.sound(f"{name}_period", f"{name}_offset"):
        reader.refuse(f"{name}_offset", f"less than {name}_period = {period}")
    return [layer % period == offset for layer in range(layers)]
