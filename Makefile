# The commands of this project.  `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= paper_run
BENCH_OUT ?= build/benchmarks
ARGS ?=
SECONDS ?= 600
UV := 0.13.9
NOX := 2026.10.20
# Neither git nor a clone is needed: the source archive has the same files.
C_SOURCES := $(shell find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help sanitize reproduce test fuzz axe test-gpu wheels lint format fidelity docs bench notebooks reproduce-dip test-ray coverage lock faults soak matrix clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

reproduce: $(VENV)/ready ## re-run the paper on the default data: OUT=folder, ARGS='--data fashion-mnist ...'
	$(BIN)/python reproduce/run_paper.py --split 0 --seeds 3 --fast --out $(OUT) $(ARGS)

DIP_OUT ?= dip_run
reproduce-dip: $(VENV)/ready ## what the default data cannot show, BnB's dip at n = 4 and 5: half an hour; DIP_OUT=folder
	$(BIN)/python reproduce/run_paper.py --split 0 --data glyphs-large --treatments base,BnB,AnB --layers 3-5,7 --seeds 3 --fast --out $(DIP_OUT) $(ARGS)

test: $(VENV)/ready lint ## lint, then all tests
	$(BIN)/python -m pytest -n 2 --maxprocesses 2 --dist loadgroup $(ARGS)

fuzz: $(VENV)/ready ## damaged inputs for every reader: SECONDS=600 SEED=1 READERS='lmdb log', or REPLAY=a saved input
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(READERS),--readers $(READERS)) $(if $(REPLAY),--replay $(REPLAY))

PAGES ?= $(OUT)/report.html
axe: $(VENV)/ready ## what axe-core finds on pages, light and dark: PAGES='report.html http://127.0.0.1:8000'; needs Chromium and .[axe]
	$(BIN)/python -m tests.axe $(PAGES)

faults: $(VENV)/ready ## twenty random faults in one run of the experiment, and the same table: SEED=1 COUNT=20
	$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) $(if $(COUNT),--faults $(COUNT))

soak: $(VENV)/ready ## train, test, resume, load and reshape in one process for SECONDS=600: it must not grow, nor values change
	$(BIN)/python -m tests.soak --seconds $(SECONDS)

sanitize: $(VENV)/ready ## kernels, CUDA's on the host, under AddressSanitizer and UBSan; make test has the former
	SANITIZERS=address,undefined $(BIN)/python -m pytest -n 2 --maxprocesses 2 --dist loadgroup \
		tests/ops/test_host_*.py tests/data/test_stream_image.py tests/ops/test_conv_fast.py tests/ops/test_linear.py \
		tests/net/test_inference_program.py -m slow

test-ray: $(VENV)/ready ## a Ray cluster of processes of which one is killed; from then on `make faults` has that, too
	$(BIN)/pip install --quiet ray
	$(BIN)/python -m pytest -n 0 tests/ray_cluster.py

coverage: $(VENV)/ready ## all tests, with the lines that they reach, subprocesses' too: ARGS=tests/net for one room
	$(BIN)/python -m pytest -n 2 --maxprocesses 2 --dist loadgroup --cov --cov-report=term --cov-report=html $(ARGS)

lock: ## requirements.lock anew from requirements.txt: all packages with the hashes of their files
	$(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet uv==$(UV)
	build/lock/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" requirements.txt --output-file requirements.lock $(ARGS)

matrix: ## the wheel, built and tested outside of the checkout, for each PYTHONS='3.11 3.13' and TORCHES='2.10.0 2.14.1'
	$(PYTHON) -m venv build/nox && build/nox/bin/pip install --quiet nox==$(NOX) uv==$(UV)
	$(if $(PYTHONS),PYTHONS='$(PYTHONS)') $(if $(TORCHES),TORCHES='$(TORCHES)') build/nox/bin/nox --envdir build/matrix --error-on-missing-interpreters --session tests -- $(ARGS)

test-gpu: ## build, test and benchmark with the Python at hand on a machine with a GPU; no network needed
	bash benchmarks/run_on_gpu.sh $(ARGS)

# For the machine that test-gpu will run on: what its Python lacks, and which Python that is.
WHEEL_NAMES ?= lmdb
WHEEL_PYTHON ?= 3.12
wheels: ## fetch wheels for a GPU machine without network: WHEEL_NAMES='lmdb ...' WHEEL_PYTHON=3.12
	$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --implementation cp --python-version $(WHEEL_PYTHON) \
		$(foreach n,39 35 34 31 28 27 24 17 12 5,--platform manylinux_2_$(n)_x86_64) --platform manylinux2014_x86_64 -d wheels $(WHEEL_NAMES)

lint: $(VENV)/ready ## ruff, mypy, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(C_SOURCES)

format: $(VENV)/ready ## rewrite files in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(C_SOURCES)

fidelity: $(VENV)/ready ## compare with what Caffe 1.0 computed; writes docs/fidelity.md
	$(BIN)/caffe-compat fidelity --out docs/fidelity.md

docs: $(VENV)/ready ## the documentation as a site, in build/site; any warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/site

bench: $(VENV)/ready ## all benchmarks on this machine, then docs/benchmarks.md: BENCH_OUT=folder for the numbers
	mkdir -p $(BENCH_OUT)
	for name in lrn pool conv fastconv linear data; do \
		test ! -f benchmarks/bench_$$name.py || $(BIN)/python benchmarks/bench_$$name.py --json $(BENCH_OUT)/bench_$$name.json || exit; done
	$(BIN)/python benchmarks/bench_inference.py --json $(BENCH_OUT)/bench_inference.json
	$(BIN)/python benchmarks/bench_train.py --layers --json $(BENCH_OUT)/bench_train.json
	$(BIN)/python benchmarks/make_report.py $(BENCH_OUT)

notebooks: $(VENV)/ready ## examples/*.ipynb anew from the scripts
	$(BIN)/python examples/make_notebooks.py

clean: ## remove what make made
	rm -rf $(VENV) build dist *.egg-info caffe_compat/*.so

# One environment for everything: packages at the versions we test with, then the extension.  It is compiled in the
# source archive's files, where nothing of the checkout can stand in for what the archive lacks; the checkout uses it.
PACKAGE := build/package
$(VENV)/ready: pyproject.toml requirements.lock setup.py MANIFEST.in $(filter csrc/%,$(C_SOURCES))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV) || { echo "cannot make $(VENV): on Debian run apt-get install python3-venv" >&2; exit 2; }
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	rm -rf dist && $(BIN)/python setup.py --quiet sdist --dist-dir dist
	mkdir -p $(PACKAGE) && tar -xzf dist/caffe_compat-*.tar.gz -C $(PACKAGE) --strip-components=1
	$(BIN)/pip wheel --quiet --no-build-isolation --no-deps --wheel-dir dist ./$(PACKAGE)
	$(BIN)/python -m zipfile -e dist/caffe_compat-*.whl build/wheel && cp build/wheel/caffe_compat/_C.*.so caffe_compat/
	CAFFE_COMPAT_EXTENSION=0 $(BIN)/pip install --quiet --no-build-isolation --no-deps -e .
	@touch $@
