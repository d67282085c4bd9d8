"""One thing to measure, by name and numbers, so that files and processes can pass it on."""

from __future__ import annotations

from dataclasses import dataclass

Value = int | float | str | bool


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to measure.

    Parameters
    ----------
    kind
        Which fit it is for: ``gemm``, ``attention``, ``memory`` and so on.
    args
        Its numbers, by name.
    """

    kind: str
    args: tuple[tuple[str, Value], ...]

    @classmethod
    def of(cls, kind: str, **args: Value) -> Item:
        """Return an item of its numbers."""
        return cls(kind, tuple(args.items()))

    def number(self, name: str) -> int:
        """Return one of its whole numbers."""
        return int(self[name])

    def __getitem__(self, name: str) -> Value:
        return dict(self.args)[name]

    def __str__(self) -> str:
        return f"{self.kind} " + " ".join(f"{name}={value}" for name, value in self.args)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large things are on a kind of device: what fits it, and what it is used for.

    Parameters
    ----------
    rows
        Tokens of matrix products.
    weights
        Columns and depth of their weights.
    tokens
        Of attention, on one rank.
    heads
        Query heads, key/value heads and width.
    elements
        Of what only moves memory.
    message_bytes
        Of collectives.
    blocks
        Of held-out decoder layers: hidden, heads, kv_heads, mlp, tokens of a rank.
    burst_s
        How long one sample takes at least.
    """

    rows: tuple[int, ...]
    weights: tuple[tuple[int, int], ...]
    tokens: tuple[int, ...]
    heads: tuple[tuple[int, int, int], ...]
    elements: tuple[int, ...]
    message_bytes: tuple[int, ...]
    blocks: tuple[tuple[int, int, int, int, int], ...]
    burst_s: float


#: What two cores do in a minute; no shape of a held-out block is among the others.
CPU = Scale(
    rows=(128, 512, 2048),
    weights=((256, 256), (512, 512), (1024, 1024), (1536, 512), (512, 1536), (128, 512)),
    tokens=(256, 512, 1024, 1536),
    heads=((4, 1, 64), (4, 2, 128), (2, 2, 32)),
    elements=(2**15, 2**17, 2**19, 2**21),
    message_bytes=tuple(2**power for power in range(12, 23)),
    blocks=(
        (384, 6, 2, 1024, 768),
        (640, 10, 2, 1792, 384),
        (768, 6, 2, 2048, 576),
        (512, 8, 4, 1408, 640),
    ),
    burst_s=0.008,
)
#: Llama 3 8B and slices of it and of 70B, up to 16k tokens.
CUDA = Scale(
    rows=(1, 16, 128, 512, 2048, 4096, 8192, 16384),
    weights=(
        (6144, 4096),
        (4096, 4096),
        (28672, 4096),
        (4096, 14336),
        (768, 4096),
        (4096, 1792),
        (7168, 8192),
        (16032, 4096),
    ),
    tokens=(512, 1024, 2048, 4096, 8192, 16384),
    heads=((32, 8, 128), (4, 1, 128), (8, 8, 128), (32, 32, 64)),
    elements=(2**20, 2**22, 2**24, 2**26, 2**28),
    message_bytes=tuple(2**power for power in range(16, 31)),
    blocks=(
        (4096, 32, 8, 14336, 5120),
        (3072, 24, 8, 8192, 12288),
        (5120, 40, 8, 17408, 3072),
        (2048, 32, 8, 8192, 24576),
    ),
    burst_s=0.005,
)
SCALES = {"cpu": CPU, "cuda": CUDA}
