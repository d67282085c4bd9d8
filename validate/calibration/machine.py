"""The machine that measures: what it is, and in which state."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from topologies.catalogue import accelerator_of_device

#: The accelerator that one process on a CPU is.
CORE = "cpu-core"
#: Modules whose text decides what is measured and how.
KERNELS = ("kernels", "calibration")
_SMI = ("driver_version", "clocks.sm", "clocks.mem", "power.draw", "temperature.gpu",
        "clocks_throttle_reasons.active")  # fmt: skip


def device_name(device: str) -> str:
    """Return what the device calls itself."""
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def accelerator_name(device: str) -> str | None:
    """Return the device's name in the catalogue; None if nothing there is called so."""
    return CORE if device == "cpu" else accelerator_of_device(device_name(device))


def kernels_digest() -> str:
    """Return a digest of the kernels and of how they are measured."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for folder in KERNELS:
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def identity(device: str, world: int, seed: int, cluster: str | None) -> dict[str, Any]:
    """Return what two runs must share for their measurements to go together."""
    return {
        "device": device_name(device),
        "kind": device,
        "torch": torch.__version__,
        "world": world,
        "seed": seed,
        "cluster": cluster,
        "kernels": kernels_digest(),
        "attention": f"flash attention of torch's aten on {device}",
    }


def state(device: str) -> dict[str, Any]:
    """Return what may differ from one hour to the next."""
    found: dict[str, Any] = {"date": datetime.now(UTC).isoformat(timespec="seconds")}
    if device == "cuda":
        return found | {"nvidia_smi": _nvidia_smi()}
    return found | {"load": list(os.getloadavg())}


def properties(device: str) -> dict[str, Any]:
    """Return what of the device and its libraries decides how fast it is."""
    common = {"python": platform.python_version(), "cores": os.cpu_count()}
    if device == "cpu":
        return common | {"capability": torch.backends.cpu.get_cpu_capability(), "threads": 1}
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    return common | {
        "capability": f"{found.major}.{found.minor}",
        "sms": found.multi_processor_count,
        "mem_bytes": found.total_memory,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),
    }


def _nvidia_smi() -> dict[str, str] | None:
    """Return the driver's figures of this device; None where its tool is not there."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    found = subprocess.run(
        [tool, f"--query-gpu={','.join(_SMI)}", "--format=csv,noheader", f"--id={_number()}"],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    if found.returncode != 0:
        return {"error": found.stderr.strip() or found.stdout.strip()}
    return dict(zip(_SMI, (each.strip() for each in found.stdout.split(",")), strict=False))


def _number() -> str:
    """Return the device's number as the driver counts, whatever this process may see of it."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    current = torch.cuda.current_device()
    return seen.split(",")[current] if seen else str(current)
