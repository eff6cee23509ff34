# Everything a person does with this repository. `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# The targets share one cargo target folder and one Docker Engine; they take turns.
.NOTPARALLEL:

# Where `make up` keeps its state. `make up DATA_DIR=/somewhere LISTEN=127.0.0.1:9000 INSTANCES=3 FLAGS=--tls`
DATA_DIR ?= .longshore
LISTEN ?=
INSTANCES ?=
FLAGS ?=
export DATA_DIR LISTEN INSTANCES FLAGS

TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
BINARY := $(TARGET_DIR)/release/longshore

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##### Use it

.PHONY: up
up: ## Prepare this machine, start Longshore, run a first task (DATA_DIR, LISTEN, INSTANCES, FLAGS)
	@scripts/up

.PHONY: down
down: ## Stop the tasks that `make up` started, the agent and the server
	@if [ ! -e "$(DATA_DIR)/up.json" ]; then echo "Nothing to stop: nothing was started in $(DATA_DIR)."; \
	elif [ ! -x "$(BINARY)" ]; then echo "Build it first, then stop:  cargo build --release -p longshore && make down" >&2; exit 1; \
	else "$(BINARY)" down --data-dir "$(DATA_DIR)"; fi

.PHONY: build
build: ## Build the release binary
	@scripts/build-needs
	cargo build --release --locked --package longshore

.PHONY: example-image
example-image: ## Build the image of examples/producer-consumer
	@scripts/build-needs
	@scripts/docker-engine
	@scripts/example-image

##### Work on it

# In the order of what fails fastest. Everything is one profile (dev): the binary of the end-to-end tests is linked
# from what the unit tests have compiled, so nothing is built twice.
.PHONY: test
test: engine fmt-check tidy lint unit e2e ## Everything that must pass before a change is done

.PHONY: fmt
fmt: ## Format all Rust code
	cargo fmt --all
	cd examples/producer-consumer && cargo fmt
	cd examples/schedulers/packing && cargo fmt
	cd fuzz && cargo fmt

.PHONY: fmt-check
fmt-check:
	cargo fmt --all --check
	cd examples/producer-consumer && cargo fmt --check
	cd examples/schedulers/packing && cargo fmt --check
	cd fuzz && cargo fmt --check

.PHONY: tidy
tidy: needs ## The house rules: file sizes, generated code fresh, arrows between crates
	cargo run --locked --quiet --package xtask -- tidy

.PHONY: lint
lint: needs ## clippy, warnings as errors
	cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: unit
unit: needs ## Unit, property and simulation tests
	cargo test --locked --workspace
	cargo test --locked --manifest-path examples/schedulers/packing/Cargo.toml --target-dir "$(TARGET_DIR)"

# So many test files at a time: most of a test is waiting for Docker. WORKERS=0 runs one after the other.
WORKERS ?= 3
.PHONY: e2e
e2e: engine ## End-to-end tests: AWS CLI, boto3, JavaScript against real Docker (PYTEST="-k name" narrows, WORKERS)
	@scripts/python-env
	@scripts/client-tools
	@scripts/example-image
	cargo build --locked --package longshore
	LONGSHORE_BIN="$(abspath $(TARGET_DIR))/debug/longshore" .venv/bin/python -m pytest e2e -n $(WORKERS) --dist loadfile $(PYTEST)

# The parsers that strangers reach, each for so long: make fuzz MINUTES=60, or make fuzz TARGETS=sigv4. What is found lies in
# fuzz/artifacts; it belongs, minimised, into fuzz/corpus, which every test run replays.
MINUTES ?= 10
TARGETS ?= $(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs)))
.PHONY: fuzz
fuzz: needs ## Fuzz everything that reads what strangers send (MINUTES for each, TARGETS)
	@scripts/fuzz "$(MINUTES)" $(TARGETS)

# The tests that take their time, at full length.
.PHONY: soak
soak: engine ## The long form of the end-to-end tests that have one (ten minutes without a network)
	@scripts/python-env
	@scripts/example-image
	cargo build --locked --package longshore
	LONGSHORE_SOAK=1 LONGSHORE_BIN="$(abspath $(TARGET_DIR))/debug/longshore" .venv/bin/python -m pytest e2e/test_severed_network.py $(PYTEST)

# Minutes of load, and more options as `python -m crash --help` tells them: make crash MINUTES=60 CRASH="--seed 7"
.PHONY: crash
crash: engine ## Load on three hosts while server, agents, Engines and hosts are killed (MINUTES, CRASH)
	@scripts/python-env
	cargo build --locked --package longshore
	cd e2e && LONGSHORE_BIN="$(abspath $(TARGET_DIR))/debug/longshore" ../.venv/bin/python -m crash --minutes "$(MINUTES)" $(CRASH)

.PHONY: bench
bench: engine ## Benchmarks with their floors; writes bench/RESULTS.md
	@scripts/example-image
	cargo build --release --locked --package longshore --package longshore-bench
	cargo build --release --locked --package longshore-sim --example figures
	{ "$(TARGET_DIR)/release/longshore-bench" all; printf '\n## Simulation\n\nThe real core and agent engine in a simulated world, one thread for each processor.\n\n'; \
		"$(TARGET_DIR)/release/examples/figures"; } | tee "$(TARGET_DIR)/RESULTS.md"
	@cp "$(TARGET_DIR)/RESULTS.md" bench/RESULTS.md

.PHONY: audit
audit: needs ## Licences and banned dependencies (cargo-deny)
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
	cargo deny --all-features check bans licenses sources

.PHONY: clean-up
clean-up: down ## Stop everything, remove its stopped containers, its state and the Python environment
	@scripts/clean-up

.PHONY: needs engine
needs:
	@scripts/build-needs
engine: needs
	@scripts/docker-engine
