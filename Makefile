# Every target installs what it needs into .venv, once. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
# The environment is made again only when one of these two files changes; the stamp's name is their checksum.
STAMP := $(VENV)/.set-up-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)
JOBS ?= 2

# One thread a process and no spinning: two processes that each take two threads on two cores are five times slower.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export PYTHONUTF8 = 1
export PYDEVD_DISABLE_FILE_VALIDATION = 1
export JUPYTER_PLATFORM_DIRS = 1

# $(call apt,PACKAGES): install Debian packages where that is possible, as root or through sudo.
apt = { command -v apt-get >/dev/null && $(SUDO) true 2>/dev/null && { $(APT) install $(1) || { $(APT) update && $(APT) install $(1); }; }; }
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -n)
APT := $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -y -qq --no-install-recommends

# JupyterLab does not start for root, whom containers and rented machines have, unless it is told to.
ROOT_TOO := $(if $(filter 0,$(shell id -u)),--allow-root)

NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout=600 --nbval-kernel-startup-timeout=120 \
         --nbval-sanitize-with tests/nbval_sanitize.cfg
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder

.PHONY: help book test test-package test-notebooks test-book lab refresh sync checkpoints mutate bench designs live browser set-up clean release-check sandbox assignments grade check-submission formgrader

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

set-up: $(STAMP)  ## install everything of requirements.lock, and this package, into .venv

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
	  "Python 3.11 or newer is needed and '$(PYTHON)' is not: install it, or run 'make PYTHON=/path/to/python3.11'." >&2; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); $(call apt,python3-venv) \
	  && $(PYTHON) -m venv $(VENV); } || { rm -rf $(VENV); echo \
	  "Python cannot make a virtual environment here: install its venv module (Debian: apt-get install python3-venv)." >&2; exit 1; }
	@[ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@rm -f $(VENV)/.set-up-*; touch $@

browser:  ## install Chromium for the page tests, where apt-get can
	@[ -n "$${SORA_NB_CHROMIUM:-}" ] || command -v chromium chromium-browser google-chrome >/dev/null || $(call apt,chromium fonts-liberation) >/dev/null || { echo \
	  "The page tests need Chromium: install it, or set SORA_NB_CHROMIUM to the path of a Chromium or Chrome." >&2; exit 1; }

book: $(STAMP)  ## run the chapters that changed and build the book: book/_build/html/index.html
	@$(BIN)/python scripts/chapters.py execute --out build/chapters --jobs $(JOBS)
	@$(BIN)/python scripts/build_book.py --notebooks build/chapters

test: $(STAMP) browser sandbox  ## run every test: package, notebooks, book
	@$(PYTEST) notebooks tests $(NBVAL)

test-package: $(STAMP) browser sandbox  ## only the package's tests
	@$(PYTEST) tests --ignore tests/test_book.py --ignore tests/test_notebooks.py --ignore tests/test_mutations.py

test-notebooks: $(STAMP)  ## only the chapters
	@$(PYTEST) notebooks tests/test_notebooks.py $(NBVAL)

test-book: $(STAMP) browser  ## only the built pages, in Chromium
	@$(PYTEST) tests/test_book.py

lab: $(STAMP)  ## open JupyterLab on chapter 01
	@$(BIN)/jupyter lab $(ROOT_TOO) --ServerApp.root_dir=. $(firstword $(wildcard notebooks/01_*.ipynb) notebooks)

refresh: $(STAMP)  ## run chapters into their committed pairs (make refresh CHAPTERS="02 03"; all by default)
	@$(BIN)/python scripts/chapters.py refresh $(CHAPTERS)

sync: $(STAMP)  ## write each chapter's .ipynb from its .py, keeping outputs
	@$(BIN)/python scripts/chapters.py sync

checkpoints: $(STAMP)  ## train the small recipes in data/checkpoints that are not there
	@$(BIN)/python scripts/checkpoints.py

mutate: $(STAMP)  ## break lines of the package one at a time and require red tests (BUDGET=120 SEED=0)
	@$(BIN)/python scripts/mutate.py --budget $(or $(BUDGET),120) --seed $(or $(SEED),0)

sandbox:  ## install bubblewrap, which shuts students' code in, where apt-get can
	@[ "$$(uname)" != Linux ] || command -v bwrap >/dev/null || $(call apt,bubblewrap) >/dev/null || echo \
	  "Students' code should run in a sandbox: install bubblewrap." >&2

# The course kit's paths are given from where make was called.
COURSE ?= notebooks/assignments/course

assignments: $(STAMP)  ## build the problem sets of a course (SECRET=... COURSE=folder SETS="01_video_as_data")
	@$(BIN)/python -m scripts.course.build --secret "$(SECRET)" --course "$(COURSE)" $(SETS)

grade: $(STAMP) sandbox  ## grade a folder of submissions, STUDENT/NOTEBOOK.ipynb (SUBMISSIONS=folder COURSE=folder)
	@$(BIN)/python -m scripts.course.grade "$(SUBMISSIONS)" --course "$(COURSE)" --jobs $(JOBS)

check-submission: $(STAMP) sandbox  ## will this notebook grade? (FILE=notebook.ipynb)
	@$(BIN)/python -m scripts.course.submission "$(FILE)"

# Its pages do not log in by themselves, so the door is the login page.
formgrader: $(STAMP)  ## mark answers by hand, in a browser (COURSE=folder)
	@cd "$(COURSE)" && PYTHONPATH="$(CURDIR)" "$(CURDIR)/$(BIN)/jupyter" lab $(ROOT_TOO) '--LabApp.default_url=/login?next=/formgrader'

bench: $(STAMP)  ## the side-by-side benchmarks; installs the peers they are compared with
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --editable '.[bench]'
	@set -e; for script in scripts/benchmark_*.py; do $(BIN)/python $$script; done

designs: $(STAMP)  ## the runs of chapter 13 over all designs and seeds, into its receipt (resumable; SORA_NB_TIER)
	@$(BIN)/python scripts/five_designs.py --jobs $(JOBS)

live: $(STAMP)  ## train the network of the page "The model in the page", and chapter 20's, and write the files that the page loads
	@$(BIN)/python scripts/live_model.py --plan live
	@$(BIN)/python scripts/live_model.py --plan page
	@$(BIN)/python scripts/live_page.py

release-check: $(STAMP)  ## may this commit be tagged and archived?
	@$(BIN)/python scripts/release.py

clean:  ## remove what was built; generated data and .venv stay
	rm -rf build book/_build .pytest_cache .ruff_cache .hypothesis
