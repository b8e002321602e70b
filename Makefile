# The targets; `make` alone lists them. No environment needs to be active: everything runs from .venv.

# Each version that pyproject.toml names, and the first that runs here. (A name on the path may be a shim that does not.)
SUPPORTED := $(shell sed -n 's/.*Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml)
PYTHONS   ?= $(SUPPORTED:%=python%)
PYTHON    ?= $(shell for name in $(PYTHONS) python3; do $$name -c '' 2>/dev/null && echo $$name && exit; done; echo python3)

CORES  ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
STUDY  ?= flux
LEVEL  ?= rounding
KILLS  ?= 200
TABLES ?= results/reference/$(STUDY)/tables
OUT    ?= results/redrawn/$(STUDY)
DATA   ?= results/mlflow-server
PORT   ?= 5000

BIN       := .venv/bin
INSTALLED := .venv/.installed
PIP       := -m pip --disable-pip-version-check install --quiet
UV        := $(shell command -v uv || echo $(BIN)/uv)
SYNC      := $(UV) pip install --quiet --python $(BIN)/python --requirement requirements.lock
SMK_FILES := Snakefile workflow

REQUIRE_PYTHON = $(PYTHON) -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in "$(SUPPORTED)".split())' 2>/dev/null || { \
	echo "metabench needs Python $(firstword $(SUPPORTED)) to $(lastword $(SUPPORTED)), but '$(PYTHON)' is" \
	     "$$($(PYTHON) --version 2>/dev/null || echo not there);" \
	     "name another: make PYTHON=python$(firstword $(SUPPORTED)) ..." >&2; exit 1; }

# Install packages of Debian, as root. Elsewhere the tests that need them say what is missing.
define debian
	@if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && ! dpkg --status $(1) > /dev/null 2>&1; then \
		apt-get update -qq && apt-get install -qq -y $(1); fi
endef

# Byte code is compiled once, at the first import. If the environment forbids that, as container images often do, each of
# the hundreds of processes of a study or of the tests would compile all of it again, for seconds each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup benchmark smoke atlas docs docs-links report ui server figures verify reference soak bench growth literature test test-units test-views test-workflow test-studies test-faults test-cluster test-pythons test-server setup-cluster setup-server check format lock

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile
	@echo "Variables: CORES=$(CORES) STUDY=$(STUDY) PYTHON=$(PYTHON) TABLES=$(TABLES) OUT=$(OUT) LEVEL=$(LEVEL) KILLS=$(KILLS) DATA=$(DATA) PORT=$(PORT)"

setup: $(INSTALLED) ## Create .venv with the locked versions (again only when they change)

setup-cluster: .venv/.cluster ## Add the plugins that let Snakemake submit jobs to a cluster

setup-server: .venv/.server ## Add what a shared MLflow server needs beside PostgreSQL

benchmark: setup ## Run the study in config/STUDY.yaml on CORES cores (VERBOSE=1: with Snakemake's listing of jobs)
	@echo "reading the study $(STUDY)"
	@$(BIN)/metabench plan --config config/$(STUDY).yaml > /dev/null # a wrong file ends here, before Snakemake reads it
	$(BIN)/snakemake --cores $(CORES) --configfile config/$(STUDY).yaml $(if $(VERBOSE),--verbose)

smoke: setup ## Run the smallest study: every step in under a minute
	@echo "reading the study smoke"
	@$(BIN)/metabench plan --config config/smoke.yaml > /dev/null
	$(BIN)/snakemake --cores $(CORES) --configfile config/smoke.yaml

atlas: setup ## Evaluate the trained STUDY under the grids of config/STUDY-atlas.yaml
	@$(MAKE) --no-print-directory benchmark STUDY=$(STUDY)-atlas

report: setup ## Write results/STUDY/report.html of a finished study, and report.zip with its provenance
	$(BIN)/snakemake --configfile config/$(STUDY).yaml --report results/$(STUDY)/report.zip
	$(BIN)/metabench report --study $(STUDY)

docs: setup ## Build the documentation site, docs/_build/index.html
	$(BIN)/sphinx-build -W --keep-going -q -d docs/_build/.doctrees docs docs/_build
	@echo "docs/_build/index.html"

docs-links: setup ## Check the links of the pages to other sites (needs a network)
	$(BIN)/sphinx-build -b linkcheck -q -d docs/_build/.doctrees docs docs/_build/links

figures: setup ## Draw all figures from the tables in TABLES into OUT
	$(BIN)/metabench figures --tables "$(TABLES)" --out "$(OUT)"

ui: setup ## Show the runs of a tracked study in MLflow, until Ctrl-C
	$(BIN)/metabench ui --study $(STUDY)

server: setup-server ## Serve MLflow for several users at PORT, with PostgreSQL in the folder DATA, until Ctrl-C
	@$(BIN)/metabench server --data "$(DATA)" --port $(PORT)

verify: setup ## Compare the finished study's tables with the reference at LEVEL: identical, rounding or consistent
	$(BIN)/metabench verify --tables results/$(STUDY)/tables --reference results/reference/$(STUDY)/tables --level $(LEVEL)

reference: setup ## Replace results/reference/STUDY with the reduced results of the finished study
	$(BIN)/metabench reference --root results/$(STUDY) --out results/reference/$(STUDY)

