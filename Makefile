# Everything runs in .venv beside this file; the first target that needs it sets it up.
#
#   make demo     make a scene, train on it, evaluate, render a turntable
#   make test     the test suite           (make test ARGS="-k hashgrid -n 2")
#   make lint     ruff and mypy
#   make bench    benchmarks
#   make venv     only set up .venv        (PYTHON=python3.12 chooses the interpreter)

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TYPES := .mypy-package

.PHONY: help venv demo test lint format bench wheel clean

help:
	@sed -n 's/^#   //p' Makefile

$(READY): pyproject.toml constraints.txt .ci/setup
	@PYTHON="$(PYTHON)" .ci/setup $(VENV)
	@touch $@

venv: $(READY)

demo: $(READY)
	$(BIN)/fieldmorph demo --out demo --overwrite $(ARGS)

test: $(READY)
	$(BIN)/pytest $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p $(TYPES) && ln -sfn "$(CURDIR)" $(TYPES)/fieldmorph
	cd $(TYPES) && "$(CURDIR)/$(BIN)/mypy" --config-file fieldmorph/pyproject.toml --cache-dir "$(CURDIR)/.mypy_cache" -p fieldmorph

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/fieldmorph bench --out benchmarks/results $(ARGS)

wheel: $(READY)
	rm -rf build dist
	$(BIN)/python -m build --wheel

clean:
	rm -rf build dist *.egg-info $(TYPES) .pytest_cache .mypy_cache .ruff_cache .hypothesis
