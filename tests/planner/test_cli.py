"""The command line as users meet it: answers, files, and one message for each wrong input."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

JOB = ["--cluster", "h100-dgx", "--seq-len", "8k", "--global-batch", "16"]
PLAN_KEYS = {
    "layout",
    "precision",
    "states",
    "routing",
    "packed_len",
    "placement",
    "step_time_s",
    "stage_layers",
    "event_step_time_s",
    "interval_s",
    "tokens_per_s_per_gpu",
    "tflops_per_gpu",
    "mfu",
    "mfu_full_attention",
    "fits",
    "chance_to_fit",
    "memory_bytes",
    "memory_sums_bytes",
    "memory_interval_bytes",
    "memory_least_bytes",
    "memory_stage",
    "capacity_bytes",
    "time_s",
    "exposed_communication_s",
    "bubble_fraction",
    "runs_in",
    "cost_usd_per_step",
    "cost_usd_per_1e12_tokens",
    "energy_J_per_step",
    "energy_J_per_1e12_tokens",
    "provenance",
}


#: As few layers on the heaviest stage as can be.
BALANCED = ("--stage-split", "balanced")


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from planner.cli import main; main()", *arguments]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        command, cwd=cwd or root, env=environment, capture_output=True, text=True, check=False
    )


def refused(*arguments: str, cwd: Path | None = None) -> list[str]:
    """Return the lines of a refusal, having checked that it is one."""
    done = run(*arguments, cwd=cwd)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert all(": " in line for line in lines)
    return lines


def test_help_imports_nothing_heavy():
    script = (
        "import sys; sys.argv = ['meshwright', '--help']\n"
        "from planner.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'scipy', 'networkx', 'pydantic', 'yaml', 'torch', 'streamlit'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for command in ("plan", "estimate", "sweep", "models", "topologies"):
        assert command in done.stdout


def test_a_plan_imports_neither_torch_nor_transformers():
    script = (
        "import sys; from planner import plan\n"
        "plan('llama-3.1-8b', 'h100-dgx', seq_len='8k', global_batch=16)\n"
        "sys.exit(', '.join({'torch', 'streamlit', 'scipy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_plan_prints_a_ranking_and_what_binds():
    done = run("plan", "llama-3.1-8b", *JOB)
    assert done.returncode == 0, done.stderr
    for words in ("tokens/s/GPU", "GiB/rank", "bubble", "runs in", "layouts legal", "What binds"):
        assert words in done.stdout


def test_plan_json_has_the_documented_keys_and_is_the_same_twice(tmp_path):
    file = tmp_path / "plan.json"
    assert run("plan", "llama-3.1-8b", *JOB, "--json", str(file)).returncode == 0
    answer = json.loads(file.read_text())
    assert set(answer) == {"job", "plans", "search", "notes", "smallest", "beside"}
    assert set(answer["search"]) == {"legal", "fit", "costed", "seconds"}
    for plan in answer["plans"]:
        assert set(plan) == PLAN_KEYS
        assert sum(plan["time_s"].values()) == pytest.approx(plan["step_time_s"])
        lines = {k: v for k, v in plan["memory_bytes"].items() if k != "total"}
        assert sum(lines.values()) == pytest.approx(plan["memory_bytes"]["total"])
        assert plan["interval_s"][0] < plan["step_time_s"] < plan["interval_s"][1]
    steps = [plan["step_time_s"] for plan in answer["plans"]]
    assert steps == sorted(steps)
    again = json.loads(run("plan", "llama-3.1-8b", *JOB, "--json", "-").stdout)
    assert again["plans"] == answer["plans"]
    assert list(tmp_path.iterdir()) == [file]


def test_readme_documents_every_json_key():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert [key for key in PLAN_KEYS if f"`{key}`" not in readme] == []


def test_estimate_json_is_one_plan():
    done = run("estimate", "llama-3.1-8b", *JOB, "--tp", "2", "--json", "-")
    plan = json.loads(done.stdout)
    assert set(plan) == PLAN_KEYS | {"job"}
    assert (plan["layout"]["tp"], plan["layout"]["dp"], plan["layout"]["tp_sp"]) == (2, 4, True)


def test_a_double_ring_is_said_to_be_one_and_why_it_runs_nowhere():
    done = run("estimate", "llama-3.1-8b", *JOB, "--ring", "8", "--inner-ring", "4")
    assert done.returncode == 0, done.stderr
    assert "inner-ring 4" in done.stdout
    assert "megatron: no double ring" in done.stdout
    flat = run("estimate", "llama-3.1-8b", *JOB, "--ring", "8")
    assert "inner-ring" not in flat.stdout


def test_estimate_shows_time_memory_and_what_is_assumed():
    done = run("estimate", "llama-3.1-8b", *JOB, "--tp", "2", "--cp", "2")
    assert done.returncode == 0, done.stderr
    for words in (
        "one step goes into",
        "memory of pipeline rank",
        "in all",
        "Assumed, not measured",
    ):
        assert words in done.stdout


def test_estimate_says_how_many_layers_unequal_stages_hold():
    job = ["--cluster", "h100-dgx:2", "--seq-len", "4k", "--global-batch", "16", "--tp", "2"]
    shown = run("estimate", "llama-3.1-8b", *job, "--pp", "4", "--vp", "3", *BALANCED).stdout
    assert "Layers per stage, first to last: 2 x 2, 9 x 3, 1\n" in shown
    even = run("estimate", "llama-3.1-8b", *job, "--pp", "4", "--vp", "2").stdout
    assert "Layers per stage" not in even


def test_estimate_says_what_is_packed():
    whole, packed = (
        run("estimate", "llama-3.1-8b", *JOB, "--tp", "8", *more).stdout
        for more in ([], ["--packed-len", "1k"])
    )
    assert ", packed of sequences of 1k tokens" in packed
    assert "packed of" not in whole


def test_beside_sets_a_layout_beside_the_best():
    done = run("plan", "llama-3.1-8b", *JOB, "--beside", "tp=8,recompute=full")
    assert done.returncode == 0, done.stderr
    assert "times as long as the first" in done.stdout


def test_sweep_writes_a_table_and_a_figure(tmp_path):
    csv, svg, points = tmp_path / "s.csv", tmp_path / "s.svg", tmp_path / "s.json"
    files = ["--csv", str(csv), "--figure", str(svg), "--json", str(points)]
    job = ["--cluster", "h100-dgx", "--seq-len", "4k,8k", "--global-batch", "16"]
    done = run("sweep", "llama-3.2-1b", *job, *files)
    assert done.returncode == 0, done.stderr
    rows = csv.read_text().splitlines()
    assert rows[0].startswith("seq_len,gpus,global_batch,network,method,best,step_time_s")
    assert {row.split(",")[4] for row in rows[1:]} >= {"none", "ulysses", "ring", "hybrid"}
    assert svg.read_text().startswith("<svg")
    assert [point["seq_len"] for point in json.loads(points.read_text())["points"]] == [4096, 8192]


def test_lists_name_every_catalogue_entry():
    from models import model_names
    from topologies import cluster_names

    models = json.loads(run("models", "list", "--json", "-").stdout)["models"]
    assert tuple(row["name"] for row in models) == model_names()
    params = {row["name"]: row["parameters"] for row in models}
    assert params["llama-3.1-8b"] == 8_030_261_248
    assert "8.03 B" in run("models", "list").stdout
    assert "nvlink 450 GB/s over 8" in run("topologies", "list").stdout
    clusters = json.loads(run("topologies", "list", "--json", "-").stdout)["topologies"]
    assert tuple(row["name"] for row in clusters) == cluster_names()


def test_shows_say_where_figures_come_from():
    shown = json.loads(run("topologies", "show", "h100-dgx:2", "--json", "-").stdout)
    assert all(row["source"] and row["kind"] for row in shown["figures"])
    figures = {row["figure"]: row["value"] for row in shown["figures"]}
    assert (figures["hbm_bytes"], figures["infiniband Bps"]) == (80 * 2**30, 50e9)
    assert (shown["inner"]["Bps"], shown["inner"]["spans"]) == (450e9, 8)
    written = " ".join(run("topologies", "show", "h100-dgx:2").stdout.split())
    assert "hbm_bytes 80 GiB spec" in written
    assert "infiniband Bps 50 GB/s spec" in written
    assert "nvlink latency_s 0.761 us fitted" in written
    assert "source:" in run("models", "show", "llama-3.1-8b").stdout


def test_models_are_shown_layer_kind_by_layer_kind():
    shown = run("models", "show", "deepseek-v3").stdout
    for words in ("of which a token uses 37,552,282,624", "multi-token prediction", "in 1 layer"):
        assert words in shown
    answer = json.loads(run("models", "show", "nemotron-h-8b", "--json", "-").stdout)
    assert (answer["heads"], answer["kv_heads"], answer["experts"]) == (32, 8, None)
    kinds = [(kind["layers"], kind["mixer"], kind["mlp"]) for kind in answer["kinds"]]
    types = {(n, mixer and mixer["type"], mlp and mlp["type"]) for n, mixer, mlp in kinds}
    assert types == {(24, "Mamba2", None), (24, None, "Mlp"), (4, "Attention", None)}


@pytest.mark.parametrize(
    ("request_", "field", "mend"),
    [
        (["gemma-3-27b", "--seq-len", "512"], "--seq-len = 512", "windows of 1,024 tokens"),
        (["deepseek-v3", "--seq-len", "4k", "--predict-depth", "2"], "--predict-depth = 2", "to 1"),
        (
            ["llama-3.1-8b", "--seq-len", "4k", "--expert-skew", "0.2"],
            "--expert-skew",
            "no experts",
        ),
        (["mixtral-8x7b", "--seq-len", "4k", "--expert-skew", "9"], "--expert-skew = 9", "to 4"),
        (["mixtral-8x7b", "--seq-len", "4k", "--ep", "3"], "--ep = 3", "divide the 8 experts"),
        (["llama-3.1-8b", "--seq-len", "8k", "--ep", "2"], "--ep = 2", "the model has no experts"),
    ],
)
def test_models_refuse_what_they_do_not_have(request_, field, mend):
    line, *_ = refused("plan", *request_, "--cluster", "h100-dgx", "--global-batch", "8")
    assert line.startswith(field)
    assert mend in line


def test_all_problems_of_a_request_come_at_once():
    request = ["plan", "lama-3.1-8b", "--cluster", "h100dgx", "--seq-len", "0"]
    lines = refused(*request, "--global-batch", "-3", "--gpus", "x")
    fields = [line.split(" = ")[0] for line in lines]
    assert fields == ["--seq-len", "--global-batch", "--gpus", "MODEL", "--cluster"]
    assert "did you mean llama-3.1-8b" in lines[3]
    assert "did you mean h100-dgx" in lines[4]


@pytest.mark.parametrize(
    ("flags", "field", "mend"),
    [
        (["--gpus", "7"], "--gpus = 7", "divisor of 8 or whole nodes"),
        (["--gpus", "999999992"], "--gpus", "ends at"),
        (["--tp", "3"], "--tp = 3", "divide the 32 attention heads"),
        (["--tp", "4..2"], "--tp = 4..2", "goes up: 2..4"),
        (["--zero", "7"], "--zero = 7", "from 0 to 3"),
        (["--schedule", "zigzag"], "--schedule = zigzag", "one of gpipe, 1f1b, interleaved"),
        (["--framework", "megatorn"], "--framework = megatorn", "did you mean megatron"),
        (["--precision", "fp4"], "--precision = fp4", "bf16"),
        (["--task", "serve"], "--task = serve", "train"),
        (["--beside", "tp4"], "--beside = tp4", "tp=4,ulysses=4"),
        (["--json", "/no/such/folder/x.json"], "--json = /no/such", "no folder /no/such/folder"),
        (["--tp", "4", "--ulysses", "4", "--dp", "1"], "--dp = 1", "the cluster has 8"),
        (["--tp", "9" * 5000], "--tp = 9", "a whole number from 1"),
        (["--seq-len", "４k"], "--seq-len", "a whole number above zero"),
        (["--seq-len", "4095", "--cp", "2..8"], "--cp = 2..8", "pad to 4096 tokens"),
        (["--seq-len", "4095", "--ring", "8"], "--ring = 8", "pad to 4096 tokens"),
        (["--tp", "1", "--tp-sp", "on"], "--tp-sp", "--tp 2 or more"),
        (["--inner-ring", "2"], "--framework = any", "no double ring"),
        (["--ring", "8", "--inner-ring", "3"], "--inner-ring = 3", "must divide ring"),
        (["--beside", "tp=2,tp=4"], "--beside", "give tp once"),
        (["--json", ""], "--json = ''", "the name of a file"),
        (["--json", "/"], "--json = /", "Is a directory"),
    ],
)
def test_wrong_flags_name_field_value_and_mend(flags, field, mend):
    lines = refused("plan", "llama-3.1-8b", *JOB, *flags)
    assert any(field in line and mend in line for line in lines), lines


def test_a_sequence_that_no_ring_divides_still_has_a_plan_and_a_sweep():
    odd = ["--cluster", "h100-dgx", "--global-batch", "8"]
    assert run("plan", "llama-3.2-1b", *odd, "--seq-len", "4095").returncode == 0
    done = run("sweep", "llama-3.2-1b", *odd, "--seq-len", "4095,4k")
    assert done.returncode == 0, done.stderr


def test_a_sweep_without_a_legal_point_says_why():
    lines = refused("sweep", "llama-3.1-8b", *JOB, "--tp", "3")
    assert any(line.startswith("--tp = 3: must divide the 32") for line in lines)


def test_problems_of_job_pins_and_words_come_together():
    wrong = ["--tp", "x", "--framework", "zz", "--task", "q", "--beside", "tp"]
    lines = refused("plan", "llama-3.1-8b", "--cluster", "no", *JOB[2:], *wrong)
    fields = [line.split(" = ")[0] for line in lines]
    assert fields == ["--cluster", "--tp", "--task", "--framework", "--beside"]


def test_devices_are_written_to_and_links_followed(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    done = run("plan", "llama-3.1-8b", *JOB, "--json", str(tmp_path / "link.json"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["plans"]
    assert run("plan", "llama-3.1-8b", *JOB, "--json", os.devnull).returncode == 0
    assert not Path(os.devnull).is_file()


def test_a_reader_who_has_seen_enough_is_no_error():
    script = "from planner.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", script, "topologies", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as listing:
        listing.stdout.close()
        assert listing.stderr.read() == b""
        assert listing.wait() == 0


def test_an_interrupted_sweep_says_so_and_leaves_no_file(tmp_path):
    # A shell's background jobs start with the interrupt ignored, and hand that on.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    script = f"{heard}; from planner.cli import main; print('ready', flush=True); main()"
    lengths = ",".join(f"{2**k}k" for k in range(2, 18))
    job = ["--cluster", "h100-dgx:8", "--seq-len", lengths, "--global-batch", "64"]
    sweep = subprocess.Popen(
        [sys.executable, "-c", script, "sweep", "llama-3.1-8b", *job, "--csv", "s.csv"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert sweep.stdout.readline() == b"ready\n"
    # Python drops an interrupt that lands in a destructor or a callback: people press again.
    while sweep.poll() is None:
        time.sleep(1.0)
        sweep.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            sweep.wait(2.0)
    _, errors = sweep.communicate()
    assert sweep.returncode == 130
    assert errors.decode().strip() == "Stopped."
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_layout_gets_a_sentence_for_every_rule_it_breaks():
    job = ["--cluster", "h100-dgx:2", "--seq-len", "10001", "--global-batch", "16"]
    lines = refused("estimate", "llama-3.1-70b", *job, "--tp", "3", "--ring", "2")
    assert any(line.startswith("--tp = 3") for line in lines)
    assert any("pad to 10004 tokens" in line for line in lines)


def test_wrong_files_are_refused_by_name(tmp_path):
    (tmp_path / "typo.yaml").write_text("name: x\ntitle: y\naccelerator: h100-sxm\nteirs: []\n")
    (tmp_path / "broken.yaml").write_text("a: [1\nb: :")
    (tmp_path / "noise.yaml").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "short.json").write_text('{"model_type": "llama", "hidden_size": 4096}')
    (tmp_path / "bert.json").write_text('{"model_type": "bert"}')
    job = ["--seq-len", "8k", "--global-batch", "16"]

    def cluster(name: str) -> str:
        return "\n".join(refused("plan", "llama-3.1-8b", "--cluster", name, *job, cwd=tmp_path))

    assert "did you mean tiers" in cluster("typo.yaml")
    assert "not YAML (line 2)" in cluster("broken.yaml")
    assert "not a text file" in cluster("noise.yaml")
    assert "No such file" in cluster("absent.yaml")
    missing = refused("plan", "short.json", "--cluster", "h100-dgx", *job, cwd=tmp_path)
    assert any("num_hidden_layers" in line and "required" in line for line in missing)
    other = refused("plan", "bert.json", "--cluster", "h100-dgx", *job, cwd=tmp_path)
    assert "model_type = bert" in other[0]


def test_a_config_file_plans_like_its_catalogue_entry(tmp_path):
    from models.catalogue import CONFIGS

    (tmp_path / "config.json").write_text((CONFIGS / "llama-3.1-8b.json").read_text())
    own = run("plan", str(tmp_path), *JOB, "--json", "-")
    named = run("plan", "llama-3.1-8b", *JOB, "--json", "-")
    assert json.loads(own.stdout)["plans"] == json.loads(named.stdout)["plans"]


def test_that_nothing_fits_is_an_answer():
    job = ["--cluster", "h100-dgx", "--seq-len", "512k", "--global-batch", "8"]
    done = run("plan", "llama-3.1-70b", *job)
    assert done.returncode == 0, done.stderr
    assert "Nothing fits" in done.stdout
    assert "What binds is" in done.stdout
    assert "It fits on" in done.stdout
