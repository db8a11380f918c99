# Needs make and Python 3.10 or newer with venv and pip. Everything is installed into .venv, once.
# make PYTHON=python3.12 run      another interpreter
# make run ARGS="--batch-size 4"  flags of traintop

SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

.PHONY: help run test test-all test-gpu lint format bench screenshots clean

help:
	@echo "make run          install what is needed and open traintop"
	@echo "make test         the tests; make test-all with the slow ones, make test-gpu with those that need a GPU"
	@echo "make lint         style, types and import contracts; make format repairs the style"
	@echo "make bench        measure the budgets"
	@echo "make screenshots  draw the pictures in screenshots/ again"
	@echo "make clean        remove .venv, caches and build leftovers"

run: $(VENV)/installed
	@$(BIN)/traintop $(ARGS)

test: $(VENV)/installed-dev
	$(PYTEST) $(ARGS)

test-all: $(VENV)/installed-dev
	HYPOTHESIS_PROFILE=random $(PYTEST) -m "not gpu" $(ARGS)

test-gpu: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m gpu $(ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed-dev
	$(BIN)/python -m tests.benchmarks $(ARGS)

screenshots: $(VENV)/installed-dev
	$(BIN)/python screenshots/capture.py $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find engine tui tests screenshots -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are written last, so what was interrupted is done again.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 10) and \
	    f"traintop needs Python 3.10 or newer; this is {v}: make PYTHON=python3.12 {sys.argv[1]}")' $(firstword $(MAKECMDGOALS))
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing traintop into $(VENV); PyTorch is large, so this takes a few minutes the first time."
	$(INSTALL) --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) --editable '.[dev]'
	@touch $@
