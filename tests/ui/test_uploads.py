"""Files that users give: read as the catalogue's are, and refused with a mend when they are bad."""

import json

import pytest
import yaml

from models.catalogue import CONFIGS
from topologies.catalogue import DATA, load_cluster
from topologies.errors import SpecError
from ui.question import Document, Question
from ui.scenarios import scenarios
from ui.uploads import (
    LARGEST_BYTES,
    architecture_of,
    cluster_of,
    edited,
    parse_edits,
    received,
)

CONFIG = (CONFIGS / "llama-3.1-8b.json").read_text()
CLUSTER = (DATA / "clusters" / "h100-dgx.yaml").read_text()


def test_a_config_is_the_catalogues_model():
    own = architecture_of(Document("my <b>model</b>.json", CONFIG))
    known = scenarios(Question(model="llama-3.1-8b", gpus="64"))[0].architecture
    assert own.params == known.params
    assert own.layers == known.layers


def test_a_cluster_file_is_the_catalogues_cluster():
    assert cluster_of(Document("mine.yaml", CLUSTER)).tiers == load_cluster("h100-dgx").tiers


@pytest.mark.parametrize(
    ("content", "mend"),
    [
        (b"\xff\xfe\x00", "not a text file"),
        (b"   \n", "empty"),
        (b"x" * (LARGEST_BYTES["model"] + 1), "at most"),
    ],
)
def test_what_is_no_description_is_refused(content, mend):
    with pytest.raises(SpecError, match=mend):
        received("model", "config.json", content)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "null", '{"architectures": 5}', "[" * 100_000, '{"model_type": "llama"}'],
)
def test_a_bad_config_names_its_file_and_no_path(text):
    with pytest.raises(SpecError) as error:
        architecture_of(Document("config.json", text))
    assert "/tmp" not in str(error.value)
    assert "meshwright-" not in str(error.value)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "tiers: [" * 200,
        "name: x\nname: y",
        "name: x",
        "- a",
        "!!python/object/apply:os.system ['true']",
        "parts: 7",
    ],
)
def test_a_bad_cluster_is_refused_quickly(text):
    with pytest.raises(SpecError):
        cluster_of(Document("c.yaml", text))


@pytest.mark.parametrize("named", ["/etc/passwd", "../../x.yaml", "other.yml", "a.yaml:4"])
def test_an_uploaded_mix_reads_no_file_of_the_server(named):
    content = {"name": "m", "title": "m", "parts": [{"cluster": named, "nodes": 1}], "tiers": []}
    with pytest.raises(SpecError, match="catalogue"):
        cluster_of(Document("mix.yaml", yaml.safe_dump(content)))


@pytest.mark.parametrize("name", ["/etc/passwd", "./x.yaml", "h100-dgx.yaml", "../config.json"])
def test_a_link_reads_no_file_of_the_server(name):
    with pytest.raises(SpecError, match="not in the catalogue"):
        scenarios(Question(model=name))
    with pytest.raises(SpecError, match="not in the catalogue"):
        scenarios(Question(cluster=name))


def test_a_changed_link_changes_that_link_alone_and_says_so():
    own = cluster_of(edited("h100-dgx", parse_edits("infiniband.GBps=25")))
    known = load_cluster("h100-dgx")
    assert own.tiers[0] == known.tiers[0]
    assert own.tiers[1].Bps.value == known.tiers[1].Bps.value / 2
    assert own.tiers[1].Bps.kind == "assumed"
    slow, fast = (
        scenarios(Question(model="llama-3.1-8b", gpus="64", edits=edits))[0].cluster.tiers[1].Bps
        for edits in ("infiniband.GBps=25", "")
    )
    assert slow.value == fast.value / 2


@pytest.mark.parametrize(
    "edits", ["x.GBps=1", "infiniband.colour=1", "infiniband.GBps=x", "infiniband.GBps=-3"]
)
def test_edits_that_cannot_be_are_refused(edits):
    with pytest.raises(SpecError):
        scenarios(Question(edits=edits))


def test_names_of_files_are_shown_without_tricks():
    shown = received("model", "a\x1b[31m\u202e" + "x" * 300 + ".json", CONFIG.encode()).name
    assert shown.isprintable()
    assert len(shown) <= 80


def test_a_profile_of_another_device_is_refused():
    text = json.dumps({"schema": "sp-profile/1"})
    with pytest.raises(SpecError) as error:
        scenarios(Question(own_profile=Document("p.json", text)))
    assert "p.json" in str(error.value)
