# The newest Python from 3.11 on that really runs (a name on PATH may lead nowhere); PYTHON=... overrides.
CANDIDATES := python3.14 python3.13 python3.12 python3.11 python3 python
RUNS := -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
ifndef PYTHON
PYTHON := $(shell for python in $(CANDIDATES); do $$python $(RUNS) && echo $$python && break; done)
endif
VERSION := $(shell $(or $(PYTHON),false) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)
VENV := .venv/$(VERSION)
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: run check test test-all mutations clean python

run: $(VENV)/.run-installed
	$(BIN)/python -m experiments.run --config=digits_saal --config.acquisition.name=random
	$(BIN)/python -m experiments.run --config=digits_saal
	$(BIN)/python -m experiments.report results/digits_saal results/digits_saal_random --picture=results/digits.png

check: $(VENV)/.test-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(VENV)/.test-installed
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal --quiet

# Everything: the slow tests too (gigabytes, kills, several processes), and a thousand inputs for each property.
test-all: $(VENV)/.test-installed
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest --numprocesses=2 --dist=worksteal --quiet -m "" --hypothesis-profile=thorough

# Changes to the code that a test must see, one at a time: an hour. tests/mutations/README.md says what survived, and why.
mutations: $(VENV)/.test-installed
	$(INSTALL) '.[test,mutations]'
	$(BIN)/python -m tests.mutations

$(VENV)/.run-installed: pyproject.toml constraints.txt | python
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	touch $@

$(VENV)/.test-installed: pyproject.toml constraints.txt | python
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[test]'
	touch $(VENV)/.run-installed $@

python:
	@test -n "$(VERSION)" || { echo "error: no Python 3.11 or newer that runs was found ($(or $(PYTHON),tried $(CANDIDATES))); name one: make PYTHON=/path/to/python" >&2; exit 2; }
	@echo "Python $(VERSION) ($(PYTHON)), environment in $(VENV)"

clean:
	rm -rf .venv
