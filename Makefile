# Two commands do everything on a fresh machine with python3.11 and make; nothing needs to be activated.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/ready

.PHONY: repro test test-all attack lint environment clean

repro: $(READY)  ## data, trained model, report
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

test: $(READY)  ## the tests, but those marked slow: about 8 minutes on two cores
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n auto --dist worksteal -m "not slow"

test-all: test  ## every test; each kind of attack once: kills, damage, full disks, faults of a server, races
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n auto --dist worksteal -m slow

attack: $(READY)  ## ten minutes of attacks, and the table of how they ended
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/attacks/run.py --minutes 10

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

environment: $(READY)

# torch first and alone: the CPU build; afterwards nothing else may bring another one
$(READY): requirements.lock pyproject.toml
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

clean:
	rm -rf .venv artifacts outputs multirun
