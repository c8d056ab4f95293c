# make install | demo | test | test-fast | fuzz | lint | docs | lock | deploy | secrets
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test test-fast fuzz lint docs lock deploy secrets
install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	infra/install.sh $(VENV)
	touch $@

demo: install
	$(BIN)/sgcldff demo --out demo

# Tests start hundreds of processes: what they import is compiled once. HYPOTHESIS_PROFILE=thorough tries more examples.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest
test: install
	$(PYTEST)

# What needs neither servers nor browsers, trainings, clusters or flows, and so never waits: two processes are enough.
test-fast: install
	$(PYTEST) -n 2 -m "not slow" tests/sgcldff tests/tasks tests/test_imports.py tests/test_project.py

# Ten thousand hostile files, other ones in every run.
fuzz: install
	SGCLDFF_FUZZ=10000 $(PYTEST) -n 0 -s --timeout 7200 tests/hostile tests/damage

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Needs uv; writes names, versions and hashes only.
lock:
	uv pip compile --universal --python-version 3.11.1 --generate-hashes --extra dev --no-annotate --no-header \
		--no-emit-index-url --quiet pyproject.toml -o requirements.lock

# Needs PREFECT_API_URL of a running server. POOL is the type of the work pool: process, docker or kubernetes.
POOL ?= process
TEMPLATE_docker := --base-job-template infra/docker/work-pool.json
TEMPLATE_kubernetes := --base-job-template infra/kubernetes/jobs/work-pool.json
deploy: install
	$(BIN)/prefect --no-prompt work-pool create --type $(POOL) $(TEMPLATE_$(POOL)) --overwrite sgcldff
	env -u SGCLDFF_ROOT $(BIN)/prefect --no-prompt deploy --all

# Random passwords for infra/compose.yaml and Kubernetes, into the untracked infra/.env.
secrets:
	infra/secrets.sh
