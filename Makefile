# Every target sets up what it needs first; that takes minutes from nothing and a fraction of a second afterwards.
# PYTHON=python3.12 make … picks the interpreter, DEMO_SECONDS=40 make demo ends by itself and tells what was seen.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
python := .venv/bin/python

.PHONY: help demo test check format bench setup lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: ## start the whole suite without Docker and watch its signals arrive
	@local/setup python servers web aspire
	@$(python) -m local.demo

test: ## run all tests, with a real Postgres and RabbitMQ
	@local/setup python servers web
	@$(python) -m pytest

check: ## check format, lint and types, and run the fast tests
	@local/setup python
	@$(python) -m ruff format --check .
	@$(python) -m ruff check .
	@$(python) -m mypy
	@$(python) -m pytest -q tests/unit tests/seams

format: ## format the code and mend what the linter can
	@local/setup python
	@$(python) -m ruff check --fix .
	@$(python) -m ruff format .

bench: ## measure speed and memory, and print the table
	@local/setup python servers
	@$(python) -m bench

setup: ## install what is missing, and nothing else
	@local/setup

lock: ## lock the dependencies anew (needs uv)
	@requirements/lock

clean: ## remove what the tools and runs made, the environment included
	@! test -x $(python) || $(python) -m local.state
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage var \
	  local/aspire/node_modules local/gateway/web/node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
