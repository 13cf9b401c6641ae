# From nothing, on a machine with Python 3.11 to 3.13:
#   make submission [RECIPE=single] [DATA=auto]    environment, data, train, predict: a CSV for Kaggle
#   make test                                      environment, the tests; make slow-test: those of a minute and more
#   make bench                                     environment, PyTorch, the benchmarks of speed: benchmarks/RESULTS.md
#   make lint                                      the linters; make floors: redraws the picture in CONTRIBUTING.md
#   make gallery RUN=single-1 [DATA=auto]          the README's pictures, of a finished run
# GPU=1 installs CUDA for an NVIDIA GPU, GPU=0 computes on the CPU; the default is 1 on x86-64 with an NVIDIA driver.

# PYTHON is the first command with a Python version that TensorFlow has wheels for; FITS checks the version.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(or $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c '$(FITS)' 2> /dev/null && echo $$p && break; done),python3)
RECIPE ?= single
DATA ?= auto
# Where Linux and WSL2 have an NVIDIA driver (recognizer/base/gpu_advice.py has the same list); on ARM TensorFlow has no GPU support.
DRIVERS := /proc/driver/nvidia /usr/lib/wsl/lib/libcuda.so.1
GPU ?= $(if $(and $(filter x86_64,$(shell uname -m)),$(wildcard $(DRIVERS))),1,0)
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

RUN ?= single-1
SLOW ?= slow

ifeq ($(filter 0 1,$(GPU)),)
$(error GPU must be 0 or 1, not "$(GPU)")
endif
ifeq ($(GPU),0)
ifneq ($(origin GPU),file)  # the user set GPU=0: hide the GPUs
export CUDA_VISIBLE_DEVICES := -1
endif
endif
REQUIREMENTS := $(if $(filter 1,$(GPU)),requirements/gpu.txt,requirements.txt)
INSTALLED := .venv/installed-$(basename $(notdir $(REQUIREMENTS)))
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check -r

.PHONY: submission test slow-test lint floors bench gallery
submission: $(INSTALLED)
	$(BIN)/python train.py $(RECIPE) --data "$(DATA)"
	$(BIN)/python predict.py

test: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

slow-test: .venv/installed-dev .venv/installed-cluster .venv-kaggle/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations 100 -m "$(SLOW)"

# PyTorch's wheels bring cuDNN for CUDA 13 in files of the same names as TensorFlow's: GPU=1 does not install PyTorch.
bench: $(if $(filter 1,$(GPU)),$(INSTALLED),.venv/installed-bench)
	$(BIN)/python benchmarks/bench.py --data "$(DATA)"

gallery: $(INSTALLED)
	$(BIN)/python -m recognizer plot augmented --data "$(DATA)" --out docs/pictures/augmented.png
	$(BIN)/python -m recognizer plot centres --data "$(DATA)" --out docs/pictures/centres.png
	cp $(patsubst %,runs/$(RUN)/%.png,curves confusion mistakes hardest) docs/pictures/

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=. $(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python docs/floors.py --check

floors: .venv/installed-dev
	$(BIN)/python docs/floors.py

$(BIN)/python:
	@$(PYTHON) -c '$(FITS)' || { echo "Python 3.11 to 3.13 is needed, but $(PYTHON) is $$($(PYTHON) --version): make PYTHON=python3.12 ..., or let uv fetch one: uv venv --seed --python 3.12 .venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }  # else the next make takes half a .venv for a whole one

# Installed once for each value of GPU, and again when the requirements change.
$(INSTALLED): requirements.txt $(REQUIREMENTS) | $(BIN)/python
	$(BIN)/python $(PIP_INSTALL) $(REQUIREMENTS)
	@touch $@

.venv/installed-dev: requirements/dev.txt requirements/export.txt requirements/draw.txt $(INSTALLED)
	$(BIN)/python $(PIP_INSTALL) requirements/dev.txt
	@touch $@

.venv/installed-cluster: requirements/cluster.txt $(INSTALLED)
	$(BIN)/python $(PIP_INSTALL) requirements/cluster.txt
	@touch $@

.venv/installed-bench: requirements/bench.txt $(INSTALLED)
	$(BIN)/python $(PIP_INSTALL) requirements/bench.txt
	@touch $@

# Kaggle's package versions, for tests/scripts/test_versions.py. Without Python 3.12 or 3.13 a line says that its slow
# tests are skipped.
KAGGLE_PYTHON ?= python3.12 "$$(pyenv root 2> /dev/null)"/versions/3.12*/bin/python "$$(uv python find 3.12 2> /dev/null)" $(PYTHON)
.venv-kaggle/installed: requirements/kaggle.txt
	@for python in $(KAGGLE_PYTHON); do \
	    "$$python" -c 'import sys; sys.exit(not (3, 12) <= sys.version_info[:2] <= (3, 13))' 2> /dev/null && break; python=; \
	done; \
	if [ -z "$$python" ]; then echo "no Python 3.12 or 3.13 for .venv-kaggle: its tests are skipped"; exit; fi; \
	set -ex; rm -rf .venv-kaggle; "$$python" -m venv .venv-kaggle; \
	.venv-kaggle/bin/python $(PIP_INSTALL) requirements/kaggle.txt; \
	touch $@
