# make help lists the targets. Everything is installed into $(VENV).
VENV ?= .venv
HOST ?= 127.0.0.1
PORT ?= 8000
SOAK ?= 60
BIN  := $(VENV)/bin
# What builds the environment: unless you say, the Python of the last time, or python3.
PY   ?= $(shell test -x $(BIN)/python && ls $(VENV)/.python-* >/dev/null 2>&1 \
  && echo $(BIN)/python || echo python3)
# "3.12 ok" or "3.9 old"; nothing if there is no such program.
FOUND := $(shell $(PY) -c 'import sys; v = sys.version_info; \
  print("%d.%d %s" % (v[0], v[1], "ok" if v >= (3, 11) else "old"))' 2>/dev/null)
# Stamps: which Python built the environment, and what is installed in it. Two of the latter, so
# that serving installs no training or test package.
BUILT := $(VENV)/.python-$(firstword $(FOUND))
SERVE := $(VENV)/.installed-serve
DEV   := $(VENV)/.installed-dev
# What tests of deploy/ start: 200 MB that nothing imports, so in an environment of its own.
DEPLOY := $(VENV)/deploy
# Ray, the same.
RAY := $(VENV)/ray
# Modules are compiled as pip does it: else the first start does, and each one that may not write.
UV_INSTALL := $(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python -c constraints.txt

# Where pip is told of a folder of wheels, tell uv too; elsewhere uv picks torch's CPU or CUDA build.
ifneq ($(PIP_FIND_LINKS),)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
else
export UV_TORCH_BACKEND ?= auto
endif

.PHONY: dev serve quick test check portable deploy-tools deploy-ray format docs attack bench bench-peers bench-training evaluate wheels image-test help
help:            ## show these lines
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

serve: $(SERVE)  ## install what serving needs, then serve models_store on HOST:PORT
	$(BIN)/python -m app --host $(HOST) --port $(PORT)

dev: $(DEV)      ## install what training and tests need as well

quick: $(DEV)    ## what a change to app breaks: the tests without processes, browsers and training
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow" tests/test_layers.py tests/app \
	  --ignore tests/app/process

test: $(DEV)     ## run all tests
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: $(DEV)    ## lint, types, layers, files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py tests/docs/test_reference.py tests/docs/test_links.py \
	  tests/deploy/test_prometheus.py
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	bash -n .ci/run
	bash -n tests/image.sh
	bash -n tests/image_base.sh
	bash -n tests/wheels.sh
	sh -n tests/api_walk.sh

deploy-tools: $(DEPLOY)/.installed  ## install what tests of deploy/ use: kubernetes-validate and Envoy

deploy-ray: $(RAY)/.installed  ## install the service with Ray Serve for `python -m bench ray` and its test

format: $(DEV)   ## rewrite the code in the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(DEV)     ## write docs/openapi.json and the tables of docs/reference from the code
	$(BIN)/python -m docs.generate

bench: $(DEV)    ## rates, latencies, overload, start beside floors and targets (needs wrk)
	$(BIN)/python -m bench

attack: $(DEV)   ## every kind of attack on a service, and a soak of SOAK seconds (60) at RATE a second; LEAK=1: a leak
	$(BIN)/python -m tests.attack --soak $(SOAK) $(if $(RATE),--soak-rate $(RATE)) $(if $(LEAK),--seconds 0 --leak)

bench-peers: $(DEV)  ## the same load on six other servers, installed on first use (needs wrk, Java)
	$(BIN)/python -m bench.peers

evaluate: $(DEV) ## figures of every shipped checkpoint of MNIST beside those of real images
	$(BIN)/python -m training evaluate $(notdir $(basename $(wildcard models_store/mnist-*.safetensors)))
	$(BIN)/python -m training evaluate --all --store models_more

portable: $(DEV) ## 10,000 images an operation of each checkpoint of MNIST on two emulated processors: one digest
	$(BIN)/python -m bench.portable $(notdir $(basename $(wildcard models_store/mnist-*.safetensors))) \
	  --processors Nehalem,Haswell

bench-training: $(DEV)  ## images a second of the training loops beside the textbook's
	$(BIN)/python -m bench.training

wheels:          ## build both wheels into dist, and try each in an empty environment
	bash tests/wheels.sh $(PY)

image-test:      ## build and run the container image (needs docker or podman)
	bash tests/image.sh

# Made anew if another version of Python made it: what is installed for one does not run on another.
$(BUILT):
	$(if $(filter ok,$(FOUND)),,$(error $(PY) $(if $(FOUND),is Python $(firstword $(FOUND)),does not run); \
	  Python 3.11 or newer is needed. Name one: PY=python3.12 make $(MAKECMDGOALS)))
	@echo "Creating $(VENV) with Python $(firstword $(FOUND))"
	@$(PY) -m venv --clear $(VENV)
	@touch $@
$(BIN)/uv: constraints.txt $(BUILT)
	@echo "Installing uv, which installs the rest"
	@$(BIN)/python -m pip install -q -c constraints.txt uv
	@touch $@
$(SERVE): pyproject.toml client/pyproject.toml constraints.txt $(BIN)/uv
	@echo "Installing the service and its client into $(VENV): about a minute"
	@$(UV_INSTALL) -e . -e ./client
	@touch $@
$(DEPLOY)/.installed: $(BIN)/uv deploy/tools.txt
	@echo "Installing what tests of deploy/ use into $(DEPLOY)"
	@$(PY) -m venv $(DEPLOY)
	@$(BIN)/uv pip install -q --python $(DEPLOY)/bin/python -r deploy/tools.txt
	@touch $@
$(RAY)/.installed: pyproject.toml constraints.txt deploy/ray/constraints.txt $(BIN)/uv
	@echo "Installing the service with Ray Serve into $(RAY)"
	@$(PY) -m venv $(RAY)
	@$(BIN)/uv pip install -q --compile-bytecode --python $(RAY)/bin/python -c constraints.txt \
	  -c deploy/ray/constraints.txt -e '.[ray]'
	@touch $@
$(DEV): pyproject.toml client/pyproject.toml constraints.txt $(BIN)/uv
	@echo "Installing what training and tests need into $(VENV): some minutes, with PyTorch"
	@$(UV_INSTALL) -e '.[train,dev]' -e ./client
	@touch $@ $(SERVE)
