# make demo    from nothing to a score over HTTP          make test    every check
# make check   lint and the tests without Ray: minutes    make bench   speed figures
# make lint    style, types, layers                       make clean   remove what the above made (not your runs/)
# make install the environment alone                      make lock    renew the pins after a change of dependencies
#
# Each works on a fresh clone: the virtual environment is built from the pinned files, and again when they change.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test check lint bench install clean lock

# The first of these that runs and is new enough; `make PYTHON=/path/to/python` overrules it.
NEW_ENOUGH := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c "$(NEW_ENOUGH)" >/dev/null 2>&1 && { echo $$python; break; }; done)

VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.installed-requirements
DEV := $(VENV)/.installed-requirements-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check

export RAY_USAGE_STATS_ENABLED := 0
export YOLO_AUTOINSTALL := false

help:
	@sed -n '/^# make/s/^# //p' Makefile

demo: $(BASE)
	$(BIN)/python jobs/demo.py

test: lint
	@rm -f .coverage .coverage.*
	@# Two processes: one begins with tests/e2e, the other with tests/ray, which take the longest (conftest.py).
	$(BIN)/python -m pytest tests/e2e tests/ray tests/unit tests/gpu --numprocesses 2 --no-loadscope-reorder --cov --durations=15

check: lint
	$(BIN)/python -m pytest tests/unit --numprocesses 2 --no-loadscope-reorder --durations=15

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/pyright --threads

bench: $(DEV)
	$(BIN)/python -m pytest tests/benchmarks -m benchmark --timeout=3600 -s

install: $(DEV)

# A dev environment is a base environment too: the dev pins hold all of the base pins.
$(BASE): requirements.txt pyproject.toml | $(BIN)/python
	$(call install_pins,requirements.txt)
	@touch $@

$(DEV): requirements.txt requirements-dev.txt pyproject.toml | $(BIN)/python
	$(call install_pins,requirements-dev.txt)
	@touch $(BASE) $@

# --no-deps: the pins are complete, so nothing else may come in.
define install_pins
$(PIP) install --no-deps -r $(1)
$(PIP) install --no-deps --no-build-isolation --quiet -e .
@$(BIN)/python -c "import cv2" || { echo "OpenCV does not load. On Debian and Ubuntu it needs:" \
	"apt-get install libgl1 libglib2.0-0"; exit 1; }
endef

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv was found (on Debian and Ubuntu:" \
		"apt-get install python3 python3-venv), or name yours: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)

lock: $(DEV)
	$(LOCK) --extra demo --output-file requirements.txt
	$(LOCK) --extra demo --extra dev --constraints requirements.txt --output-file requirements-dev.txt
	$(LOCK) --extra demo --extra gpu --constraints requirements.txt --output-file requirements-gpu.txt

LOCK = UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --no-annotate \
	--python-version 3.11 pyproject.toml

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .coverage .coverage.* platform/*.egg-info
	find platform jobs tests -name __pycache__ -type d -prune -exec rm -rf {} +
