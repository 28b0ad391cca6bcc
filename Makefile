# Everything runs in .venv, which the first target makes from requirements.lock. `make` alone lists the targets.

PYTHON ?= $(firstword $(foreach python,python3.11 python3.12 python3.13 python3,\
	$(shell $(python) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(python))) python3)
BIN := .venv/bin
PACKAGES := api engine scheduler workers migrations catalogs ops
JOBS ?= 2
ARGS ?=
WALK ?=

.DEFAULT_GOAL := help
.PHONY: help venv demo test lint fmt docs bench chaos lock

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: ## make or refresh .venv from requirements.lock
	@.ci/venv "$(PYTHON)" .venv

demo: venv ## start everything on an embedded PostgreSQL, run example pipelines, show their history from SQL
	@$(BIN)/duework demo $(ARGS)

test: lint ## lint, types, all tests with coverage; the unit tests on every Python found
	@$(BIN)/python -m compileall -q $(PACKAGES) # for the processes that tests start, where PYTHONDONTWRITEBYTECODE is set
	$(BIN)/python -m pytest -n $(JOBS) --cov --cov-report=term $(ARGS)
	.ci/each-python

lint: venv ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: venv ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

docs: venv ## write the reference pages from the code; check that every link leads somewhere
	$(BIN)/python -m ops.docs
	$(BIN)/python -m pytest --quiet tests/unit/test_documents.py

bench: venv ## measure how fast workers drain the queue, beside a bare SQL loop
	$(BIN)/python -m tests.load.drain --jobs 20000 $(ARGS)

chaos: venv ## the tests that kill processes, and the random walk; WALK="--seed N" walks that seed again
	$(BIN)/python -m pytest tests/chaos $(ARGS)
	$(BIN)/python -m tests.chaos.walk $(WALK)

lock: venv ## write the lock files anew from pyproject.toml; ARGS=--upgrade takes newer versions
	$(BIN)/uv $(COMPILE) --extra embedded --extra mcp --group dev --output-file requirements.lock $(ARGS)
	$(BIN)/uv $(COMPILE) --extra mcp --constraint requirements.lock --output-file ops/docker/requirements.lock

COMPILE := pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links
