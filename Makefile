# make run                     environment, installation, then the recipe first_run, on bundled images
# make run ARGS="arch=resnet56 slim.target=0.3"
# make test                    environment, installation, lint, all tests
# make fast                    the same without the slow tests
# make long                    the tests that the others leave out: each takes most of a minute
# make lint                    ruff and mypy alone
# make docs                    the documentation as a site, into build/site
# make format                  let ruff lay out the code

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Two processes, each with whole files: what a file's tests share is made once. In their order: many small ones end it.
PARALLEL ?= -n 2 --dist loadfile --no-loadscope-reorder
READY = $(VENV)/.ready

.PHONY: run test fast long lint docs format clean
.DEFAULT_GOAL = run

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Again whenever what is installed changes.
$(READY): setup.cfg pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs,export,joblib,optuna,test]"
	touch $(READY)

run: $(READY)
	$(BIN)/python -m autoslim $(or $(ARGS),+recipe=first_run)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -q $(PARALLEL) $(ARGS)

fast: lint
	$(BIN)/python -m pytest -q $(PARALLEL) -m "not slow and not long" $(ARGS)

docs: $(READY)
	PYTHONPATH=scripts $(BIN)/python -m mkdocs build --strict

long: lint
	$(BIN)/python -m pytest -q $(PARALLEL) -m long $(ARGS)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
