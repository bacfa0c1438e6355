# Needs python3 (3.11 or newer) with pip, and make. The first target that needs it creates .venv; all others reuse it.
PYTHON ?= python3
UV := .uv/bin/uv
UV_VERSION := 0.13.9
BIN := .venv/bin
READY := .venv/ready

# many tests and commands start a new Python, which would compile hundreds of modules each time
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-long check format bench pins clean help

help: ## show what can be made
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: $(READY) ## draw a small data set, train on it, show what is missed
	@$(BIN)/python datasets/demo/draw_scenes.py datasets/demo/source
	@$(BIN)/curate run pipelines/demo.yaml

# a process takes a whole file: its tests share models, databases and servers
test: $(READY) ## run the tests
	$(BIN)/pytest -n 2 --dist loadfile

# some of them take minutes: the watchdog that prints the threads of a hanging test would strike, and can end the process
test-long: $(READY) ## run the long tests: hundreds of kills, fuzzing, trainings, half an hour of watching
	@rm -rf build/figures
	@status=0; CURATE_FIGURES=$(CURDIR)/build/figures $(BIN)/pytest -m long -n 2 --dist worksteal -o faulthandler_timeout=3600 || status=$$?; \
		$(BIN)/python tests/support/tally.py build/figures docs/results.md; exit $$status

check: $(READY) ## lint, format, types, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: $(READY) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## measure, some of it against the fastest peers
	$(UV) pip install --quiet --python $(BIN)/python --group bench
	$(BIN)/python benchmarks/import_voc.py
	$(BIN)/python benchmarks/sample_frames.py
	$(BIN)/python benchmarks/load_view.py
	$(BIN)/python benchmarks/watch.py

pins: $(UV) ## update the pinned versions and their hashes
	$(UV) pip compile pyproject.toml --extra all --group dev --group database --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.txt

clean: ## remove what make and the demo wrote
	rm -rf .venv .uv build dist datasets/demo/source datasets/demo/data

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit("curate needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@echo "setting up: uv into .uv"
	@$(PYTHON) -m pip install --quiet --target .uv uv==$(UV_VERSION)

$(READY): pyproject.toml requirements.txt | $(UV)
	@echo "setting up: packages into .venv (some gigabytes, most of them torch)"
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --requirements requirements.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(READY)
