# Entry points for people and for CI. `make help` explains each target: the text after `##`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
VENV := $(CURDIR)/.venv/bin
RUN := $(VENV)/python
SETUP := $(PYTHON) -m tools.setup
# More arguments for pytest, for example: make test-fast PYTEST_ARGS="-k checkpoint"
PYTEST_ARGS ?=
# More arguments for the benchmark of libvgpu: --quick takes a minute.
BENCH_ARGS ?=
FUZZ_SECONDS ?= 300
# Names of rows of the matrix of versions (all).
MATRIX_ARGS ?=
# The Kubernetes of the local cluster, such as 1.36; the newest where empty.
K8S ?=
# More arguments for the images, such as --architecture x86_64.
IMAGE_ARGS ?=
# Where the local cluster keeps everything; its own tooling reads it.
export HAMI_DRA_CLUSTER_DIR ?= /var/lib/hami-dra-cluster

##@ Set-up

.PHONY: help
help: ## Show this text
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Get every tool, install the locked packages, build everything; quick when done before
	@$(SETUP)

.PHONY: native
native: ## Build the C parts: libvgpu for x86_64 and aarch64, the simulated card for this machine
	@$(SETUP) python native

.PHONY: images
images: native ## Build the two container images and their bills of materials into build/images
	@$(RUN) -m tools.image --out build/images $(IMAGE_ARGS)

.PHONY: environment
environment:
	@$(SETUP) python

##@ See it work

.PHONY: demo
demo: setup ## Share one simulated card between pods on a real Kubernetes node, step by step
	@$(RUN) -m tests.demo

.PHONY: bench
bench: setup ## Measure Prepare and Unprepare over the socket; writes build/bench.json
	@$(RUN) -m tests.bench

.PHONY: bench-controller
bench-controller: setup ## Measure the controller at 100 and at 1,000 nodes; writes build/bench-controller.json
	@$(RUN) -m tests.bench.controller

.PHONY: bench-shim
bench-shim: native ## Measure libvgpu beside the bare driver (about 8 minutes); writes build/bench-shim.json
	@$(RUN) -m tests.bench.shim $(BENCH_ARGS)

##@ Prove it

.PHONY: test
test: setup lint check-generated ## Everything: style, types, import contracts, generated files, all tests
	$(RUN) -m pytest $(PYTEST_ARGS)

.PHONY: test-fast
test-fast: native lint check-generated ## Everything that needs no cluster
	$(RUN) -m pytest -m "not e2e" $(PYTEST_ARGS)

.PHONY: test-e2e
test-e2e: setup ## Only what needs a Kubernetes node: the local cluster, or the one that KUBECONFIG names
	$(RUN) -m pytest -m e2e $(PYTEST_ARGS)

.PHONY: test-chaos
test-chaos: setup ## Heavy faults on a cluster of its own: API server, disks, kubelet, kills, updates (20 minutes)
	$(RUN) -m pytest tests/chaos $(PYTEST_ARGS)

.PHONY: test-matrix
test-matrix: setup ## The driver on each Kubernetes from 1.34 on; long the first time, to build them
	@$(RUN) -m tests.matrix $(MATRIX_ARGS)

.PHONY: test-gpu
test-gpu: native ## libvgpu's tests on this machine's real NVIDIA driver; fails where there is none
	@$(RUN) -m tools.realgpu
	HAMI_DRA_TEST_GPU=real $(RUN) -m pytest tests/shim -m gpu $(PYTEST_ARGS)

.PHONY: fuzz
fuzz: native ## Fuzz the files and words that libvgpu reads, for FUZZ_SECONDS
	$(MAKE) -C native/vgpu-shim fuzz CC="$(RUN) -m ziglang cc" OUT=$(CURDIR)/build/native/$(shell uname -m) SECONDS=$(FUZZ_SECONDS)

.PHONY: test-kills
test-kills: native ## Kill libvgpu's processes at 1,000 random points (about 6 minutes)
	VGPU_TEST_KILLS=1000 $(RUN) -m pytest tests/shim/test_kills.py $(PYTEST_ARGS)

.PHONY: lint
lint: environment ## Style (ruff), types (mypy --strict) and import contracts (import-linter)
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy
	$(VENV)/lint-imports

.PHONY: check-generated
check-generated: environment ## Fail when a checked-in generated file is not what its generator writes
	@$(RUN) -m tools.generate --check

##@ Work on it

.PHONY: format
format: environment ## Put the Python code into the project's style
	$(VENV)/ruff check --fix-only
	$(VENV)/ruff format

.PHONY: generate
generate: environment ## Write the generated files again
	@$(RUN) -m tools.generate

.PHONY: clean
clean: ## Remove what was built here (build/); .venv and the machine's cache stay
	rm -rf build

##@ The local cluster

.PHONY: cluster-up
cluster-up: setup ## Start a Kubernetes node with simulated cards and the driver, under HAMI_DRA_CLUSTER_DIR
	@HAMI_DRA_KUBERNETES=$(K8S) $(RUN) -m tests.stack

.PHONY: cluster-down
cluster-down: environment ## Stop it, and leave nothing behind
	@$(RUN) -m tests.cluster down

.PHONY: cluster-status
cluster-status: environment ## Show its components, and how to reach it
	@$(RUN) -m tests.cluster status
