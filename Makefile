# Needs only make and Python >= 3.11. `make help` lists the targets.
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
NEEDS := 3.11

# PYTHON= chooses the interpreter; else the first of these that is new enough.
ifeq ($(origin PYTHON), undefined)
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
  "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
endif

# The course, its tests and its notebooks are about the embedded data, whatever the shell around them says.
EMBEDDED := env -u MULTILABEL_NB_DATA
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# The kernel is this environment's own, even beside another one in the reader's home.
export JUPYTER_PREFER_ENV_PATH := 1

# Lessons at a time: the course takes one, which then has all cores; the rest take two.
JOBS ?=
ONLY ?=
PYTEST_ARGS ?=
N ?=
SEED ?= 0

.DEFAULT_GOAL := help
.PHONY: help course gate test test-slow mutants settings coverage load newest oldest real notebooks readme docs lab lint format lock clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

course: $(STAMP)  ## Execute every lesson on the embedded data and print what was learnt
	@$(EMBEDDED) $(PY) tools/lessons.py course --jobs $(or $(JOBS),1) $(ONLY)

# The form of things: what runs no notebook and needs no browser. One process, since each would first take seconds for imports.
GATE := tests/test_project.py tests/test_house.py tests/test_guide.py tests/test_types.py

gate: $(STAMP)  ## The daily check, within a minute: style, types, exports in step, sizes, links, licence
	@$(MAKE) --no-print-directory lint
	$(EMBEDDED) $(PY) -m pytest -q $(GATE) -m 'not slow and not beyond_gate' $(PYTEST_ARGS)

test: $(STAMP)  ## Lint, re-run every notebook cell and compare its output, run the quick tests
	@$(MAKE) --no-print-directory lint
	$(EMBEDDED) $(PY) -m pytest --nbval nbs tests -n $(or $(JOBS),2) --dist loadfile $(PYTEST_ARGS)

test-slow: $(STAMP)  ## Run the slow tests: wheel, browser and Lab, killed processes, failing lessons
	$(EMBEDDED) $(PY) -m pytest --slow -m slow tests -n $(or $(JOBS),2) --dist loadfile --durations=20 $(PYTEST_ARGS)

mutants: $(STAMP)  ## Put N small faults into the library, one at a time, and see that a notebook or a test notices
	@$(EMBEDDED) $(PY) tools/mutants.py --n $(or $(N),100) --seed $(SEED) --only $(ONLY) $(MUTANTS_ARGS)

settings: $(STAMP)  ## Run notebooks and tests under other settings, N times each: no network, read-only, another locale, ...
	@$(EMBEDDED) $(PY) tools/settings.py "$(ONLY)" --n $(or $(N),1) --jobs $(or $(JOBS),2) $(if $(FULL),--full) $(SETTINGS_ARGS)

coverage: $(STAMP)  ## Say which lines and branches of the library the notebooks alone execute
	@$(EMBEDDED) $(PY) tools/covered.py $(ONLY)

load: $(STAMP)  ## Sixteen threads for two minutes, 50 kills each of caching, downloading, saving and going on: nothing half-written
	@$(EMBEDDED) $(PY) tools/load.py $(LOAD_ARGS)

# Each outside library is in one of these: fastai, torch, timm, pandas, scikit-learn, onnxruntime, polars. QUICK='nbs tests' runs all.
QUICK ?= nbs/02_datasets.ipynb nbs/04_losses.ipynb nbs/05_metrics.ipynb nbs/08_inference.ipynb nbs/library/checks.ipynb \
  nbs/library/heads.ipynb nbs/library/predictor.ipynb nbs/library/readers.ipynb nbs/library/splits.ipynb nbs/library/uncertainty.ipynb \
  tests/test_backbones.py tests/test_door.py tests/test_house.py tests/test_losses.py tests/test_metrics.py tests/test_types.py
HOLD ?=

newest: $(STAMP)  ## Try the newest packages on a copy, on PYTHON: what changes, and what breaks
	@$(EMBEDDED) $(PY) tools/versions.py newest --python "$(PYTHON)" --hold "$(HOLD)" $(QUICK)

oldest: $(STAMP)  ## Likewise the oldest that settings.ini allows
	@$(EMBEDDED) $(PY) tools/versions.py oldest --python "$(PYTHON)" --hold "$(HOLD)" $(QUICK)

real: $(STAMP)  ## Run copies of the lessons on the real data under MULTILABEL_NB_DATA; write nothing back
	@$(PY) tools/lessons.py real --jobs $(or $(JOBS),2) $(ONLY)

notebooks: $(STAMP)  ## Re-execute, clean and export the notebooks in place, and write README.md
	@$(EMBEDDED) $(PY) tools/lessons.py notebooks --jobs $(or $(JOBS),2) $(ONLY)

readme: $(STAMP)  ## Write README.md from nbs/index.ipynb, as `make notebooks` does at its end
	@$(PY) tools/lessons.py readme

docs: $(STAMP)  ## Build the site in _docs from the executed notebooks; it runs none of them
	@$(EMBEDDED) $(PY) tools/build_site.py

lab: $(STAMP)  ## Open JupyterLab on the home page, nbs/index.ipynb
	$(PY) -m jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/nbs/index.ipynb $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_ARGS)

lint: $(STAMP)  ## Check style, notebooks included
	$(PY) -m ruff check
	$(PY) -m ruff format --check

format: $(STAMP)  ## Mend style, notebooks included
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

lock: $(VENV)/bin/uv  ## Resolve requirements.lock anew from settings.ini (UPGRADE=1 takes newer versions)
	@if [ -f requirements.lock ]; then cp requirements.lock requirements.lock.new; fi
	$(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-annotate \
	  --python-version $(NEEDS) --extra dev $(if $(UPGRADE),--upgrade) $(LOCK_ARGS) setup.py -o requirements.lock.new
	@mv requirements.lock.new requirements.lock

clean:  ## Remove what was generated (the environment stays: delete .venv by hand)
	rm -rf _course _docs _docs.partial .verified.json .mutants.json build dist *.egg-info .pytest_cache .ruff_cache .hypothesis requirements.lock.new
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# `venv --clear` mends an environment whose creation was killed half way.
$(VENV)/bin/uv:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "multilabel_nb needs Python $(NEEDS) or newer; found: $$({ "$(or $(PYTHON),python3)" --version || echo none; } 2>/dev/null)." >&2; \
	  echo "Name one that is: make $(or $(MAKECMDGOALS),course) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PY) -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check uv

# The stamp comes last, so a failed or killed install is taken up again by the next make.
$(STAMP): requirements.lock settings.ini setup.py | $(VENV)/bin/uv
	@rm -f $@
	@echo "Installing the environment into $(VENV) (once)"
	$(VENV)/bin/uv pip install --quiet --python $(PY) --require-hashes -r requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps -e .
	@touch $@
