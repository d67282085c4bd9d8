"""Every page's inputs, errors and tables, without a browser."""

import json
import logging
import random
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from models.model_states import GRADIENT_DTYPES, KEPT_GRADIENTS
from planner import plan
from tests.ui import apptest
from topologies.catalogue import DATA
from ui.permalink import to_query
from ui.question import Document, Question, State

ROOT = Path(__file__).parent.parent.parent
SMALL = Question(
    model="llama-3.2-1b", gpus="8", seq_len="8k", global_batch="8", pins="kernels=fused"
)
PIPED = Question(model="llama-3.1-8b", gpus="32", seq_len="8k", global_batch="64")
LAYOUT = "dp=4,tp=2,pp=4"


def page(name):
    from importlib import import_module

    from ui.frame import guarded

    with guarded():
        import_module(f"ui.{name}").show()


def opened(name, state, seconds=60.0):
    """Return a page as a link opens it, once nothing it started runs any more."""
    at = apptest.of_function(page, name=name)
    for key, value in to_query(state).items():
        at.query_params[key] = value
    return settled(at.run(), seconds)


def settled(at, seconds=60.0):
    until = time.monotonic() + seconds
    while any(button.label == "Stop" for button in at.button):
        assert time.monotonic() < until, "still running"
        time.sleep(0.2)
        at.run()
    assert not at.exception, at.exception
    return at


def words(at):
    return " ".join(
        [
            each.value
            for kind in ("markdown", "error", "warning", "info", "caption")
            for each in at.get(kind)
        ]
    )


def press(at, label):
    next(button for button in at.button if button.label == label).click()
    return settled(at.run())


def column(at, place, name):
    return list(at.dataframe[place].value[name])


# ------------------------------------------------------------------------------------------- plan


def test_a_link_says_what_runs_the_job_and_what_is_packed():
    question = replace(SMALL, software="transformer-engine", packed_len="1k")
    at = opened("plan", State(question=question))
    said = "packed 1k, software transformer-engine, **kernels=fused**"
    assert f"Asked further: {said}" in words(at).replace("\\", "")
    layout = words(opened("layout", State(question=question))).replace("\\", "")
    assert f"tokens a step, bf16; {said}. Change it" in layout


def test_the_further_inputs_keep_their_place_whatever_they_say():
    """A label is part of what an expander is: another one would be closed and forget."""
    labels = set()
    for asked in ({}, {"software": "torch-fsdp"}, {"packed_len": "1k", "fit_chance": "0.9"}):
        at = opened("plan", State(question=replace(SMALL, **asked)))
        labels |= {each.label for each in at.expander if each.label.startswith("Pins")}
    assert len(labels) == 1


def test_plan_asks_then_ranks():
    at = opened("plan", State(question=SMALL))
    assert "Press" in words(at)
    press(at, "Search")
    metrics = {metric.label: metric.value for metric in at.metric}
    assert set(metrics) == {"legal layouts", "fit in memory", "costed", "searched in"}
    table = next(frame.value for frame in at.dataframe if "step, s" in frame.value)
    assert list(table["step, s"]) == sorted(table["step, s"])
    assert list(table["#"]) == list(range(1, len(table) + 1))
    assert table["unbeaten"].any()
    assert "What binds" in words(at)
    assert at.session_state["state"].searched


def test_a_link_searches_by_itself():
    at = opened("plan", State(question=SMALL, searched=True))
    assert any("step, s" in frame.value for frame in at.dataframe)
    assert at.text_input(at.text_input[0].key).value == "8"


def test_a_plan_is_chosen_from_the_list_without_a_pointer():
    at = opened("plan", State(question=SMALL, searched=True))
    chosen = next(each for each in at.selectbox if each.label == "Plan looked at")
    assert chosen.value == 0
    settled(chosen.select_index(3).run())
    table = next(frame.value for frame in at.dataframe if "step, s" in frame.value)
    degrees = {name: table[name][3] for name in ("dp", "tp") if name in table}
    layout = at.session_state["state"].layout
    assert all(f"{name}={value}" in layout.split(",") for name, value in degrees.items())
    again = opened("plan", at.session_state["state"])
    assert next(each for each in again.selectbox if each.label == "Plan looked at").value == 3


def test_changing_the_question_asks_again():
    at = opened("plan", State(question=SMALL, searched=True, layout="dp=8"))
    seq_len = next(each for each in at.text_input if each.label.startswith("Sequence length"))
    settled(seq_len.set_value("16k").run())
    state = at.session_state["state"]
    assert (state.question.seq_len, state.searched, state.layout) == ("16k", False, "")
    assert "Press" in words(at)


