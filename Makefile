# Two commands from a bare clone do everything: `make demo` and `make test`.
# `make check` is what CI runs, line for line. PYTHON= picks the interpreter (3.11 or newer).
PYTHON ?= python3
MODEL ?= local-llm
RUNTIME ?= local
WORKERS ?= 3
SEEDS ?= 1100
JOBS ?= 2
VENV := .venv
PY := $(VENV)/bin/python
EXTRAS := mcp,redis,agui,pydantic-ai,sentencex,local-llm
NPM := tests/e2e/npm
PROTO := engine/proto/laneway/v1/edge.proto

export PYTHONUNBUFFERED = 1
# Tests start hundreds of processes, and each would compile everything again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check bench serve proto format lint types imports package examples simulate simulate-hour soak chaos trace clean

demo: $(VENV)/.demo
	$(PY) -m examples.demo --model $(MODEL) --runtime $(RUNTIME)

test: $(VENV)/.dev $(VENV)/.npm
	$(PY) -m pytest -n $(WORKERS)

check: format lint types imports test simulate package demo

format: $(VENV)/.dev
	$(VENV)/bin/ruff format --check .

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .

types: $(VENV)/.dev
	$(VENV)/bin/mypy

imports: $(VENV)/.dev
	$(VENV)/bin/lint-imports --no-cache

package: $(VENV)/.dev
	$(PY) tests/packaging/build_and_install.py

examples: $(VENV)/.dev
	$(PY) -m pytest tests/examples

trace: $(VENV)/.demo
	$(PY) -m examples.trace

bench: $(VENV)/.dev
	$(PY) -m benchmarks

simulate: $(VENV)/.dev
	$(PY) -m tests.simulation --seeds $(SEEDS) --jobs $(JOBS) --events $$(( $(SEEDS) * 910 ))

simulate-hour: $(VENV)/.dev
	$(PY) -m tests.simulation --hour

soak: $(VENV)/.dev
	$(PY) -m benchmarks.soak --seconds $(or $(SECONDS),60)

chaos: $(VENV)/.dev
	$(PY) -m tests.chaos --markdown docs/chaos.md

serve: $(VENV)/.demo
	$(VENV)/bin/laneway serve --model $(MODEL)

proto: $(VENV)/.dev
	$(PY) -m grpc_tools.protoc --proto_path=engine/proto --python_out=engine/proto --pyi_out=engine/proto \
		--grpc_python_out=engine/proto $(PROTO)
	sed -i.bak 's/^from laneway\.v1 import/from laneway.engine.proto.laneway.v1 import/' \
		engine/proto/laneway/v1/edge_pb2_grpc.py && rm engine/proto/laneway/v1/edge_pb2_grpc.py.bak

clean:
	rm -rf $(VENV) $(NPM)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "laneway needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "$(PYTHON) lacks venv/ensurepip; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml
	$(PY) -m pip install --quiet -e '.[mcp,local-llm]'
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml
	$(PY) -m pip install --quiet -e '.[$(EXTRAS)]' --group dev
	@touch $@ $(VENV)/.demo

# The stock web clients that tests drive. Without npm those tests are skipped, and say so.
$(VENV)/.npm: $(VENV)/.python $(NPM)/package-lock.json
	@if command -v npm >/dev/null; then \
		cd $(NPM) && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && \
		touch $(abspath $@); \
	else echo "npm is not installed: tests with stock web clients will be skipped (on Debian: apt-get install npm)" >&2; fi
