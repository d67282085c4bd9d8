"""The job and the layout of a published run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from models.recompute_modules import RecomputeModules
from models.software import USUAL
from models.workload import Workload
from planner.scenario import Scenario
from validate.published.machine_of import machine_of
from validate.published.model_of import model_of
from validate.published.offloaded import check_offload, may_offload
from validate.published.row import UnexpressedError
from validate.published.states_of import states_of
from validate.published.unstated import CHOSEN, completed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.layout import Layout
    from validate.published.row import Row

#: What tables call precisions, by how they begin; the first that fits.
PRECISIONS = (
    ("FP8-MX", "mxfp8"),
    ("MXFP8", "mxfp8"),
    ("NVFP4", "nvfp4"),
    ("FP8-CS", "fp8-tensorwise"),
    ("FP8-SC", "fp8-blockwise"),
    ("FP8 (BLOCK", "fp8-blockwise"),
    ("FP8-BLOCK", "fp8-blockwise"),
    ("FP8", "fp8-delayed"),
    ("FP16", "fp16"),
    ("BF16", "bf16"),
)
#: Frameworks whose kernels are plain modules; all others run fused ones, or compile to such.
EAGER = r"Composer|torchtitan|DeepSpeed|fms-fsdp|prime-rl|KempnerForge"
#: Policies of recomputation that keep what goes into MLPs and comes out of them (MaxText).
MLP_AGAIN = r"recompute (MLP|mlpwi)|except_mlp"
#: How tables say that a pipeline may be interleaved; else a blank stands for one that is not.
UNSTATED_VP = r"\bVP\b"
#: Frameworks in JAX recompute whole layers unless told otherwise (MaxText base.yml remat_policy).
JAX = r"(?i)maxtext|pax|levanter|axlearn|\bjax\b"
#: Ways to send tokens to experts that send them once to every domain, and forward them inside.
ONCE_A_DOMAIN = r"\b(deepep|hybridep)\b"
#: Tokens travel to experts beside another micro-batch's pass.
BESIDE_PASSES = r"\bEP A2A overlap\b"
#: Keys and values of all ranks of a ring gathered before attention.
GATHERED = r"(?i)all-?_?gather|pass-kv"
#: Frameworks that gather them unless a run says that they travel: torch's context parallelism does
#: (distributed/tensor/experimental/_attention.py, rotate_method), and so does torchtitan 0.1.0 to
#: 0.2.0 (context_parallel_rotate_method).
GATHERING, TRAVELLING = r"(?i)torchtitan", r"(?i)\bring|p2p|all-?_?to-?_?all"
#: Rings of a node inside one of nodes.
DOUBLE_RING = r"(?i)double-? ?ring|burst"
#: Recomputation of some blocks in full: how many is for whoever tunes the run to choose.
SOME_BLOCKS = r"fraction .*of (blocks|layers).* not stated"
#: The first layers of every stage, and of every chunk of an interleaved one, in full.
SOME_LAYERS = r"recompute=([1-9]\d*) layers"
#: Software that runs of a framework used, by when they were published at the latest; the first that
#: fits. Until 2022 no framework had flash attention; the fork for DeepSpeed stayed at that code.
SOFTWARE = (
    (r"megatron-deepspeed$", "2022", "megatron-deepspeed-2022"),
    (r"megatron-deepspeed$", "9999", "megatron-2021"),
    (r"megatron|deepspeed", "2022", "megatron-2021"),
    (r"composer", "2023-09", "llm-foundry-2023"),
    (r"composer", "2024-06", "llm-foundry-2024"),
    (r"\bfa[34]\b", "9999", USUAL),
    (r"nemo|megatron-bridge", "9999", "userbuffers"),
    (r"megatron-lm/deepspeed", "9999", "megatron-deepspeed-2024"),
    (r"megatron", "9999", "transformer-engine"),
    (JAX, "9999", "jax"),
    (r"internevo", "9999", "internevo"),
    (r"xtuner", "9999", "xtuner"),
    (r"deepspeed|liger", "9999", "hugging-face"),
    (r"fsdp|torchtitan|kempnerforge|composer", "2025", "torch-fsdp"),
    (r"fsdp|torchtitan|kempnerforge|composer", "9999", "torch-fsdp-2026"),
)
#: How runs say that sends of tensor parallelism are beside products or are not, and what of
#: software does that otherwise.
TP_BESIDE = r"(?i)tp-comm-overlap(?! off)|tp userbuffer overlap on\b"
TP_APART = r"(?i)no tp-comm-overlap|tp-comm-overlap off|tp userbuffer overlap off"
OTHERWISE = {TP_APART: {"userbuffers": "transformer-engine"},
             TP_BESIDE: {"transformer-engine": "userbuffers"}}  # fmt: skip
#: About the tokens of each of the sequences that finetuning benchmarks pack into one: of SQuAD
#: (Rajpurkar et al., arXiv:1606.05250) a paragraph of 120 words, a question of 10 and an answer of
#: 3, at 1.3 tokens a word. By what rows say, or by framework: NVIDIA-NeMo/Megatron-Bridge 0.3.1
#: recipes/common.py packs SQuAD in all its supervised finetuning.
SQUAD_TOKENS = 170
PACKED = r"(?i)packed squad"
PACKING_FRAMEWORKS = r"(?i)megatron-bridge"
#: A whole step replayed as CUDA graphs; of a part of each layer the host still starts the rest.
GRAPHED = r"full_iteration"
#: What is trained in ways that are not modelled.
UNMODELLED_TASKS = ("lora",)


def scenario_of(row: Row) -> Scenario:
    """Return what a row trains, on what.

    Raises
    ------
    UnexpressedError
        If that is not modelled, or not stated.
    """
    task = row.text("task").lower()
    if any(word in task for word in UNMODELLED_TASKS):
        raise UnexpressedError(f"task not modelled: {task}")
    said = row.text("precision", "BF16").upper()
    precision = next((ours for theirs, ours in PRECISIONS if said.startswith(theirs)), None)
    if precision is None:
        raise UnexpressedError(f"precision not modelled: {said[:40]}")
    machine = machine_of(row)
    check_offload(row, machine)
    workload = Workload(
        seq_len=row.count("seq_len"),
        global_batch=row.count("global_batch"),
        precision=precision,
        states=states_of(row),
        software=software_of(row),
        packed_len=_packed_len(row),
    )
    return Scenario(model_of(row), machine, workload)


def software_of(row: Row) -> str:
    """Return what a row's framework was like at the time."""
    if re.match(GRAPHED, row.text("cuda_graph")):
        return "cuda-graphs"
    framework, date = row.text("framework").lower(), row.text("date", "9999")
    overlap = row.text("overlap")
    for pattern, last, name in SOFTWARE:
        if re.search(pattern, framework) and date[: len(last)] <= last:
            said = (other for words, other in OTHERWISE.items() if re.search(words, overlap))
            return next(said, {}).get(name, name)
    return USUAL