@pytest.mark.parametrize(
    ("wrong", "mend"),
    [
        ({"gpus": "x"}, "accelerators"),
        ({"gpus": "12"}, "accelerators a node"),
        ({"seq_len": "long"}, "sequence length"),
        ({"global_batch": "-1"}, "sequences per step"),
        ({"pins": "tp=999999999999999999999"}, "tp"),
        ({"pins": "colour=red"}, "no such axis"),
        ({"model": "lama"}, "did you mean"),
        ({"cluster": "h100_dgx"}, "did you mean"),
        ({"precision": "fp3"}, "one of"),
        ({"edits": "nvlink.GBps=fast"}, "tier"),
    ],
)
def test_what_cannot_be_is_said_with_its_mend(wrong, mend):
    fields = {"model": "llama-3.2-1b", "gpus": "8", "seq_len": "8k", "global_batch": "8"} | wrong
    at = opened("plan", State(question=Question(**fields), searched=True))
    assert at.error
    assert mend in " ".join(error.value for error in at.error).replace("\\", "")


def test_nothing_fits_is_an_answer():
    question = Question(
        model="llama-3.1-405b", gpus="8", seq_len="128k", global_batch="8", pins="kernels=fused"
    )
    at = opened("plan", State(question=question, searched=True))
    assert "Nothing fits" in words(at)
    assert "No layout fits" in words(at)


def test_presets_replace_the_question():
    at = opened("plan", State(question=SMALL))
    next(button for button in at.button if "1M tokens" in button.label).click()
    at.run()
    assert at.session_state["state"].question.seq_len == "1m"
    settled(at)
    assert any("step, s" in frame.value for frame in at.dataframe)


def test_links_with_unknown_words_say_so():
    at = apptest.of_function(page, name="plan")
    at.query_params["colour"] = "red"
    at.run()
    assert "not known here" in words(at)


def test_names_from_files_are_shown_as_words():
    name = "![x](http://evil.example/x.png)<script>.json"
    document = Document(name, '{"model_type": "llama"}')
    at = opened("plan", State(question=Question(own_model=document)))
    shown = " ".join(each.value for each in (*at.error, *at.markdown))
    assert "![x](" not in shown
    assert "<script>" not in shown.replace("\\<script\\>", "")


def test_a_file_too_long_for_a_link_is_asked_for_again():
    text = "# " + random.Random(0).randbytes(20_000).hex() + "\n"
    document = Document("mine.yaml", text + (DATA / "clusters" / "h100-dgx.yaml").read_text())
    state = State(question=Question(model="llama-3.2-1b", gpus="8", own_cluster=document))
    at = opened("plan", state)  # as its link opens it
    assert "mine.yaml" in words(at).replace("\\", "")
    assert document.digest in words(at)
    assert "give it again" in " ".join(each.value for each in at.error)
    next(each for each in at.button if each.label == "Do without it").click().run()
    assert at.session_state["state"].question.own_cluster is None
    assert not at.error


def test_another_file_than_the_links_is_told():
    at = apptest.of_function(given_another).run()
    assert not at.exception
    assert "is not the file that the link was made with" in words(at)


def given_another():
    from ui.file_input import note_another
    from ui.frame import link_notes
    from ui.question import Document
    from ui.session import current

    current()
    asked = Document("a.yaml", "", missing="0" * 16)
    note_another(None, Document("a.yaml", "x"))
    note_another(asked, Document("a.yaml", "x"))
    link_notes()


# ----------------------------------------------------------------------------------------- layout


def test_layout_shows_one_in_full_and_takes_another_value():
    at = opened("layout", State(question=PIPED, layout=LAYOUT))
    assert [metric.label for metric in at.metric][:2] == ["step time", "10th to 90th percentile"]
    before = at.session_state["state"].layout
    tp = next(each for each in at.segmented_control if each.label.startswith("Tensor"))
    settled(tp.set_value("4").run())
    after = at.session_state["state"].layout
    assert after != before
    assert "tp=4" in after
    assert "dp=2" in after


def test_layout_lists_what_is_refused_with_reasons():
    at = opened("layout", State(question=PIPED, layout=LAYOUT))
    refused = next(frame.value for frame in at.dataframe if "why not" in frame.value)
    assert len(refused) > 10
    assert all(refused["why not"])


def test_layout_compares_two_and_says_why():
    at = opened("layout", State(question=PIPED, layout=LAYOUT, beside="dp=32,zero=3"))
    assert "is faster: the slower one takes" in words(at)
    terms = next(frame.value for frame in at.dataframe if "term" in frame.value)
    assert "pipeline bubble" in list(terms["term"])


