# Every target first installs what it needs. This takes minutes the first time, and a fraction of a second afterwards.
# PYTHON=python3.12 make … selects the interpreter. DEMO_SECONDS=40 make demo stops by itself and reports missing signals.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
python := .venv/bin/python
# Variables of the user's shell with which other modules, or none, would be found, or Python would behave differently:
# it ends at a wrong value, waits for input, compiles again in each process, or makes errors of warnings.
encodings := ascii cp1252 iso-8859-1 iso-8859-15 latin-1 utf-8 UTF-8 utf8
harmless := PYTHON PYTHONPYCACHEPREFIX PYTHONUNBUFFERED $(if $(filter 0 1,$(PYTHONUTF8)),PYTHONUTF8) \
  $(if $(filter $(encodings),$(firstword $(subst :, ,$(PYTHONIOENCODING)))),PYTHONIOENCODING)
unexport CDPATH $(filter-out $(harmless),$(filter PYTHON%,$(.VARIABLES)))
# Tests mostly wait, so at least three files run at a time, and one for each of up to eight cores: each process starts its
# own servers. The tests of a file share a process.
# The files start in the order in which they are collected, the longest first; see tests/integration/conftest.py.
parallel := --dist loadfile --no-loadscope-reorder --numprocesses
processes = $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); echo $$((n > 8 ? 8 : n > 3 ? n : 3)))

.PHONY: help demo test test-browser test-failure test-stack test-kubernetes check format doctor workshop load load-gate bench soak screenshots setup audit lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: ## start the suite without Docker and watch its signals arrive
	@scripts/setup python servers jq web aspire load
	@$(python) -m local.demo

test: ## run all tests, with a real Postgres and RabbitMQ; TESTS=tests/integration make test runs these only
	@scripts/setup python servers jq web load peers pooler browser
	@$(python) -m pytest $(parallel) $(processes) $(TESTS)

test-browser: ## open each page in Chromium and use it as a person would
	@scripts/setup python servers web load browser
	@$(python) -m pytest $(parallel) 2 tests/browser

test-failure: ## kill and overload each part and count the losses; FAILURE_KILLS=3 make test-failure is shorter
	@scripts/setup python servers fuzz
	@$(python) -m pytest tests/failure

test-stack: ## query a running docker compose stack for every signal and every panel
	@scripts/setup python
	@$(python) -m pytest tests/stack

test-kubernetes: ## deploy to a cluster, query and break it; CONTEXT=kind-kind make test-kubernetes
	@test -n "$(CONTEXT)" || { echo "no cluster is named: CONTEXT=kind-kind make test-kubernetes"; exit 2; }
	@scripts/setup python
	@CONTEXT="$(CONTEXT)" $(python) -m pytest -s tests/kubernetes

check: ## check format, lint, types, and spelling, and run the fast tests
	@scripts/setup python
	@$(python) -m ruff format --check .
	@$(python) -m ruff check .
	@$(python) -m mypy
	@$(python) -m pytest -q $(parallel) 2 tests/unit tests/seams

format: ## format the code and apply the fixes of the linter
	@scripts/setup python
	@$(python) -m ruff check --fix .
	@$(python) -m ruff format .

doctor: ## find what is wrong with the suite; WAIT=60 make doctor retries for 60 s, CONTEXT=kind-kind checks a cluster
	@$(if $(wildcard $(python)),$(python),$(or $(PYTHON),python3)) -m doctor --wait $(or $(WAIT),0) $(if $(CONTEXT),--context "$(CONTEXT)")

workshop: ## list the faults to inject, the scenarios to run, and the address of the page
	@scripts/setup python
	@$(python) -m workshop

load: ## load a server and watch it; LOAD_USERS=50 LOAD_SHAPE=spike make load, see loadtest/README.md
	@scripts/setup python load
	@.venv-load/bin/python -m loadtest

load-gate: ## run a short load, and fail if it exceeds the limits of loadtest/gate.toml
	@scripts/setup python load
	@.venv-load/bin/python -m loadtest gate

bench: ## measure speed and memory, and print the table
	@scripts/setup python servers load
	@$(python) -m bench

soak: ## run the default load for half an hour and report what grew; SOAK_MINUTES=5 make soak
	@scripts/setup python servers
	@$(python) -m bench.soak

screenshots: ## take the pictures of docs/images from the running suite
	@scripts/setup python browser
	@PYTHONPATH=. $(python) scripts/screenshots

setup: ## install what is missing, and nothing else
	@scripts/setup

audit: ## check all locked packages for known vulnerabilities (needs the network)
	@scripts/audit

lock: ## update the locked dependencies (needs uv)
	@scripts/lock

clean: ## remove everything that the tools and runs created, including the environment
	@! test -x $(python) || $(python) -m local.state
	@rm -rf .venv .venv-load .venv-fuzz .venv-audit .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage var \
	  local/aspire/node_modules local/gateway/web/node_modules tests/browser/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
