# Raydesk: `make serve` starts it, `make test` tests it. Each sets up what it needs first.

PORT ?= 8000
SETTINGS ?= cluster/local.yaml
DETACH ?=
VENV := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup serve stop status test bench check format

help:  ## this list
	@echo "make serve      set up and start Raydesk on http://127.0.0.1:8000/ (Ctrl-C ends it)"
	@echo "                  PORT=8001      another HTTP port; all others give way by themselves"
	@echo "                  DETACH=1       return when it is ready; 'make stop' ends it"
	@echo "                  SETTINGS=FILE  another settings file than cluster/local.yaml"
	@echo "make stop       end what 'make serve' started"
	@echo "make status     what runs: rooms, language models, addresses"
	@echo "make test       set up what testing needs and run every test"
	@echo "make bench      every measurement at a small size, beside its peers: perf/README.md"
	@echo "make check      ruff, mypy, import boundaries"
	@echo "make format     format the code"
	@echo "make setup      prepare .venv alone (DEV=1: with what testing needs)"

setup:
	@DEV="$(DEV)" cluster/setup.sh

serve: setup
	@$(VENV)/raydesk serve --settings "$(SETTINGS)" --port "$(PORT)" --sample $(if $(filter-out 0,$(DETACH)),--detach)

stop:
	@if [ -x $(VENV)/raydesk ]; then $(VENV)/raydesk stop; else echo "Nothing is installed here, so nothing runs."; fi

status: setup
	@$(VENV)/raydesk status

test:
	@DEV=1 cluster/setup.sh
	@cluster/setup_browser.sh
	$(VENV)/python -m pytest

bench:
	@DEV=1 cluster/setup.sh
	$(VENV)/python -m perf.bench $(ONLY)

check:
	@DEV=1 cluster/setup.sh
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy
	$(VENV)/lint-imports

format:
	@DEV=1 cluster/setup.sh
	$(VENV)/ruff check --fix
	$(VENV)/ruff format
