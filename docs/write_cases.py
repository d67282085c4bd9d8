"""Rewrite the README's worked cases from the program's own output: ``make picture``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
PLAN_70B = (
    "plan llama-3.1-70b --cluster h100-dgx:32 --seq-len 256k --global-batch 64 --top 3 "
    "--beside tp=4,ulysses=4,pp=2,dp=8,recompute=full"
)
PLAN_405B = (
    "plan llama-3.1-405b --cluster meta-24k:2048 --seq-len 131072 --global-batch 128 --tp 8 "
    "--ring 16 --pp 16 --dp 8 --cp-method all_gather --framework unrestricted --json -"
)
PLAN_8B = "plan llama-3.1-8b --cluster h100-dgx:8 --seq-len 4k --global-batch 512 --top 3"
PUBLISHED_TFLOPS = 380.0


def main() -> None:
    """Fill every marked case."""
    text = README.read_text(encoding="utf-8")
    text = _filled(text, "70b", _block(_meshwright(PLAN_70B)))
    text = _filled(text, "405b", _published())
    text = _filled(text, "8b", _block(_meshwright(PLAN_8B)))
    text = _filled(text, "links", _block(_links()))
    benchmarks = ("layouts_per_second", "cluster_scale", "event_clock")
    bench = [_run([sys.executable, "-m", f"benchmarks.{name}"]) for name in benchmarks]
    text = _filled(text, "bench", _block("\n".join(bench)))
    README.write_text(text, encoding="utf-8")


def _links() -> str:
    """Write the output of every example beside it, and return that of links."""
    for output in sorted((README.parent / "examples").glob("*.txt")):
        found = _run([sys.executable, "-m", f"examples.{output.stem}"])
        output.write_text(f"{found}\n", encoding="utf-8")
    return (README.parent / "examples" / "links_decide.txt").read_text(encoding="utf-8").rstrip()


def _published() -> str:
    """Return the 405B case as a table of the published run beside the prediction."""
    import json

    best = json.loads(_meshwright(PLAN_405B))["plans"][0]
    causal, peak_share = best["tflops_per_gpu"], best["mfu"]
    full = causal * best["mfu_full_attention"] / peak_share
    low, high = (causal * best["step_time_s"] / bound for bound in reversed(best["interval_s"]))
    layout = best["layout"]
    rows = [
        "| | TFLOP/s per GPU | MFU | against 380 |",
        "| --- | --- | --- | --- |",
        f"| published | {PUBLISHED_TFLOPS:.0f} | 38% | |",
        f"| predicted, causal attention as half | {causal:.0f} ({low:.0f} to {high:.0f}) | "
        f"{peak_share:.1%} | {causal / PUBLISHED_TFLOPS - 1:+.0%} |",
        f"| predicted, attention unmasked | {full:.0f} | {best['mfu_full_attention']:.1%} | "
        f"{full / PUBLISHED_TFLOPS - 1:+.0%} |",
        "",
        f"Taken: {layout['vp']} chunks per rank, {layout['stage_split']} stages, ZeRO-"
        f"{layout['zero']}, recomputation {layout['recompute']}"
        f"{', layers ' + str(layout['recompute_layers']) if layout['recompute_layers'] else ''}; "
        f"{best['memory_bytes']['total'] / 2**30:.1f} GiB of "
        f"{best['capacity_bytes'] / 2**30:.1f}, bubble {best['bubble_fraction']:.0%}, exposed "
        f"communication {best['exposed_communication_s'] / best['step_time_s']:.0%} of the step.",
    ]
    return "\n".join(rows)


def _meshwright(arguments: str) -> str:
    return _run([str(Path(sys.executable).parent / "meshwright"), *arguments.split()])


def _run(command: list[str]) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


def _block(text: str) -> str:
    return f"```text\n{text}\n```"


def _filled(text: str, name: str, body: str) -> str:
    pattern = rf"(<!-- case: {name} -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda found: f"{found[1]}{body}\n{found[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    main()
