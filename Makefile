# Everything a person or CI does here. `make run` and `make test` need only Python >= 3.11, git and make.
PYTHON ?= python3
TORCH  ?= torch==2.13.0
SEED   ?= 0
BIN    := .venv/bin

.PHONY: run demo test lint types fast starter lock bench clean browser deploy
run: .venv/ready
	@$(BIN)/python app.py

demo: .venv/ready
	@$(BIN)/python -m agent demo --seed $(SEED)

# Tests kill, wait and draw on real processes: one that a busy machine has upset is tried once more, and the summary counts it.
test: lint types browser
	$(BIN)/python -m pytest -q -n 2 --dist worksteal --reruns 1

fast: .venv/ready-dev
	$(BIN)/python -m pytest -q -m "not slow"

lint: .venv/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/ready-dev
	$(BIN)/basedpyright

browser: .venv/ready-dev
	@sh scripts/browser.sh

bench: .venv/ready
	$(BIN)/python -m benchmarks.log

# This commit as a Space of yours, private at first; HF_TOKEN must be set. Waits until it runs.
deploy: .venv/ready
	@test -n "$(SPACE)" || { echo "Say which Space: make deploy SPACE=user/name" >&2; exit 2; }
	@PYTHONPATH=. $(BIN)/python scripts/deploy.py "$(SPACE)"

starter: .venv/ready
	$(BIN)/python -m recipes.pretrain starter/model

# The environment: torch first and by itself, because its wheel is the one thing that differs between machines.
# On Linux the index's default wheel is the CUDA build. A machine without a GPU saves gigabytes with
#   make run TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
.venv/torch:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "ml-intern needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": say make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet $(TORCH)
	@touch $@

.venv/ready: .venv/torch requirements.txt requirements-gym.txt requirements.lock
	$(BIN)/pip install --quiet -r requirements.txt -c requirements.lock
	@$(BIN)/pip install --quiet -r requirements-gym.txt -c requirements.lock >.venv/gym.log 2>&1 || echo "The gym: tasks are left out: reasoning-gym could not be installed (.venv/gym.log), which needs a C compiler and Python's headers. With them: rm .venv/ready, and make again."
	@touch $@

.venv/ready-dev: .venv/ready requirements-dev.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt -c requirements.lock
	@touch $@

# Resolve anew into an empty environment and write down what came out.
lock:
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/pip install --quiet --upgrade pip
	.lock/bin/pip install --quiet $(TORCH)
	.lock/bin/pip install --quiet -r requirements-dev.txt
	.lock/bin/pip freeze --exclude-editable | sed 's/^torch==\([0-9.]*\).*/torch==\1/' > requirements.lock
	rm -rf .lock

clean:
	rm -rf .venv .lock .pytest_cache .ruff_cache tests/shots
