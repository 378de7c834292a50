# Two commands: `make study` answers the question on this machine, `make test` checks the code. Each sets everything up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: study test lint setup clean
.DELETE_ON_ERROR:

study: $(VENV)/ready
	$(BIN)/seethink study $(ARGS)

test: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: $(VENV)/ready
	$(BIN)/ruff check seethink tests benchmarks
	$(BIN)/ruff format --check --diff seethink tests benchmarks

setup: $(VENV)/ready

# Exact versions come from requirements.lock; a changed lock or pyproject sets the environment up again.
$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "seethink needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
