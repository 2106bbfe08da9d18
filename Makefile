# Two commands do everything on a fresh machine: `make run` and `make test`.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

.PHONY: run test test-slow lint bench scores clean

run: $(VENV)/run.stamp  ## set up, then train DQN on CartPole-v1
	$(BIN)/rllab run dqn CartPole-v1

test: $(VENV)/dev.stamp  ## the fast tests: about five minutes
	$(BIN)/python -m pytest

test-slow: $(VENV)/dev.stamp  ## learning on several seeds, new processes, kill -9
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/dev.stamp  ## format, style, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(VENV)/dev.stamp  ## side by side with other libraries
	$(BIN)/python benchmarks/agents_vs_sb3.py
	$(BIN)/python benchmarks/trainer_overhead.py
	$(BIN)/python benchmarks/mnist_epoch.py
	$(BIN)/python benchmarks/ladder.py
	$(BIN)/python benchmarks/vae_epoch.py
	$(BIN)/python benchmarks/char_models.py
	$(BIN)/python benchmarks/generative.py

scores: $(VENV)/dev.stamp  ## what every agent reaches: make scores METHODS=dqn,ppo ENVS=CartPole-v1 SEEDS=0-4
	$(BIN)/python benchmarks/scores.py --methods "$(METHODS)" --envs "$(ENVS)" --seeds "$(SEEDS)"

clean:  ## remove the virtual environment and caches, no runs
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $(VENV)/run.stamp $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "rllab needs Python 3.11 or newer, and none was found. Install one, or name it:"; \
		echo "  make run PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "rllab needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)."; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) -V 2>&1); this takes a minute or two, once."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
