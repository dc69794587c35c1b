# Every target does its own set-up. A second run installs nothing: the stamp files below depend on
# pyproject.toml and constraints.txt alone.
#   make demo          collect, train, evaluate and deploy a policy in simulation; ends with a report
#   make test          all tests             make soak    the same with full counts (hours)
#   make lint          ruff and mypy         make test-mujoco4   the simulation tests on MuJoCo 4
#   make test-franka-sim   the Franka driver against franka-sim, which enforces the arm's limits
#   make metaworld     Meta-World in an environment of its own, for task=metaworld
# Arguments for the demo or for pytest:  make demo ARGS="trainer.steps=500"   make test ARGS="-k spec"

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:

NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$name" $(NEW_ENOUGH) >/dev/null 2>&1 && { command -v "$$name"; break; }; done)

VENV := .venv
VENV_MUJOCO4 := .venv-mujoco4
VENV_METAWORLD := .venv-metaworld
VENV_FRANKA_SIM := .venv-franka-sim
INSTALL := -m pip install --quiet --disable-pip-version-check --no-input --progress-bar off
ARGS ?=
PYTEST := $(VENV)/bin/python -m pytest

.PHONY: help demo test lint soak test-mujoco4 test-franka-sim metaworld system-check system-packages clean

help:
	@sed -n '3,9s/^# *//p' Makefile

demo: $(VENV)/.demo-ready $(VENV)/.render-ready
	@$(VENV)/bin/robopolicy demo $(ARGS)

# What keeps no real time goes first, in processes side by side; what does (its mark says so) has the machine
# to itself.
test: $(VENV)/.test-ready $(VENV)/.render-ready
ifeq ($(strip $(ARGS)),)
	@status=0; \
	OMP_NUM_THREADS=1 $(PYTEST) -n auto --maxprocesses 4 --dist worksteal -m "not soak and not realtime" || status=$$?; \
	$(PYTEST) -m "realtime and not soak" || status=$$?; \
	exit $$status
else
	@$(PYTEST) $(ARGS)
endif

soak: $(VENV)/.test-ready $(VENV)/.render-ready
	@ROBOPOLICY_SOAK=1 $(PYTEST) -m "" $(ARGS)

lint: $(VENV)/.test-ready
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

test-mujoco4: $(VENV_MUJOCO4)/.test-ready
	@$(VENV_MUJOCO4)/bin/python tools/check_system.py --render
	@$(VENV_MUJOCO4)/bin/python -m pytest tests/sim $(ARGS)

# The server only, in that environment; the driver stays in its own.
test-franka-sim: $(VENV)/.test-ready $(VENV_FRANKA_SIM)/.ready
	@$(PYTEST) -m "" -rP tests/drivers/arms/test_franka_strict.py $(ARGS)

metaworld: $(VENV_METAWORLD)/.ready

system-check:
	@test -n "$(PYTHON)" || { echo "robopolicy needs Python 3.11 or newer and found none on the PATH." \
		"Install it (Debian 12: apt-get install python3; Ubuntu 22.04: apt-get install python3.11)" \
		"or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@"$(PYTHON)" $(NEW_ENOUGH) || { echo "PYTHON=$(PYTHON) is not Python 3.11 or newer." >&2; exit 1; }
	@"$(PYTHON)" tools/check_system.py

system-packages:
	@"$(PYTHON)" tools/check_system.py --packages

%/bin/python:
	@$(MAKE) --no-print-directory system-check
	@echo "Creating $* with $(PYTHON)"
	@"$(PYTHON)" -m venv --clear $*

$(VENV)/.demo-ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing the tested versions into $(VENV) (first time: a few minutes)"
	@$(VENV)/bin/python $(INSTALL) -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.test-ready: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing the tested versions, with the test tools, into $(VENV) (first time: a few minutes)"
	@$(VENV)/bin/python $(INSTALL) -c constraints.txt -e '.[demo,pusht,pybullet,dev]'
	@$(VENV)/bin/python $(INSTALL) --no-deps openpi-client==0.1.2 openpi-server==0.1.0  # they ask for numpy 1
	@touch $@ $(VENV)/.demo-ready

$(VENV_MUJOCO4)/.test-ready: pyproject.toml constraints.txt | $(VENV_MUJOCO4)/bin/python
	@echo "Installing MuJoCo 4 and the tested versions of the rest into $(VENV_MUJOCO4)"
	@grep -v '^mujoco==' constraints.txt > $(VENV_MUJOCO4)/constraints.txt
	@$(VENV_MUJOCO4)/bin/python $(INSTALL) -c $(VENV_MUJOCO4)/constraints.txt 'mujoco==4.0.0' -e '.[demo,pusht,pybullet,dev]'
	@touch $@

$(VENV_METAWORLD)/.ready: requirements-metaworld.txt | $(VENV_METAWORLD)/bin/python
	@echo "Installing the tested versions of Meta-World into $(VENV_METAWORLD)"
	@$(VENV_METAWORLD)/bin/python $(INSTALL) -r requirements-metaworld.txt
	@touch $@

$(VENV_FRANKA_SIM)/.ready: requirements-franka-sim.txt | $(VENV_FRANKA_SIM)/bin/python
	@echo "Installing the tested versions of franka-sim into $(VENV_FRANKA_SIM)"
	@$(VENV_FRANKA_SIM)/bin/python $(INSTALL) -r requirements-franka-sim.txt
	@touch $@

# Drawing a real frame is the only proof that headless rendering works; asked once for each environment.
$(VENV)/.render-ready: | $(VENV)/bin/python
	@$(VENV)/bin/python tools/check_system.py --render
	@touch $@

clean:
	rm -rf $(VENV) $(VENV_MUJOCO4) $(VENV_METAWORLD) $(VENV_FRANKA_SIM) .pytest_cache .mypy_cache .ruff_cache .hypothesis
