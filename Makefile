# Every target does its own set-up; nothing is done twice. Start with: make demo
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo

.PHONY: demo demo-cluster test test-long lint setup setup-test system clean

demo: $(VENV)/.ready  ## the main job on real input: dataset, training, evaluation, report
	tools/demo $(RUN)

demo-cluster: $(VENV)/.ready system  ## the same on a real SLURM cluster, brought up on this machine
	tools/demo-cluster

# Files, not tests, are shared out: the tests of a file share a cluster, a run or a checkout.
test: $(VENV)/.ready-test system lint  ## all tests, with the real sandbox and a real SLURM
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long" tests

test-long: $(VENV)/.ready-test system  ## checks that take longer
	$(BIN)/pytest -m long tests

lint: $(VENV)/.ready-test system  ## format, lint, types, shell scripts, container recipes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	shellcheck -x slurm/*.sh slurm/lib/*.sh tools/demo tools/demo-cluster tools/system-packages tools/slurm-in-a-box/box \
	    tools/apptainer-here containers/*.sh .ci/run
	$(BIN)/python tools/lint_def.py containers/*.def

setup: $(VENV)/.ready  ## the virtual environment
setup-test: $(VENV)/.ready-test system

system:  ## Debian packages that the tests need
	tools/system-packages

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("codeio-hpc needs Python 3.11 or newer; call: make PYTHON=python3.11 $(MAKECMDGOALS)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: setup.py tools/constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c tools/constraints.txt -e '.[all]'
	touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c tools/constraints.txt -e '.[all,test]'
	touch $@

clean:  ## remove the virtual environment and caches, never runs
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
