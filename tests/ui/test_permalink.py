"""Links say the whole state, both ways, whatever is in them."""

import random
import zlib
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ui.permalink import LARGEST_UNPACKED, LONGEST_VALUE, from_query, left_out, to_query
from ui.presets import PRESETS
from ui.question import Document, Question, State, asked_anew

words = st.text(max_size=60)
documents = st.none() | st.builds(
    Document, name=st.text(st.characters(exclude_characters="~"), max_size=30), text=words
)
questions = st.builds(
    Question,
    model=words,
    gpus=words,
    pins=words,
    edits=words,
    own_model=documents,
    own_cluster=documents,
)
states = st.builds(
    State,
    question=questions,
    searched=st.booleans(),
    layout=words,
    beside=words,
    axis=words,
    points=words,
    played=st.booleans(),
    swept=st.booleans(),
    stretched=st.booleans(),
    tab=words,
    ranks=words,
    sizes=words,
    runs=documents,
    kind=words,
    source=words,
    budget=words,
)


@given(states)
def test_there_and_back(state):
    query = to_query(state)
    assert all(isinstance(value, str) for value in query.values())
    assert from_query(query) == (state, ())


def test_the_usual_question_needs_no_parameter():
    assert to_query(State()) == {}
    assert from_query({}) == (State(), ())


def test_every_preset_has_a_link():
    for preset in PRESETS:
        state = State(question=preset.question, searched=True)
        assert from_query(to_query(state)) == (state, ())


@given(st.dictionaries(st.text(max_size=20) | st.sampled_from(["own_model", "gpus"]), words))
def test_any_link_opens_something(query):
    state, problems = from_query(query)
    assert isinstance(state, State)
    assert all(isinstance(problem, str) for problem in problems)


def test_what_is_unknown_or_too_long_is_told():
    _, problems = from_query({"colour": "red", "pins": "x" * (LONGEST_VALUE + 1)})
    assert len(problems) == 2


def test_a_packed_bomb_is_refused():
    bomb = urlsafe_b64encode(zlib.compress(b"a" * (LARGEST_UNPACKED * 4), 9)).decode()
    state, problems = from_query({"own_model": f"x.json~{bomb}"})
    assert state.question.own_model is None
    assert len(problems) == 1


def test_files_too_long_for_a_link_are_named():
    noise = random.Random(0).randbytes(100_000).hex()
    big = Document(name="big.yaml", text=noise)
    state = State(question=Question(own_cluster=big))
    assert left_out(state) == (big,)
    query = to_query(state)
    assert len(query["own_cluster"]) < 50
    again, problems = from_query(query)
    asked = again.question.own_cluster
    assert (asked.name, asked.text, asked.missing) == ("big.yaml", "", big.digest)
    assert not problems
    assert left_out(again) == ()
    assert to_query(again) == query


@pytest.mark.parametrize("digest", ["", "x" * 16, "0" * 15, "0" * 17])
def test_what_is_no_digest_is_refused(digest):
    state, problems = from_query({"own_cluster": f"big.yaml~~{digest}"})
    assert state.question.own_cluster is None
    assert len(problems) == 1


def test_what_is_asked_anew_has_nothing_of_the_answer_before():
    runs = Document("runs.csv", "id")
    before = State(
        searched=True, played=True, layout="tp=2", ranks="1", sweep="gpus", points="8", runs=runs
    )
    question = Question(gpus="8")
    assert asked_anew(before, question) == State(question=question, sweep="gpus", runs=runs)
