# make demo: see it work. make test: lint and tests. make test-all: with the long ones. make docs: the site, build/docs.
# PYTHON=python3.12 picks another.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Most of a test is compilation, on one core; a file stays on one worker, with its fixtures.
PARALLEL ?= -n 2 --dist loadfile
# Without an NVIDIA GPU, JAX without CUDA.
STRIP_CUDA = $(if $(shell nvidia-smi -L 2>/dev/null | grep GPU),,-e 's/\[cuda12\]//')

.PHONY: demo test test-all lint docs clean

demo: $(VENV)/.installed
	$(BIN)/python -m experiments.demo --workdir=runs/demo

test: lint $(VENV)/.installed-test
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest $(PARALLEL)

# With XLA_FLAGS set, tests are compiled with all of XLA's optimisations.
test-all: lint $(VENV)/.installed-test
	XLA_FLAGS="$$XLA_FLAGS" JAX_PLATFORMS=cpu $(BIN)/python -m pytest $(PARALLEL) -m "long or not long"

lint: $(VENV)/.installed-test
	$(BIN)/python -m flake8

# All of it each time: what was built before is not warned of again.
docs: $(VENV)/.installed-docs
	JAX_PLATFORMS=cpu $(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet docs build/docs

$(VENV)/.installed: requirements.txt setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lcode needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	sed $(STRIP_CUDA) -e '/^#/d' requirements.txt > $(VENV)/requirements.txt
	$(BIN)/python -m pip install --quiet -r $(VENV)/requirements.txt -e .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info runs
