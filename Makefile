# What a person types here; `make` alone lists it. Needs make and Python 3.11 or newer, nothing else.

VENV := .venv
BIN := $(VENV)/bin
MINUTES ?= 6

.DEFAULT_GOAL := help
.PHONY: help .venv test lint demo bench parity constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[.a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv: $(VENV)/.installed ## Install this project and all it needs into .venv

# torch comes first and alone: what follows then keeps it instead of choosing another build.
$(VENV)/.installed: pyproject.toml constraints.txt
	@python=$$(for p in python3 python3.13 python3.12 python3.11; do \
		$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; \
	done); \
	if [ -z "$$python" ]; then \
		echo "error: no Python 3.11 or newer with its venv module found (tried python3 and python3.11 to 3.13)" >&2; \
		exit 1; \
	fi; \
	$$python -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

test: lint ## Lint, then run every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: .venv ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: .venv ## Train, evaluate and report on the embedded data, in MINUTES=6
	$(BIN)/sensorium demo --minutes $(MINUTES) --out runs/demo

bench: .venv ## Run every benchmark
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

parity: .venv ## Measure how exactly each family matches its reference, for `sensorium zoo` and docs/zoo.md
	PARITY_FILE=src/sensorium/recipes/parity.json $(BIN)/python -m pytest -p no:xdist tests/recipes
	$(BIN)/sensorium zoo --markdown > docs/zoo.md

constraints: .venv ## Pin the versions that are now in .venv
	{ sed '/^[^#]/,$$d' constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' | LC_ALL=C sort -f; } > constraints.new
	mv constraints.new constraints.txt

clean: ## Remove .venv and caches; runs stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
