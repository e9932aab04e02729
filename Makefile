# make demo    the main job: zero-shot CLIP, CoOp and MoPD on the embedded world; a table, a sentence and a picture
# make test    all tests, on the CPU; make test-gpu, what only a GPU can show
# make test-cluster    workers of a study on a Slurm of this machine (tests/cluster/slurm.sh: root, Debian)
# make test-versions    all tests, with other versions of torch, too (tests/versions.sh)
# make lint    ruff and mypy
# Each creates .venv (or .venvs) and installs what it needs; nothing outside this folder is touched but pip's cache,
# and by test-cluster the packages slurm-wlm and munge, where they are missing.

PYTHON ?= python3
METHODS ?= zsclip coop mopd
DATASET ?= shapes
SEED ?= 1
# [SHOTS] [KEY VALUE ...] for every method
OPTS ?=
# the demo has its own folders, so that it never mixes with your runs
DEMO := .demo
VENV := .venv/bin/python

# waiting threads that spin make a busy machine many times slower
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test test-gpu test-cluster test-versions lint

demo: .venv/installed
	@for method in $(METHODS); do \
		CONFIG= TAG= PYTHON=$(VENV) DATA=$(DEMO)/data OUTPUT=$(DEMO)/output MOPD_CACHE=$(DEMO)/cache bash scripts/$$method/base2new.sh $(DATASET) $(SEED) $(OPTS) || exit 1; \
	done
	@echo
	@$(VENV) -m tools.tables --runs $(DEMO)/output/base2new/$(DATASET)
	@echo
	@MPLCONFIGDIR=$(DEMO)/matplotlib $(VENV) -m tools.plots $(DEMO)/output/base2new/$(DATASET) --out $(DEMO)/plots

# two tests at a time, with one thread each
test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(VENV) -m pytest -n 2

test-gpu: .venv/installed-dev
	MOPD_TEST_GPU=1 $(VENV) -m pytest tests/gpu

# three workers on two cores: one thread each
test-cluster: .venv/installed-dev
	@OMP_NUM_THREADS=1 bash tests/cluster/slurm.sh $(VENV) tests/cluster/check.py

test-versions:
	@PYTHON=$(PYTHON) bash tests/versions.sh

lint: .venv/installed-dev
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .
	$(VENV) -m mypy

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt | .venv/bin/python
	$(VENV) -m pip install -q -r requirements.txt
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(VENV) -m pip install -q -r requirements-dev.txt
	@touch $@
