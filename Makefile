# make help lists the targets. Everything is installed into $(VENV).
VENV ?= .venv
PY   ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
BIN  := $(VENV)/bin
# Two stamps, so that serving installs no training or test package.
SERVE := $(VENV)/.installed-serve
DEV   := $(VENV)/.installed-dev
# Modules compiled as pip does it: else the first start does, and each one that may not write.
UV_INSTALL := $(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python -c constraints.txt -e

# Where pip is told of a folder of wheels, tell uv too; elsewhere uv picks torch's CPU or CUDA build.
ifneq ($(PIP_FIND_LINKS),)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
else
export UV_TORCH_BACKEND ?= auto
endif

.PHONY: dev serve test check format docs openapi bench bench-peers bench-training evaluate image-test help
help:            ## show these lines
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

serve: $(SERVE)  ## install what serving needs, then serve models_store on HOST:PORT
	$(BIN)/python -m app --host $(HOST) --port $(PORT)

dev: $(DEV)      ## install what training and tests need as well

test: $(DEV)     ## run all tests
	$(BIN)/python -m pytest

check: $(DEV)    ## lint, types, layers, files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py tests/docs/test_reference.py tests/docs/test_links.py
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	bash -n .ci/run
	bash -n tests/image.sh
	sh -n tests/api_walk.sh

format: $(DEV)   ## rewrite the code in the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(DEV)     ## write docs/openapi.json and the tables of docs/reference from the code
	$(BIN)/python -m docs.generate

openapi: $(DEV)  ## write docs/openapi.json anew, after a change of the interface
	$(BIN)/python -m app.openapi > docs/openapi.json

bench: $(DEV)    ## rates, latencies, overload, start beside floors and targets (needs wrk)
	$(BIN)/python -m bench

bench-peers: $(DEV)  ## the same load on six other servers, installed on first use (needs wrk, Java)
	$(BIN)/python -m bench.peers

evaluate: $(DEV) ## figures of every shipped checkpoint beside those of real images
	$(BIN)/python -m training evaluate --all
	$(BIN)/python -m training evaluate --all --store models_more

bench-training: $(DEV)  ## images a second of the training loops beside the textbook's
	$(BIN)/python -m bench.training

image-test:      ## build and run the container image (needs docker or podman)
	bash tests/image.sh

$(BIN)/uv: constraints.txt
	$(PY) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt uv
	touch $@
$(SERVE): pyproject.toml client/pyproject.toml constraints.txt $(BIN)/uv
	$(UV_INSTALL) . -e ./client
	touch $@
$(DEV): pyproject.toml client/pyproject.toml constraints.txt $(BIN)/uv
	$(UV_INSTALL) '.[train,dev]' -e ./client
	touch $@ $(SERVE)
