"""What tables call the accelerators of the catalogue."""

from __future__ import annotations

#: By catalogue name.
LABELS: dict[str, tuple[str, ...]] = {
    "a100-sxm-80gb": ("a100_sxm", "a100", "NVIDIAA100-SXM4-80GB", "A100 80GB SXM4"),
    "a100-pcie-80gb": ("a100_pcie",),
    "h100-sxm": ("h100_sxm", "h100", "H100 80GB SXM5"),
    "h200-sxm": ("h200_sxm",),
    "h800-sxm": ("h800",),
    "h20-sxm": ("h20",),
    "gh200": ("NVIDIAGH200120GB",),
    "b200-sxm": ("b200_sxm", "b200", "b200_bf16_ceperm"),
    "gb200": ("gb200",),
}


def is_of(label: str, device: str) -> bool:
    """Return whether a table's label stands for an accelerator, or is its catalogue name.

    >>> is_of("b200", "b200-sxm"), is_of("gb200", "b200-sxm")
    (True, False)
    """
    known = {each.lower() for each in (device, *LABELS.get(device, ()))}
    return label.lower() in known


def in_file_name(name: str, device: str) -> bool:
    """Return whether a file's name ends in a label of the accelerator.

    >>> in_file_name("gemm_bf16_gb200", "b200-sxm"), in_file_name("gemm_bf16_gb200", "gb200")
    (False, True)
    """
    return any(f"_{name}".lower().endswith(f"_{each}".lower()) for each in LABELS.get(device, ()))
