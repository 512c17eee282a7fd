# The commands of this project.  `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= paper_run
ARGS ?=
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help reproduce test test-gpu lint format fidelity bench clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

reproduce: $(VENV)/ready ## re-run the paper on the default data: OUT=folder, ARGS='--data fashion-mnist ...'
	$(BIN)/python reproduce/run_paper.py --split 0 --out $(OUT) $(ARGS)

test: $(VENV)/ready lint ## lint, then all tests
	$(BIN)/python -m pytest -n 2 --maxprocesses 2 $(ARGS)

test-gpu: ## build, test and benchmark with the Python at hand on a machine with a GPU; no network needed
	bash benchmarks/run_on_gpu.sh

lint: $(VENV)/ready ## ruff, mypy, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' 'tests/*.cpp' 'tests/*.h' | xargs -r $(BIN)/clang-format --dry-run -Werror

format: $(VENV)/ready ## rewrite files in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' 'tests/*.cpp' 'tests/*.h' | xargs -r $(BIN)/clang-format -i

fidelity: $(VENV)/ready ## compare with what Caffe 1.0 computed; writes docs/fidelity.md
	$(BIN)/caffe-compat fidelity --out docs/fidelity.md

bench: $(VENV)/ready ## LRN, convolution and data benchmarks on this machine
	$(BIN)/python benchmarks/bench_lrn.py
	$(BIN)/python benchmarks/bench_conv.py
	$(BIN)/python benchmarks/bench_data.py

clean: ## remove what make made
	rm -rf $(VENV) build *.egg-info caffe_compat/*.so

# One environment for everything: packages at the versions we test with, then the extension, built in place.
$(VENV)/ready: pyproject.toml requirements.txt setup.py $(shell git ls-files csrc 2>/dev/null)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV) || { echo "cannot make $(VENV): on Debian run apt-get install python3-venv" >&2; exit 2; }
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -r requirements.txt
	$(BIN)/pip install --quiet --no-build-isolation --no-deps -e .
	@touch $@