def test_layout_refuses_what_is_none():
    assert "not known" not in words(opened("layout", State(question=PIPED, beside="tp=3")))
    at = opened("layout", State(question=PIPED, layout="tp=5"))
    assert at.error
    at = opened("layout", State(question=PIPED, layout=LAYOUT, beside="nonsense"))
    assert at.error


def test_layout_reruns_within_300_ms():
    at = opened("layout", State(question=PIPED, layout=LAYOUT))
    at.run()
    assert at.session_state["workbench_ms"] < 300


# --------------------------------------------------------------------------------------- timeline


def test_timeline_plays_the_step():
    at = opened("timeline", State(question=PIPED, layout=LAYOUT, window="10-20"))
    labels = [metric.label for metric in at.metric]
    assert labels == ["event clock", "closed form", "exposed communication", "peak memory"]
    ranks = next(frame.value for frame in at.dataframe if "bubble, s" in frame.value)
    assert list(ranks["rank"]) == [0, 8, 16, 24]
    assert at.slider[0].value == (10.0, 20.0)
    at.slider[0].set_value((40.0, 45.0)).run()
    assert at.session_state["state"].window == "40-45"


def test_the_ranks_that_are_shown_are_in_the_link():
    at = opened("timeline", State(question=PIPED, layout=LAYOUT, ranks="1,3"))
    assert at.multiselect[0].value == [1, 3]
    at.multiselect[0].set_value([2]).run()
    assert at.session_state["state"].ranks == "2"
    at = opened("timeline", State(question=PIPED, layout=LAYOUT, ranks="77,x"))
    assert at.multiselect[0].value == [0, 1, 2, 3]


def test_a_window_that_is_none_is_the_whole_step():
    at = opened("timeline", State(question=PIPED, layout=LAYOUT, window="nonsense"))
    assert at.slider[0].value == (0.0, 100.0)


# --------------------------------------------------------------------------------------- topology


def test_topology_places_ranks_and_offers_other_orders():
    at = opened("topology", State(question=PIPED, layout=LAYOUT, axis="pp"))
    axes = next(frame.value for frame in at.dataframe if "stride" in frame.value)
    assert list(axes["axis"]) == ["tp", "dp", "pp"]
    orders = next(
        frame.value for frame in at.dataframe if "rank order, innermost first" in frame.value
    )
    assert len(orders) == 2
    press(at, "Play the step")
    links = next(frame.value for frame in at.dataframe if "links" in frame.value)
    assert set(links["links"]) >= {"nvlink"}


def test_a_placement_is_taken_without_a_pointer():
    at = opened("topology", State(question=PIPED, layout=LAYOUT, played=True))
    assert any("links" in frame.value for frame in at.dataframe)
    chosen = next(each for each in at.selectbox if each.label == "Placement taken")
    before = at.session_state["state"].layout
    settled(chosen.select_index(1 - chosen.value).run())
    after = at.session_state["state"].layout
    assert after != before
    assert "rank_order" in before + after


# ---------------------------------------------------------------------------------------- scaling


def test_scaling_sweeps_and_says_where_ways_cross():
    question = Question(
        model="llama-3.2-1b", gpus="8", seq_len="8k", global_batch="8", pins="kernels=fused pp=1"
    )
    at = opened("scaling", State(question=question, sweep="seq_len", points="8k,64k"))
    press(at, "Sweep")
    table = next(frame.value for frame in at.dataframe if "way" in frame.value)
    assert set(table["sequence length, tokens"]) == {8192, 65536}
    assert "From 8k on" in words(at).replace("\\", "")
    lengths = next(each for each in at.text_input if each.label == "Accelerators")
    lengths.set_value("4,8").run()
    press(at, "Find the longest")
    table = next(frame.value for frame in at.dataframe if "GPUs" in frame.value)
    assert list(table["GPUs"]) == [4, 8]


def test_links_to_a_sweep_and_to_lengths_find_them_again():
    question = Question(
        model="llama-3.2-1b", gpus="8", seq_len="8k", global_batch="8", pins="kernels=fused pp=1"
    )
    state = State(
        question=question, points="8k", swept=True, stretched=True, sizes="4,8", tab="longest"
    )
    at = opened("scaling", state)
    assert any("way" in frame.value for frame in at.dataframe)
    assert any("GPUs" in frame.value for frame in at.dataframe)
    assert at.session_state["state"] == state


@pytest.mark.parametrize("points", ["x", "8k," * 40, "0"])
def test_scaling_refuses_points_that_are_none(points):
    at = opened("scaling", State(question=SMALL, sweep="seq_len", points=points))
    assert at.error


