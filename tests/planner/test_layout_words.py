"""Layouts in words tell apart what differs, and their axes can be given back."""

from __future__ import annotations

import inspect

import pytest
from typer.testing import CliRunner

from models.layout import Layout
from models.named_axes import Schedule, StageSplit
from planner import ask, estimate
from planner.cli import axes, build
from planner.cli.estimate import estimate as estimate_command
from planner.layout_words import details, label
from topologies.errors import SpecError

MODEL = ("llama-3.1-8b", "h100-dgx")
JOB = ["--cluster", MODEL[1], "--seq-len", "8k", "--global-batch", "64"]


def test_a_schedule_of_one_pipeline_rank_is_told_where_it_is_not_the_usual_one():
    usual, gpipe = (
        estimate(*MODEL, seq_len="8k", global_batch=64, tp=4, **schedule)
        for schedule in ({}, {"schedule": "gpipe"})
    )
    assert gpipe.memory_total_bytes > 2 * usual.memory_total_bytes
    assert details(gpipe.layout).split() == ["zero1", "tp-sp", "gpipe"]
    assert details(usual.layout).split() == ["zero1", "tp-sp"]
    assert "balanced" not in details(Layout(stage_split=StageSplit.BALANCED))


@pytest.mark.parametrize("schedule", list(Schedule))
def test_schedules_of_pipelines_are_told_but_the_usual_ones(schedule):
    told = schedule.label in details(Layout(pp=2, schedule=schedule)).split()
    assert told == (schedule not in (Schedule.ONE_F_ONE_B, Schedule.INTERLEAVED))


def test_the_micro_batch_is_read_as_tables_write_it():
    assert ask.parse_layout("mb=2,tp=4") == ask.parse_layout("micro_batch=2,tp=4")
    assert ask.parse_layout("micro-batch=2")["micro_batch"] == "2"
    with pytest.raises(SpecError, match="give micro_batch once"):
        ask.parse_layout("mb=2,micro-batch=4")


def test_degrees_of_a_label_can_be_given_back():
    layout = Layout(dp=2, tp=2, ulysses=2, micro_batch=2)
    text = ",".join(
        each.rstrip("0123456789") + "=" + each.lstrip("abcdefghijklmnopqrstuvwxyz")
        for each in str(layout).split()
    )
    options = ["--pp", "1", "--zero", "1", "--top", "1", "--no-simulate"]
    command = ["plan", MODEL[0], *JOB, *options, "--beside", text]
    done = CliRunner().invoke(build(), command)
    assert done.exit_code == 0, done.output
    sentence = done.stdout.replace("\n", " ")
    again = estimate(*MODEL, seq_len="8k", global_batch=64, **ask.parse_layout(text)).layout
    assert f" {label(again)} fits and takes " in sentence
    assert str(again) == str(layout)


def test_help_says_what_a_layout_takes_for_axes_that_are_not_named():
    done = CliRunner().invoke(build(), ["plan", "--help"])
    assert axes.USUAL in " ".join(done.stdout.split())
    assert axes.USUAL in " ".join(inspect.getdoc(estimate_command).split())