def _packed_len(row: Row) -> int | None:
    """Return about the tokens of each sequence that a row packs into one, if it finetunes so."""
    finetunes = row.text("task").lower() == "sft"
    packs = re.match(PACKING_FRAMEWORKS, row.text("framework"))
    packed = re.search(PACKED, row.text("assumed")) or (finetunes and packs)
    return SQUAD_TOKENS if packed else None


def layout_of(row: Row, scenario: Scenario) -> Layout:
    """Return how a row cuts its job; what it does not state is as most runs have it.

    Raises
    ------
    UnexpressedError
        If a row says what has no name here.
    SpecError
        If the layout cannot be.
    """
    degrees = _degrees(row)
    axes: dict[str, object] = {**degrees}
    # A framework's own name for its sharding stands for what all of them do: everything, by layer.
    axes["zero"] = row.count("zero", 3 if row.text("fsdp", "0") != "0" else 0)
    # Megatron-Core takes tensor parallelism beside experts along the sequence only.
    along = bool(row.count("tp_sp", 0)) or degrees["ep"] > 1
    axes["tp_sp"] = int(along and degrees["tp"] > 1)
    if axes["zero"]:
        axes["dp_replicate"] = row.count("dp_replicate", 1)
    axes |= _recomputation(row)
    axes |= _exchange(row) | _keys(row, degrees)
    axes["kernels"] = "eager" if _eager(row) else "fused"
    unstated = [axis for axis in CHOSEN if axis not in axes]
    return completed(scenario, axes, unstated, offloads=may_offload(row, scenario))


