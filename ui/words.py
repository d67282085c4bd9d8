"""Plain words for axes and figures, and the colours that axes have everywhere."""

from __future__ import annotations

import html
import re
from itertools import cycle

from planner.cli.axes import AXIS_HELP
from planner.compare import LINE_NAMES, PART_NAMES
from topologies.palette import COLOURS
from topologies.units import GIB

#: Neither computing nor sending; readable on white and on black.
GREY, LIGHT_GREY = "#8c8c8c", "#b5b5b5"
#: One colour per axis, and per what else a step goes into.
PART_COLOURS = {
    "compute": COLOURS[0],
    "recompute": "#7db7d8",
    "tp": COLOURS[1],
    "cp": COLOURS[2],
    "ep": COLOURS[3],
    "pp": COLOURS[4],
    "dp": COLOURS[5],
    "bubble": LIGHT_GREY,
    "optimizer": "#5f6b76",
    "overhead": GREY,
}
AXIS_COLOURS = {
    "tp": COLOURS[1],
    "ulysses": COLOURS[2],
    "ring": "#5cc4a4",
    "inner_ring": "#5cc4a4",
    "ep": COLOURS[3],
    "etp": COLOURS[3],
    "pp": COLOURS[4],
    "dp": COLOURS[5],
}
#: Colours beyond the palette, for lines of a bill that are mostly thin.
_MORE = ("#7db7d8", GREY, LIGHT_GREY, "#5cc4a4", "#b37aa0", "#c9a24a")
LINE_COLOURS = dict(zip(LINE_NAMES, cycle((*COLOURS[:6], *_MORE)), strict=False))
#: What limits an operation.
BOUND_COLOURS = {
    "compute": COLOURS[0],
    "memory": COLOURS[4],
    "links": COLOURS[1],
    "launches": GREY,
}
#: Axes in the order that people think of them, and what each is called.
AXIS_TITLES = {
    "tp": "Tensor parallel (tp)",
    "ulysses": "Ulysses: heads traded (ulysses)",
    "ring": "Ring: blocks passed on (ring)",
    "pp": "Pipeline (pp)",
    "dp": "Data parallel (dp)",
    "ep": "Experts spread (ep)",
    "etp": "Experts cut (etp)",
    "micro_batch": "Micro-batch, sequences",
    "zero": "ZeRO stage",
    "recompute": "Recomputation",
    "recompute_layers": "Recomputed layers a stage (0: all)",
    "recompute_modules": "Recomputed modules",
    "recompute_method": "Recomputation method",
    "vp": "Chunks per pipeline rank (vp)",
    "schedule": "Pipeline schedule",
    "stage_split": "Layers per stage",
    "tp_sp": "Megatron's sequence parallelism",
    "cp_method": "Keys and values on the ring",
    "inner_ring": "Window of a double ring",
    "sequence_order": "Tokens of a ring rank",
    "cp_placement": "Inside: Ulysses or ring",
    "dp_replicate": "Replicas of shards (HSDP)",
    "rank_order": "Rank order, innermost first",
    "dispatch": "How tokens reach experts",
    "shared_overlap": "Shared experts run meanwhile",
    "expert_overlap": "Another pass runs meanwhile",
    "kernels": "Kernels",
}
HINTS = AXIS_HELP
PARTS, LINES = PART_NAMES, LINE_NAMES
#: The parts of a step where there is little room; communication is what is waited for.
SHORT_PARTS = {
    "compute": "compute",
    "recompute": "recomputation",
    "tp": "tp, exposed",
    "cp": "cp, exposed",
    "ep": "ep, exposed",
    "pp": "pipeline sends",
    "bubble": "pipeline bubble",
    "dp": "dp, exposed",
    "optimizer": "optimizer",
    "overhead": "host",
}
#: What can be swept, and how its values read.
TITLES = {
    "seq_len": "sequence length, tokens",
    "gpus": "accelerators",
    "network": "rate of every scale-out link, times the cluster's own",
    "global_batch": "sequences per step",
}
WAYS = {
    "none": "not cut",
    "ulysses": "Ulysses",
    "ring": "ring",
    "all-gather": "all-gather",
    "hybrid": "Ulysses and ring",
    "per-layer": "ring, gathered under windows",
}
#: Lines of a memory bill where there is little room.
SHORT_LINES = {
    "working": "a layer's backward",
    "buffers": "communication",
    "step": "optimizer's step",
    "fragmentation": "allocator reserve",
    "communicators": "communicators",
    "workspaces": "workspaces",
}
#: Short names that figures and tables use.
GLOSSARY = {
    "dp, tp, pp": "ranks of data, tensor and pipeline parallelism",
    "ulysses, ring": "ranks that cut the sequence: by trading heads, by passing keys and values on",
    "cp": "ranks that cut the sequence in all: ulysses times ring",
    "ep, etp": "ranks that experts are spread over, and that cut each of them",
    "vp": "chunks of the model that each pipeline rank holds (interleaving)",
    "mb": "micro-batch: sequences of one forward pass",
    "zero": "what data-parallel ranks share out: 1 optimizer states, 2 gradients too, 3 all (FSDP)",
    "tp-sp": "activations outside attention are cut over tensor-parallel ranks too",
    "MFU": "model FLOP utilisation: the share of the device's peak that the model's own work takes",
    "exposed": "communication that nothing hides: ranks wait for it",
    "bubble": "time that pipeline ranks wait for each other",
    "rank": "one accelerator of the job",
    "p10, p90": "one of ten steps is shorter than p10, one of ten longer than p90",
}
#: What inputs of the page are called, by the options of the command line that ask the same.
INPUT_TITLES = {
    "cluster": "Cluster",
    "gpus": "Accelerators",
    "seq_len": "Sequence length, tokens",
    "global_batch": "Sequences per step",
    "precision": "Precision",
    "framework": "Framework",
    "software": "Software",
    "packed_len": "Packed sequences, tokens each",
    "fit_chance": "Least chance to fit",
    "optimizer": "Optimizer",
    "gradients": "Gradients kept in",
    "reduce": "Gradients sent in",
    "profile": "Profile of your accelerators",
}
_OPTION = re.compile(r"--([a-z][a-z-]*)")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>$:~^&])")


def of_page(text: object) -> str:
    """Return a sentence with options of the command line called what the page calls them.

    >>> of_page("--micro-batch = 8: must divide --global-batch 12")
    'micro_batch = 8: must divide “Sequences per step” 12'
    """

    def called(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        return f"“{INPUT_TITLES[name]}”" if name in INPUT_TITLES else name

    return _OPTION.sub(called, str(text))


def plain(text: object) -> str:
    r"""Return words that come from a user, so that markdown shows them as they are.

    >>> print(plain("![x](//evil)<b>"))
    \!\[x\]\(//evil\)\<b\>
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


def label(text: object) -> str:
    """Return words that come from a user, so that figures show them as they are.

    >>> label("<a href=x>")
    '&lt;a href=x&gt;'
    """
    return html.escape(" ".join(str(text).split()), quote=False)


def gib(nbytes: float) -> float:
    """Return bytes in GiB."""
    return nbytes / GIB