def test_scaling_refuses_a_network_that_is_none():
    at = opened("scaling", State(question=SMALL, sweep="network", points="fast"))
    assert "factor" in " ".join(error.value for error in at.error)


# --------------------------------------------------------------------------------------- accuracy


def test_accuracy_draws_the_committed_table_and_filters_it():
    at = opened("accuracy", State(question=SMALL))
    assert "The profile in use" in words(at)
    errors = next(frame.value for frame in at.dataframe if "median |error|, %" in frame.value)
    assert set(errors["by"]) == {"", "kind", "source"}
    everything = runs_said(at)
    next(each for each in at.selectbox if each.label == "Kind of run").select_index(1).run()
    assert 0 < runs_said(at) < everything
    state = at.session_state["state"]
    assert state.kind
    assert runs_said(opened("accuracy", state)) == runs_said(at)


def runs_said(at):
    """Return how many runs are drawn, as the page says."""
    return sum(
        int(found[1].replace(",", ""))
        for each in at.markdown
        if (found := re.search(r": ([\d,]+) runs, median", each.value))
    )


def test_accuracy_takes_a_table_from_a_link_and_refuses_what_is_none():
    rows = [{"id": "mine", "kind": "k", "source": "s", "quantity": "time"}]
    rows[0] |= {"measured": 1.0, "predicted": 1.1, "interval": [1.0, 1.2], "error": 0.1}
    text = json.dumps({"overall": {"n": 1}, "by_source": {}, "rows": rows})
    at = opened("accuracy", State(question=SMALL, runs=Document("mine.json", text)))
    assert runs_said(at) == 1
    at = opened("accuracy", State(question=SMALL, runs=Document("mine.json", "{}")))
    assert "overall" in " ".join(each.value for each in at.error)


def test_apps_are_built_without_warnings():
    class Heard(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())

    said, heard = [], Heard()
    logger = logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context")
    logger.addHandler(heard)
    try:
        opened("plan", State(question=SMALL))
    finally:
        logger.removeHandler(heard)
    assert said == []


def test_the_app_has_every_page():
    at = apptest.of_file(ROOT / "app.py").run()
    assert not at.exception
    assert at.title[0].value == "Plan a training job"


def further_inputs():
    from ui import session
    from ui.inputs import _more
    from ui.question import Question

    session.current()
    _more(Question(gradients="bf16+fp32", fit_chance="0.9"))


def test_inputs_further_away_offer_all_there_is():
    at = settled(apptest.of_function(further_inputs).run())
    boxes = {each.label: each for each in at.selectbox}
    kept, sent = boxes["Gradients kept in"], boxes["Gradients sent in"]
    assert (kept.value, tuple(kept.options)) == ("bf16+fp32", tuple(KEPT_GRADIENTS))
    assert tuple(sent.options) == tuple(GRADIENT_DTYPES)
    chance = boxes["Least chance to fit"]
    assert (chance.value, chance.options[0], chance.options[-1]) == ("0.9", "0.5", "0.99")


def test_a_list_is_closed_while_a_file_takes_its_place():
    text = (ROOT / "models" / "data" / "configs" / "qwen3-0.6b.json").read_text()
    own = replace(SMALL, own_model=Document("config.json", text))
    for question, closed in ((SMALL, False), (own, True)):
        boxes = {each.label: each for each in opened("plan", State(question=question)).selectbox}
        assert (boxes["Model"].disabled, boxes["Cluster"].disabled) == (closed, False)
    assert "config.json is used" in boxes["Model"].help.replace("\\", "")


def test_every_other_layout_is_taken_one_after_the_other():
    at = opened("layout", State(question=PIPED, layout=LAYOUT))
    for text in ("tp=4,dp=8", "tp=2,dp=16", "tp=8,dp=4", "dp=32"):
        next(each for each in at.text_input if each.label == "The other layout").set_value(text)
        settled(at.run())
        assert at.session_state["state"].beside == text


def test_the_whole_answer_says_what_was_asked():
    from ui.plan import whole_answer

    question = Question(model="llama-3.2-1b", gpus="8", seq_len="8k", global_batch="8")
    found = plan("llama-3.2-1b", "h100-dgx", seq_len="8k", global_batch=8, simulate=False)
    told = json.loads(whole_answer(question, found))
    assert told["job"]["model"]["name"] == "llama-3.2-1b"
    assert (told["job"]["gpus"], told["job"]["seq_len"]) == (8, 8192)
    assert {name: told[name] for name in ("plans", "notes")} == {
        name: json.loads(json.dumps(found.to_dict()))[name] for name in ("plans", "notes")
    }
