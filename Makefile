# Every target sets up what it needs first; that takes minutes from nothing and a fraction of a second afterwards.
# PYTHON=python3.12 make … picks the interpreter, DEMO_SECONDS=40 make demo ends by itself and tells what was seen.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
python := .venv/bin/python

.PHONY: help demo test test-failure test-stack check format doctor workshop load load-gate bench soak setup audit lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: ## start the whole suite without Docker and watch its signals arrive
	@scripts/setup python servers jq web aspire load
	@$(python) -m local.demo

test: ## run all tests, with a real Postgres and RabbitMQ
	@scripts/setup python servers jq web load
	@$(python) -m pytest

test-failure: ## kill and overload each part, and count what is lost; FAILURE_KILLS=3 make test-failure is shorter
	@scripts/setup python servers fuzz
	@$(python) -m pytest tests/failure

test-stack: ## ask a running docker compose stack for every signal and every panel
	@scripts/setup python
	@$(python) -m pytest tests/stack

check: ## check format, lint, types and spelling, and run the fast tests
	@scripts/setup python
	@$(python) -m ruff format --check .
	@$(python) -m ruff check .
	@$(python) -m mypy
	@git ls-files -z '*.md' | xargs -0 .venv/bin/codespell
	@$(python) -m pytest -q tests/unit tests/seams

format: ## format the code and mend what the linter can
	@scripts/setup python
	@$(python) -m ruff check --fix .
	@$(python) -m ruff format .

doctor: ## say what is wrong with the suite, before a start and while it runs; WAIT=60 make doctor asks until all is well
	@$(if $(wildcard $(python)),$(python),$(or $(PYTHON),python3)) -m doctor --wait $(or $(WAIT),0)

workshop: ## say which faults there are to switch and which scenarios to run, and where the page is
	@scripts/setup python
	@$(python) -m workshop

load: ## put load on a server and watch it; LOAD_USERS=50 LOAD_SHAPE=spike make load, see loadtest/README.md
	@scripts/setup python load
	@.venv-load/bin/python -m loadtest

load-gate: ## put a short load on it, and fail if it crosses the lines of loadtest/gate.toml
	@scripts/setup python load
	@.venv-load/bin/python -m loadtest gate

bench: ## measure speed and memory, and print the table
	@scripts/setup python servers load
	@$(python) -m bench

soak: ## run the default load for half an hour, and tell what grew; SOAK_MINUTES=5 make soak
	@scripts/setup python servers
	@$(python) -m bench.soak

setup: ## install what is missing, and nothing else
	@scripts/setup

audit: ## compare all locked packages with known vulnerabilities (needs the network)
	@scripts/audit

lock: ## lock the dependencies anew (needs uv)
	@scripts/lock

clean: ## remove what the tools and runs made, the environment included
	@! test -x $(python) || $(python) -m local.state
	@rm -rf .venv .venv-load .venv-fuzz .venv-audit .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage var \
	  local/aspire/node_modules local/gateway/web/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
