# Every target sets up what it needs in a virtual environment of its own (.venv).
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help plan app test test-slow lint bench picture accuracy clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/:/'

plan: $(VENV)/core.stamp  ## install the core and run the 70B at 256K tokens example
	$(BIN)/meshwright plan llama-3.1-70b --cluster h100-dgx:32 --seq-len 256k --global-batch 64

app: $(VENV)/app.stamp  ## install the planning page and start it (torch only once it calibrates)
	$(BIN)/meshwright app

test: $(VENV)/test.stamp  ## install what the tests need and run all but the slow ones
	$(BIN)/python -m pytest -q -m timed tests/validate
	$(BIN)/python -m pytest -q -m "not slow and not timed" -n auto --maxprocesses 8

test-slow: $(VENV)/test.stamp  ## the tests marked slow
	$(BIN)/python -m pytest -q -m slow

lint: $(VENV)/dev.stamp  ## formatting, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/core.stamp  ## layouts costed per second on one core, how clusters scale, the event clock
	$(BIN)/python -m benchmarks.layouts_per_second
	$(BIN)/python -m benchmarks.cluster_scale
	$(BIN)/python -m benchmarks.event_clock

picture: $(VENV)/core.stamp  ## redraw the README's pictures and rewrite its worked cases
	$(BIN)/python docs/draw.py
	$(BIN)/python docs/write_cases.py

accuracy: $(VENV)/test.stamp  ## rewrite the errors that the tests hold predictions of published runs to
	$(BIN)/python -m tests.validate.published.error_table

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/app.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable ".[app]"
	touch $@

$(VENV)/test.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable ".[test,app,browser-test]"
	$(BIN)/python -m tests.ui.browser || true
	touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@
