# What a person types; the work is in cargo and in scripts/. `make` alone lists the targets.

PREFIX ?= /usr/local
ADDRESS ?= $(or $(CONTAINERD_ADDRESS),/run/containerd/containerd.sock)
NAMESPACE ?= default

# The products that `install` copies, and nothing else from target/release.
PRODUCTS := containerd-shim-wasmtime-v1

# Scripts, tests and recipes name files below target/, so a target folder from outside must not move them.
export CARGO_TARGET_DIR := $(CURDIR)/target

# `--workspace` with `--bin`, never `--package`: cargo picks the features of shared dependencies by what is
# selected, and a second choice of features would build wasmtime a second time.
BUILD := cargo build --release --workspace

.DEFAULT_GOAL := help
.PHONY: help setup build install uninstall images load demo test lint bench clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do \
		printf '  make %-10s %s\n' "$$target" "$$text"; done

setup: ## install what building and testing need on Debian (says first what; needs root)
	@scripts/setup test

build: ## build the shim
	$(BUILD) $(addprefix --bin ,$(PRODUCTS))

# Not dependent on `build`: as root there is often no cargo, and root's files would block the user's next build.
install: ## copy the built shim to PREFIX/bin (PREFIX=/usr/local, DESTDIR honoured)
	@for product in $(PRODUCTS); do \
		test -x target/release/$$product || { echo "target/release/$$product is missing: run 'make build' first" >&2; exit 1; }; done
	install -d '$(DESTDIR)$(PREFIX)/bin'
	install -m 755 $(addprefix target/release/,$(PRODUCTS)) '$(DESTDIR)$(PREFIX)/bin'

uninstall: ## remove what install copied
	rm -f $(foreach product,$(PRODUCTS),'$(DESTDIR)$(PREFIX)/bin/$(product)')

images: ## build the guests and their images into target/images
	@scripts/setup build guests
	scripts/guests

load: ## import the images into a containerd (ADDRESS=/run/containerd/containerd.sock NAMESPACE=default)
	@scripts/load '$(ADDRESS)' '$(NAMESPACE)'

demo: ## from nothing to "Hello from wasm!" in a private containerd, then clean up (needs root)
	@scripts/demo

test: ## all tests, the end-to-end ones with a real containerd included (needs root)
	scripts/setup test
	$(BUILD)
	scripts/guests
	cargo test --release --workspace

lint: ## format and clippy, as CI does
	cargo fmt --all --check
	cargo fmt --check --manifest-path tests/guests/wasmtest/Cargo.toml
	cargo clippy --release --workspace --all-targets -- -D warnings

bench: ## the benchmarks; figures also go to target/bench/results.json (needs root)
	@scripts/setup test
	$(BUILD)
	scripts/guests
	target/release/runwasi-bench

clean: ## remove everything built
	cargo clean