def _eager(row: Row) -> bool:
    """Return whether kernels are those of plain modules."""
    software = f"{row.text('framework')} {row.text('framework_version')}"
    return bool(re.match(EAGER, software)) and "compile" not in software


def _recomputation(row: Row) -> dict[str, object]:
    """Return what is recomputed, if a row states it."""
    recompute = row.text("recompute")
    if recompute not in ("", "none", "selective", "full"):
        raise UnexpressedError(f"recomputation not expressed: {recompute[:40]}")
    if not recompute and re.search(JAX, row.text("framework")):
        return {"recompute": "full"}
    said = row.text("recompute_detail")
    if re.search(SOME_BLOCKS, said):
        return {}
    if recompute == "selective" and re.search(MLP_AGAIN, said):
        return {"recompute": recompute, "recompute_modules": "core_attn,layernorm,mlp"}
    if recompute == "selective" and (modules := _modules(said)):
        return {"recompute": recompute, "recompute_modules": modules}
    if recompute == "full" and (some := re.search(SOME_LAYERS, said)):
        return {"recompute": recompute, "recompute_layers": int(some[1]) * row.count("vp", 1)}
    return {"recompute": recompute} if recompute else {}


def _modules(said: str) -> str:
    """Return the modules of Megatron-Core that a description names, as users write them."""
    words = set(re.findall(r"[a-z_]+", said))
    return ",".join(name for name in RecomputeModules.labels() if name in words)


def _exchange(row: Row) -> dict[str, object]:
    """Return how tokens reach experts, if a row states it."""
    if row.count("ep", 1) == 1:
        return {}
    said, axes = row.text("overlap"), dict[str, object]()
    if re.search(ONCE_A_DOMAIN, said):
        axes["dispatch"] = "deepep"
    if re.search(BESIDE_PASSES, said):
        axes["expert_overlap"] = True
    return axes


def _keys(row: Row, degrees: Mapping[str, int]) -> dict[str, object]:
    """Return how keys and values reach the ranks of a ring, if a row states it."""
    said, ring = row.text("cp_kind"), degrees["ring"]
    gathers = re.search(GATHERING, row.text("framework")) and not re.search(TRAVELLING, said)
    if ring > 1 and (gathers or re.search(GATHERED, said)):
        return {"cp_method": "all_gather"}
    if ring == 1 or not re.search(DOUBLE_RING, said):
        return {}
    window = max(row.count("gpus_per_node") // (degrees["tp"] * degrees["ulysses"]), 1)
    return {"inner_ring": window} if window < ring and ring % window == 0 else {}


def _degrees(row: Row) -> dict[str, int]:
    """Return degrees and micro-batch; data parallelism has what the others leave."""
    gpus = row.count("gpus")
    degrees = {axis: row.count(axis, 1) for axis in ("tp", "pp", "vp", "ep", "etp")}
    cp, ulysses = row.count("cp", 1), row.count("ulysses", 1)
    degrees |= {"ulysses": ulysses, "ring": row.count("ring", max(cp // ulysses, 1))}
    taken = degrees["tp"] * degrees["pp"] * degrees["ulysses"] * degrees["ring"]
    if gpus % taken:
        raise UnexpressedError(f"{taken} ranks of a replica do not divide {gpus} accelerators")
    degrees["dp"] = gpus // taken
    if degrees["ep"] > 1 and row.count("dp", degrees["dp"]) * degrees["ep"] == degrees["dp"]:
        raise UnexpressedError("ranks that share experts hold the same data: not modelled")
    if not row.text("vp") and degrees["pp"] > 1 and re.search(UNSTATED_VP, row.text("assumed")):
        del degrees["vp"]
    return degrees | ({"micro_batch": row.count("micro_batch")} if row.text("micro_batch") else {})
