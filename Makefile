# make help says what there is. Everything is installed into .venv, at the versions of constraints.txt.

PYTHON ?= python3
# An index that serves torch, where pip's default would bring a build of gigabytes.
TORCH_INDEX ?=
PORT ?= 8888
LAB_OPTIONS ?=
BENCH_OPTIONS ?=
# For make pythons: the newest that is installed if none is named.
OTHER_PYTHONS ?=
# For make release: the new version, and --dry-run to see what it would change.
VERSION ?=
RELEASE_OPTIONS ?=
# For make dist: --only sim base, say, or --no-pythons.
DIST_OPTIONS ?=
# How many tests run at the same time; 0 for one after the other.
WORKERS ?= 2
# Tests may take this long in all: pytest-xdist can wait for ever after a worker has crashed.
TEST_SECS ?= 2400
# Soak tests may take this long in all.
SOAK_SECS ?= 3600

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(QUIET)
# What was installed before is told at length no second time.
QUIET = $(if $(wildcard $@),--quiet)
FIRST_NOTEBOOK := notebooks/01_first_dataflow.ipynb
# Neither a user's own settings nor a webcam may change what notebooks print.
NOTEBOOK_SETTINGS := IPYTHONDIR=$(CURDIR)/build/ipython MPLCONFIGDIR=$(CURDIR)/build/matplotlib \
	CAMERA_SOURCE=scene
LINT := { $(BIN)/ruff format --check && $(BIN)/ruff check && nice $(BIN)/mypy; }
# Tests start thousands of processes: without bytecode each of them would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE
heading = @printf '\n== %s\n' "$(1)"

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "PYTHON=python3.12      the Python to make .venv with (3.11 or newer)"
	@echo "TORCH_INDEX=URL        take torch from that index"
	@echo "PORT=8889              the port of make lab"
	@echo "WORKERS=4              how many tests make test runs at the same time"

.PHONY: demo
demo: system-demo $(VENV)/.tutorial ## Run the first notebook without a screen; see build/demo
	$(NOTEBOOK_SETTINGS) $(BIN)/python scripts/demo.py

.PHONY: test
test: system-test $(VENV)/.dev ## Everything that must hold before a change lands
	$(call heading,ruff and mypy beside pytest)
	@$(LINT) >build/lint.txt 2>&1 & lint=$$!; \
	timeout --foreground --signal=INT --kill-after=20 $(TEST_SECS) $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope \
		--no-loadscope-reorder --durations=10; tests=$$?; \
	wait $$lint; lint=$$?; cat build/lint.txt; exit $$(( tests || lint ))
	$(call heading,notebooks)
	$(NOTEBOOK_SETTINGS) $(BIN)/python -m pytest -o faulthandler_timeout=0 -p nbval.plugin --nbval \
		--nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg \
		--nbval-cell-timeout 60 notebooks

# Status 5 of pytest says that nothing was selected: then nothing was shown, and the line says so.
.PHONY: soak
soak: system-test $(VENV)/.dev ## The long tests, an hour at most
	$(call heading,soak)
	@$(BIN)/python -m pytest -m soak --collect-only -q >build/soak.txt 2>&1; status=$$?; \
	if [ $$status -eq 5 ]; then echo "no test is marked soak: nothing was run"; \
	elif [ $$status -ne 0 ]; then cat build/soak.txt; exit $$status; \
	else timeout --kill-after=10 $(SOAK_SECS) \
		$(BIN)/python -m pytest -m soak -o faulthandler_timeout=$(SOAK_SECS) --durations=0; fi

# No notebook is executed and nothing is fetched; a warning, such as a link that leads nowhere, is an error. With
# the environment of an earlier build, pages that did not change would keep the old contents beside them.
.PHONY: docs
docs: system-demo $(VENV)/.dev ## Build the guide as a site; see build/docs/index.html
	$(call heading,docs)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --fresh-env -b html -c docs . build/docs
	@echo "build/docs/index.html"

.PHONY: picture
picture: system-test $(VENV)/.dev ## Film the moving picture of README.md anew, in a browser
	$(call heading,picture)
	$(BIN)/python scripts/moving_picture.py

.PHONY: pythons
pythons: $(VENV)/.made ## The tests that need neither torch nor a browser, on another Python
	$(call heading,other Pythons)
	$(BIN)/python scripts/other_pythons.py $(OTHER_PYTHONS)

.PHONY: dist
dist: system-test $(VENV)/.dev ## Build sdist and wheel, and check them with every extra; see dist
	$(call heading,dist)
	$(BIN)/python scripts/check_dist.py $(if $(TORCH_INDEX),--torch-index '$(TORCH_INDEX)') $(DIST_OPTIONS)

.PHONY: release
release: check-version $(VENV)/.dev ## Set VERSION=0.2.0, date the changelog, commit and tag
	@$(BIN)/python scripts/release.py '$(VERSION)' $(RELEASE_OPTIONS)

.PHONY: check-version
check-version:
	@test -n '$(VERSION)' || { echo "which version? make release VERSION=0.2.0" >&2; exit 1; }

.PHONY: bench
bench: system-test $(VENV)/.benchmarks ## Measure the whole path beside every peer, about 15 minutes
	$(BIN)/python -m benchmarks.whole_path $(BENCH_OPTIONS)
	$(BIN)/python -m benchmarks.comparing
	$(BIN)/python -m benchmarks.replay_rhythm
	$(BIN)/python -m benchmarks.recorded_files
	$(BIN)/python -m benchmarks.recording

.PHONY: bench-views
bench-views: system-test $(VENV)/.dev ## Measure views and controls in a browser, about 6 minutes
	$(BIN)/python -m benchmarks.views $(BENCH_OPTIONS)

.PHONY: lab
lab: system-demo $(VENV)/.tutorial ## Open JupyterLab on the first notebook
	$(BIN)/jupyter lab --port $(PORT) $(if $(filter 0,$(shell id -u)),--allow-root) \
		$(LAB_OPTIONS) $(FIRST_NOTEBOOK)

.PHONY: clean
clean: ## Remove what the others made, but .venv
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis test-results
	find . -name .venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

.PHONY: system-demo system-test check-python
system-demo system-test: system-%: check-python
	@mkdir -p build
	@$(PYTHON) scripts/system_packages.py $*

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) is not Python 3.11 or newer: name one, as in make PYTHON=python3.12" >&2; \
		exit 1; }

# Each stamp is made last, so what was interrupted is done again.
$(VENV)/.made:
	@$(PYTHON) scripts/system_packages.py venv
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The build backend is installed first, since pip would take its newest release, not the pinned one.
$(VENV)/.tutorial $(VENV)/.dev $(VENV)/.benchmarks: $(VENV)/.%: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP_INSTALL) hatchling
	$(PIP_INSTALL) --no-build-isolation -e '.[$*]'
	@touch $@ $(if $(filter dev benchmarks,$*),$(VENV)/.tutorial)

# torch alone and first: that index need not have anything else.
ifneq ($(TORCH_INDEX),)
$(VENV)/.tutorial $(VENV)/.dev $(VENV)/.benchmarks: $(VENV)/.torch-index
$(VENV)/.torch-index: $(VENV)/.made FORCE
	@grep -qxF '$(TORCH_INDEX)' $@ 2>/dev/null || { set -e; \
		$(PIP_INSTALL) --index-url '$(TORCH_INDEX)' --no-deps --force-reinstall torch; \
		echo '$(TORCH_INDEX)' > $@; }
endif

.PHONY: FORCE
FORCE:
