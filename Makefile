# The verbs of this project. `make` alone lists them.
SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin
WHERE_COMMANDS := promptlab is $(BIN)/promptlab here; make shell opens a shell that finds it.

.DEFAULT_GOAL := help
include infra/cloud.mk infra/frontend.mk
.PHONY: help demo shell test test-long lint layers pictures audit mutants fuzz-api simulate bench bench-sandbox format clean

help:  ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## ?/\1|/' | awk -F'|' '{printf "  make %-14s %s\n", $$1, $$2}'

.venv/demo: requirements.txt pyproject.toml
	@bash infra/venv.sh $(PYTHON)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(HASHES),--require-hashes -r hashes/,-r )requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/demo requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(HASHES),--require-hashes -r hashes/,-r )requirements-dev.txt
	@# By itself: it asks for an older pydantic than ours, and works with ours.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps aws-sam-translator==1.115.0
	@touch $@

demo: .venv/demo frontend port  ## install, run samples/async_example on the simulated model, serve the Studio (SERVE=0: stop after the summary; PORT=8000; HASHES=1: install only files with known hashes)
	@PROMPTLAB_SAMPLE_MODEL=simulated/demo PROMPTLAB_SAMPLE_SERVE=$(or $(SERVE),1) PORT=$(PORT) $(BIN)/python samples/async_example/async_example.py
	@test "$(SERVE)" != 0 || echo "$(WHERE_COMMANDS)"

# Before the run: who cannot be served should not wait for it.
.PHONY: port
port: .venv/demo
	@test "$(SERVE)" = 0 || $(BIN)/python infra/free_port.py $(PORT)
	@test "$(SERVE)" = 0 || echo "$(WHERE_COMMANDS)"

shell: .venv/demo  ## open a shell that finds this project's promptlab and python
	@echo "promptlab and python are those of $(CURDIR)/.venv; exit leaves this shell."
	@PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/.venv" bash

# A file's tests stay in one worker: what its module fixtures make (labs, browsers, samples) is made once.
# In the order of the folders: the browser's long files begin first, and none is left alone at the end.
# Compiled once: else each of the hundreds of interpreters that the tests start compiles what it imports, for
# sandboxes write no bytecode (-B), and pytest reads 450 files of tests anew in each worker (10 s of 17).
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(or $(WORKERS),4) --dist loadfile --no-loadscope-reorder

.PHONY: compiled
compiled: .venv/dev
	@$(BIN)/python -m compileall -q -j 0 promptlab studio functions

test: .venv/dev frontend chromium compiled  ## install what the tests need and run them, but for the long tables and the cloud (WORKERS=4)
	@$(PYTEST) -m 'not long and not cloud'

test-long: .venv/dev frontend chromium compiled  ## run the long tables: hostile and large inputs at every route and reader, misbehaving code, kills
	@$(PYTEST) -m 'long and not cloud'

lint: .venv/dev lint-cloud  ## ruff, mypy, import arrows, and what lint-cloud checks
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy --allow-any-generics samples
	@$(BIN)/lint-imports

audit:  ## check the hashes of all requirements, write bills of materials (CycloneDX) to build/sbom, look up vulnerabilities (UPDATE=1: new hashes; STRICT=1)
	@$(PYTHON) -c 'import sys; sys.path.insert(0, "infra"); import cloud_tools as tools; tools.make_venv("audit", "requirements-audit.txt", sys.executable)'
	@.cloud/audit/bin/python infra/audit.py $(if $(UPDATE),--update) $(if $(STRICT),--strict)

format: .venv/dev  ## let ruff format everything
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

layers: .venv/dev  ## draw the layers of the code, from pyproject.toml, into docs/images/layers.svg
	@$(BIN)/python infra/layers_picture.py

pictures: .venv/demo  ## draw the pictures of docs/statistics, from the formulas, into docs/images
	@$(BIN)/python infra/statistics_pictures.py

.venv/mutants: .venv/dev requirements-mutants.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-mutants.txt
	@touch $@

mutants: .venv/mutants frontend  ## change the code in 300 small ways and see whether the tests notice (NUMBER=300, SEED=1; 40 minutes)
	@$(BIN)/python infra/mutants.py --number $(or $(NUMBER),300) --seed $(or $(SEED),1)

# In an environment of its own: it wants other versions than we pin.
.venv/fuzz-api/bin/schemathesis: .venv/dev
	@$(BIN)/python -m venv .venv/fuzz-api
	@.venv/fuzz-api/bin/pip install --quiet --disable-pip-version-check schemathesis==4.32.5
	@touch $@

fuzz-api: .venv/fuzz-api/bin/schemathesis frontend  ## send schemathesis against the API of a Studio here (EXAMPLES=50 of each operation, SEED=1; URL=… TOKEN=…: of a deployed one that is there for this; 4 minutes)
	@$(BIN)/python infra/fuzz_api.py --examples $(or $(EXAMPLES),50) --seed $(or $(SEED),1) $(if $(URL),--url $(URL) --token $(TOKEN))

simulate: .venv/dev  ## print how often intervals and verdicts are right, for docs/statistics (QUICK=1: 500 repetitions; TABLE=Ranking: that table alone; 6 minutes of one core)
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.simulation $(if $(QUICK),--quick) "$(TABLE)"

.PHONY: prices
prices: .venv/demo  ## write the kept table of models' prices anew, from the newest genai-prices
	@$(BIN)/python infra/update_prices.py

bench: .venv/dev  ## measure speed, CPU and memory of a run against a mock endpoint (FAULTS=1: 300,000 rows with 2% faults, 10 minutes; LIMITS=1: rate limits, 4 minutes; PERMITS=1: limits that processes share, 6 minutes; JUDGES=1: judges and evaluators, 1 minute; HOPELESS=1: runs that cannot succeed; COMPARE=1: two runs of 100,000 cases, 2 minutes)
	@$(BIN)/python -m tests.bench.$(if $(FAULTS),faults,$(if $(LIMITS),limits,$(if $(PERMITS),permits,$(if $(JUDGES),judges,$(if $(HOPELESS),hopeless,$(if $(COMPARE),compare,run))))))

bench-sandbox: .venv/dev  ## measure how fast a bundle of users' code starts in the sandbox, and what a case costs
	@$(BIN)/python -m tests.bench.sandbox

clean:  ## remove the environment and all that was built
	rm -rf .venv frontend/node_modules frontend/.node build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
