# Everything a developer does with a checkout. Needs Python 3.10 or newer with venv, gcc/g++ and make; all else comes from
# PyPI into .venv.

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/dev.txt
# Where torch cannot be had, `make test TORCH=` runs the suite without the tests that need it.
TORCH ?= torch==2.13.0
# Processes that run the tests, each with a Ray of its own. Much of a test is waiting: for processes to start, mostly.
TEST_JOBS ?= 2
# A file's tests stay together, and the files in the order of tests/conftest.py: the longest first.
IN_PARALLEL := -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder
BUILD := build/dev

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python3.10; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$python && break; done)

.PHONY: help venv build demo test test-parity test-ray-versions bench lint clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.installed ## create .venv with the pinned dependencies and this checkout

build: $(BUILD)/build.ninja ## build the native core into the checkout
	@$(BIN)/cmake --build $(BUILD)

demo: build ## compare classic Ray, Ray's Compiled Graph and cgc; leave IR, programs and schedules in demo-out/
	@$(BIN)/python tools/demo.py

test: build $(if $(TORCH),$(VENV)/.installed-torch) ## run the test suite (PYTEST_ARGS=... narrows it)
	@$(BIN)/python -m pytest $(IN_PARALLEL) $(PYTEST_ARGS)

test-parity: build ## hold the tests of tests/parity to Ray's own implementation too, which takes minutes
	@CGC_TEST_PARITY=1 $(BIN)/python -m pytest tests/parity tests/test_ray_programs.py $(PYTEST_ARGS)

test-ray-versions: build ## run the tests that depend on Ray with each supported version, each in build/ray-VERSION
	@$(BIN)/python tools/ray_versions.py -- -q $(IN_PARALLEL) $(PYTEST_ARGS)

bench: build ## run the benchmarks without tensors (BENCH_ARGS=--quick for a short run)
	@$(BIN)/python tools/bench/latency.py $(BENCH_ARGS)
	@$(BIN)/python tools/bench/shm_queue.py $(BENCH_ARGS)
	@$(BIN)/python tools/bench/compile_time.py $(BENCH_ARGS)
	@$(BIN)/python tools/bench/idle.py $(BENCH_ARGS)

lint: venv ## ruff, mypy --strict on cgc/, import-linter for the layers
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

clean: ## remove everything that was built or written, but .venv
	rm -rf build dist demo-out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	rm -f cgc/runtime/_core*.so
	find cgc tests tools -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml requirements/dev.txt
	@test -x $(BIN)/python || test -n "$(PYTHON)" || \
		{ echo "cgc needs Python 3.10 or newer with the venv module (on Debian: apt install python3-venv python3-dev)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) scikit-build-core nanobind cmake ninja
	$(PIP_INSTALL) --no-build-isolation -e '.[dev]'
	@# Only the path stays: the import hook beside it would hide a copy of the package that PYTHONPATH names.
	@sed -i '/^import /d' $(VENV)/lib/python3*/site-packages/_editable_skbc_cgc.pth
	@touch $@

$(VENV)/.installed-torch: $(VENV)/.installed
	$(PIP_INSTALL) $(TORCH)
	@touch $@

$(BUILD)/build.ninja: CMakeLists.txt $(VENV)/.installed
	$(BIN)/cmake --fresh -S . -B $(BUILD) -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) \
		-DCMAKE_BUILD_TYPE=Release -DCGC_IN_TREE=ON -DPython_EXECUTABLE=$(abspath $(BIN)/python)