soak: setup ## Kill the smoke study KILLS times at random moments; check that nothing is lost
	$(BIN)/python tests/soak.py --kills $(KILLS) --out results/soak/kills.csv

bench: .venv/.bench ## Measure speed against an arithmetic floor and other libraries, on one core and on all
	$(BIN)/python benchmarks/speed.py --out results/benchmarks

literature: setup ## Compare published numbers with the tables under results/reference
	$(BIN)/metabench literature --out results/literature

growth: setup ## Measure how time and memory grow with runs, width, shots, cores and cells
	$(BIN)/python benchmarks/growth.py --out results/benchmarks
	$(BIN)/python benchmarks/whole.py --out results/benchmarks
	$(BIN)/python benchmarks/parsing.py --out results/benchmarks

test: setup ## Run the checks and all tests, two parts at a time
	@echo "Six parts, two at a time; each is shown when it ends."
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target \
	  check test-studies test-units test-views test-workflow test-faults

test-units: setup ## Run all tests except views and workflow, and the docstring examples
	$(BIN)/pytest -p no:cacheprovider -m "not workflow and not faults" --ignore tests/views --ignore tests/workflow --ignore tests/cluster --ignore tests/server

test-views: setup ## Run the tests of figures, the report and MLflow
	$(BIN)/pytest -p no:cacheprovider -m "not workflow" tests/views

test-workflow: setup ## Run the tests of jobs, locks and faults that do not start Snakemake
	$(BIN)/pytest -p no:cacheprovider -m "not workflow" tests/workflow

test-studies: setup ## Run the tests that start Snakemake
	$(BIN)/pytest -p no:cacheprovider -m workflow tests

test-faults: setup ## Plant faults in copies of the code, and check that the tests detect them
	$(BIN)/pytest -p no:cacheprovider tests/learning/test_planted_faults.py

test-cluster: setup-cluster ## Run the smoke study on SLURM clusters on this machine (as root; on Debian it installs them)
	$(call debian,slurm-wlm munge slurmdbd mariadb-server)
	METABENCH_REQUIRED=1 $(BIN)/pytest -p no:cacheprovider tests/cluster

test-pythons: setup ## Run the smoke study with each of PYTHONS, in an environment of its own, and compare the bytes
	$(BIN)/python tests/pythons.py --cores $(CORES) $(PYTHONS)

test-server: setup-server ## Track studies on a shared MLflow server on this machine (as root on Debian it installs PostgreSQL)
	$(call debian,postgresql)
	METABENCH_REQUIRED=1 $(BIN)/pytest -p no:cacheprovider tests/server

check: setup ## Check format, style, types and rules; change nothing
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/snakefmt --check $(SMK_FILES)
	$(BIN)/snakemake --lint

format: setup ## Format Python and Snakemake files
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/snakefmt $(SMK_FILES)

lock: setup ## Update uv.lock and requirements.lock (new versions may give new numbers)
	$(BIN)/uv lock --upgrade
	{ sed -n '/^#/p' requirements.lock; \
	  $(BIN)/uv export --quiet --frozen --extra dev --no-emit-project --no-hashes --no-annotate --no-header \
	  | sed 's/ ;.*//; s/+cpu$$//' | uniq; \
	} > .venv/requirements.lock
	mv .venv/requirements.lock requirements.lock

# The commands of an environment contain its folder. If they contain a different one, it was copied or moved here. Its
# Python is also a different one if the command line names one.
ifneq ($(wildcard .venv),)
ifneq ($(shell head -n 2 $(BIN)/metabench 2>/dev/null | grep -F "$$(pwd -P)/$(BIN)/" >/dev/null && echo ours),ours)
$(INSTALLED): stray
else ifeq ($(origin PYTHON),command line)
ifneq ($(shell $(PYTHON) --version 2>&1),$(shell $(BIN)/python --version 2>&1))
$(INSTALLED): stray
endif
endif
endif

.PHONY: stray
stray:
	@$(REQUIRE_PYTHON)
	@echo "The environment .venv belongs to a different folder or Python, or is incomplete; recreating it."
	rm -rf .venv

# PyTorch's own index has builds without CUDA. Where it cannot be reached, PyPI's build has to do.
$(INSTALLED): requirements.lock pyproject.toml setup.py metabench/learning/engine/kernel.cpp
	@$(REQUIRE_PYTHON)
	$(PYTHON) -m venv .venv
	$(UV) --version > /dev/null 2>&1 || $(BIN)/python $(PIP) $(shell grep '^uv==' requirements.lock) || true
	$(SYNC) --torch-backend cpu 2> /dev/null || $(SYNC) || \
		$(BIN)/python $(PIP) --no-compile --requirement requirements.lock # byte code is made when first imported
	$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# The peers of the speed benchmark; if some are missing (for instance without a network), it continues with the others.
.venv/.bench: $(INSTALLED)
	@$(BIN)/python $(PIP) --no-build-isolation --constraint requirements.lock --editable '.[bench]' && touch $@ || \
		echo "the peers in the extra 'bench' could not be installed; continuing without them" >&2

# Most machines have no scheduler, and Snakemake loads every plugin that is installed at each start.
.venv/.cluster: $(INSTALLED)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --requirement pyproject.toml --extra cluster
	@touch $@

# Most users track in a file, which needs neither PostgreSQL nor user names.
.venv/.server: $(INSTALLED)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint requirements.lock --requirement pyproject.toml --extra server
	@touch $@
