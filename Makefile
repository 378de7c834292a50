# Two commands: `make study` answers the question on this machine, `make test` checks the code; `make study-full` asks every
# question of QUESTIONS in turn, `make check` is for those who change the code. Each sets everything up.
PYTHON ?= python3
VENV := .venv
VLLM := .venv-vllm
BIN := $(VENV)/bin
ARGS ?=
QUESTIONS ?= main replicate placebo cause style blank fidelity glance checkpoints

.PHONY: study study-full test test-vllm check setup clean
.DELETE_ON_ERROR:

study: $(VENV)/ready
	$(BIN)/seethink study $(ARGS)

# Each question takes over what an earlier one has run; killed, the same command goes on.
study-full: $(VENV)/ready
	@done=$$(test -f runs/study/study.json && echo '"runs/study"'); for question in $(QUESTIONS); do \
		$(BIN)/seethink study @studies/pocket/$$question.toml --out runs/full/$$question --reuse "[$$done]" $(ARGS) || exit $$?; \
		done="$${done:+$$done,}\"runs/full/$$question\""; \
	done
	$(BIN)/seethink findings $(QUESTIONS:%=runs/full/%) --out docs/findings.md

test: $(VENV)/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# vLLM pins other versions than we do, so it has an environment of its own (about 3 GB); optional.
test-vllm: $(VLLM)/ready
	OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest -s -m vllm --disable-warnings tests/test_vllm.py $(ARGS)

check: $(VENV)/ready
	$(BIN)/ruff check seethink tests benchmarks examples docs
	$(BIN)/ruff format --check --diff seethink tests benchmarks examples docs
	$(BIN)/basedpyright
	$(BIN)/python -m pytest -s tests/test_house.py

setup: $(VENV)/ready

# Exact versions come from requirements.lock; a changed lock or pyproject sets the environment up again.
$(VENV)/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "seethink needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# --no-deps: vLLM for CPUs asks for triton, torchaudio and torchcodec, built for GPUs, which break it beside CPU torch.
# Its torchvision is such a build too, and needs tests/vllm_site.py, in every process, before it is imported.
$(VLLM)/ready: requirements-vllm.lock tests/vllm_site.py
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-vllm.lock
	cp tests/vllm_site.py "$$($(VLLM)/bin/python -c 'import site; print(site.getsitepackages()[0])')/sitecustomize.py"
	@touch $@

clean:
	rm -rf $(VENV) $(VLLM) build dist *.egg-info
