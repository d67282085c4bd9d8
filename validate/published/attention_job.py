"""What a published row of attention alone runs: heads, mask, cut, kernels, machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.architecture import Attention
from models.layout import Layout
from models.named_axes import CpMethod, Kernels, SequenceOrder
from models.workload import Workload
from validate.published.machine_of import machine_of
from validate.published.row import UnexpressedError

if TYPE_CHECKING:
    from topologies.cluster import Cluster
    from validate.published.row import Row

#: How many forward passes' FLOP a pass counts as: the backward one computes scores once more
#: (Dao et al., arXiv:2205.14135).
FORWARDS = {"fwd": 1.0, "bwd": 2.5, "fwd+bwd": 3.5}
#: Methods that cut attention in ways of their own.
UNMODELLED = (
    (r"fpdt|offload", "chunks of keys and values kept in host memory are not modelled"),
    (r"colossalai", "ring self-attention without flash kernels is not modelled"),
)
_GATHERS = re.compile(r"all.?gather", re.IGNORECASE)
#: Dispatches what the mask leaves evenly, and casts keys and values to the ranks whose queries see
#: them in stages behind kernels (SandAI-org/MagiAttention): a ring's bytes, its work as in zigzag.
_CASTS = re.compile(r"magi_attn", re.IGNORECASE)
_PACKED = re.compile(r"\bvarlen\b", re.IGNORECASE)
_NEWEST = re.compile(r"magi_attn|FA3|FlashAttention-?3|cuDNN|TransformerEngine", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionJob:
    """One pass of attention over ranks.

    Parameters
    ----------
    attention, workload, cluster, layout
        Heads, tokens and sequences, machine, and how both are cut.
    causal, striped
        Whether queries see earlier keys only, and whether ranks hold every so many-th token.
    passes
        ``fwd``, ``bwd`` or ``fwd+bwd``.
    over
        The result is one rank's time over so many (an ideal without communication).
    newest
        Whether kernels are the device's best, or FlashAttention 2 from Python.
    """

    attention: Attention
    workload: Workload
    cluster: Cluster
    layout: Layout
    causal: bool
    striped: bool
    passes: str
    over: int
    newest: bool

    @property
    def flop(self) -> float:
        """FLOP of the pass, of what the mask leaves: ``4 b S^2 H d``, halved if causal."""
        attention, work = self.attention, self.workload
        pairs = work.global_batch * float(work.seq_len) ** 2 / (2.0 if self.causal else 1.0)
        return 4.0 * pairs * attention.heads * attention.head_dim * FORWARDS[self.passes]


def attention_job(row: Row) -> AttentionJob:
    """Return what a row of attention alone runs.

    Raises
    ------
    UnexpressedError
        If that is not modelled, or not stated.
    """
    method, said = row.text("method"), " ".join(map(row.text, ("method", "locator", "notes")))
    for pattern, reason in UNMODELLED:
        if re.search(pattern, method, re.IGNORECASE):
            raise UnexpressedError(reason)
    if row.text("causal") not in ("0", "1"):
        raise UnexpressedError(f"mask not expressed: {row.text('causal')[:40] or 'none stated'}")
    if _PACKED.search(said):
        raise UnexpressedError("lengths of the documents of packed sequences are not stated")
    if row.text("pass") not in FORWARDS:
        raise UnexpressedError(f"pass not expressed: {row.text('pass')[:40]}")
    causal, order = row.text("causal") == "1", row.text("seq_layout")
    ideal = method.startswith("ideal")
    gathers, casts = bool(_GATHERS.search(method)), bool(_CASTS.search(method))
    ulysses, ring = (1, 1) if ideal else degrees(row)
    contiguous = not causal or order in ("contiguous", "striped", "na")
    layout = Layout(
        ulysses=ulysses,
        ring=ring,
        micro_batch=row.count("global_batch", 1),
        sequence_order=SequenceOrder.CONTIGUOUS if contiguous else SequenceOrder.ZIGZAG,
        cp_method=CpMethod.ALL_GATHER if gathers else CpMethod.P2P,
        # Rings are loops in Python; gathered keys and values are attended to at once.
        kernels=Kernels.FUSED if gathers or casts else Kernels.EAGER,
    )
    heads = row.count("heads")
    return AttentionJob(
        attention=Attention(
            heads=heads,
            kv_heads=row.count("kv_heads", heads),
            head_dim=row.count("head_dim"),
        ),
        workload=Workload(seq_len=row.count("seq_len"), global_batch=layout.micro_batch),
        cluster=machine_of(row),
        layout=layout,
        causal=causal,
        striped=causal and order == "striped",
        passes=row.text("pass"),
        over=row.count("gpus") if ideal else 1,
        newest=bool(_NEWEST.search(said)),
    )


def degrees(row: Row) -> tuple[int, int]:
    """Return the Ulysses and ring degrees of a row.

    Where it does not state both, its method's name says which axis has all ranks: one sequence over
    all of them is what every ring has, dynamic ones (DCP) included.

    Raises
    ------
    UnexpressedError
        If they cannot be told.
    """
    stated = [row.text(name) for name in ("ulysses", "ring")]
    if all(text.isdigit() for text in stated):
        return row.count("ulysses"), row.count("ring")
    ranks, method = row.count("cp", row.count("gpus")), row.text("method").lower()
    if "ulysses" in method:
        return ranks, 1
    if any(word in method for word in ("ring", "gather", "dcp", "cp", "magi")):
        return 1, ranks
    raise UnexpressedError(f"degrees of {method[:40]} are not stated")
