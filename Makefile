# What a person types; the work is in cargo and in scripts/. `make` alone lists the targets.

PREFIX ?= /usr/local
ADDRESS ?= $(or $(CONTAINERD_ADDRESS),/run/containerd/containerd.sock)
NAMESPACE ?= default

# How long `fuzz` runs each target, and which of fuzz/targets: all without a name. How many container lives `soak` makes.
SECONDS ?= 60
TARGET ?=
LIVES ?= 100000
# How many pods `scale` makes, and for how many seconds `chaos` kills on each runtime.
PODS ?= 200
KILLING ?= 600
# Options of the benchmarks.
OPTIONS ?=

# The name of the node installer's image: a full reference.
IMAGE ?= docker.io/library/runwasi-node:latest

# What `test-vm` runs, and the Debian that it runs in.
SUITES ?= smoke
export DEBIAN ?= bookworm

# Where systemd and sysctl look, if PREFIX is /usr/local or /usr; for another one say UNITDIR=/etc/systemd/system
# SYSCTLDIR=/etc/sysctl.d.
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSCTLDIR ?= $(PREFIX)/lib/sysctl.d
DOCDIR ?= $(PREFIX)/share/doc/runwasi
# Files for other programs: a dashboard for Grafana, alerts and a scrape for Prometheus.
DATADIR ?= $(PREFIX)/share/runwasi
# Where `man` and the shells look for the daemon's pages and completions.
MANDIR ?= $(PREFIX)/share/man/man8
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d

# Where `install` finds the programs: `make dist` has others.
BUILT ?= target/release
# The products that `install` copies, and nothing else from there.
PRODUCTS := containerd-shim-wasmtime-v1 containerd-shim-wasmtimed-v1 containerd-wasmtimed
# The files that go with them: to UNITDIR, to SYSCTLDIR, and an example to DOCDIR.
UNITS := containerd-wasmtimed.service containerd-wasmtimed.socket
SYSCTL := 60-containerd-wasmtimed.conf
EXAMPLE := containerd-wasmtimed.toml
# Below packaging, and the same below DATADIR.
MONITORING := grafana/runwasi.json prometheus/runwasi.rules.yml prometheus/runwasi.scrape.yml
# The program that writes its own man pages and completions, and what it writes.
DAEMON := $(BUILT)/containerd-wasmtimed
PAGES := containerd-wasmtimed*.8
COMPLETIONS = '$(DESTDIR)$(BASHDIR)/containerd-wasmtimed' '$(DESTDIR)$(ZSHDIR)/_containerd-wasmtimed' \
	'$(DESTDIR)$(FISHDIR)/containerd-wasmtimed.fish'

# Scripts, tests and recipes name files below target/, so a target folder from outside must not move them.
export CARGO_TARGET_DIR := $(CURDIR)/target

# `--workspace` with `--bin`, never `--package`: cargo picks the features of shared dependencies by what is
# selected, and a second choice of features would build wasmtime a second time.
BUILD := cargo build --release --workspace
# The programs that only the benchmarks run; and what measures is compiled as the products are.
PEERS := --features runwasi-bench-peers/programs
BENCH := $(PEERS) $(foreach package,bench tests,--config profile.release.package.runwasi-$(package).opt-level=3)

.DEFAULT_GOAL := help
.PHONY: help setup build install uninstall images load node-image shim-archive dist demo test test-vm tried fuzz audit lint commands bench bench-http bench-programs performance figures scale chaos soak docs clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do \
		printf '  make %-12s %s\n' "$$target" "$$text"; done

setup: ## install what building and testing need on Debian (says first what; needs root)
	@scripts/setup test

build: ## build the shims, the daemon and the node installer
	$(BUILD) $(addprefix --bin ,$(PRODUCTS) runwasi-node-installer)

# Not dependent on `build`: as root there is often no cargo, and root's files would block the user's next build.
# A program is complete before it replaces another: containerd may start it at any time.
install: ## copy programs, units, settings, monitoring, man pages, completions below PREFIX (PREFIX=/usr/local, DESTDIR honoured)
	@for product in $(PRODUCTS); do \
		test -x '$(BUILT)'/$$product || { echo "$(BUILT)/$$product is missing: run 'make build' first" >&2; exit 1; }; done
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(UNITDIR)' '$(DESTDIR)$(SYSCTLDIR)' '$(DESTDIR)$(DOCDIR)'
	$(foreach product,$(PRODUCTS),install -m 755 '$(BUILT)/$(product)' '$(DESTDIR)$(PREFIX)/bin/.$(product).new' &&) true
	$(foreach product,$(PRODUCTS),mv -f '$(DESTDIR)$(PREFIX)/bin/.$(product).new' '$(DESTDIR)$(PREFIX)/bin/$(product)' &&) true
	install -m 644 $(addprefix packaging/,$(UNITS)) '$(DESTDIR)$(UNITDIR)'
	sed -i 's|@BINDIR@|$(PREFIX)/bin|' $(foreach unit,$(UNITS),'$(DESTDIR)$(UNITDIR)/$(unit)')
	install -m 644 packaging/$(SYSCTL) '$(DESTDIR)$(SYSCTLDIR)'
	install -m 644 packaging/$(EXAMPLE) '$(DESTDIR)$(DOCDIR)'
	install -d '$(DESTDIR)$(DATADIR)/grafana' '$(DESTDIR)$(DATADIR)/prometheus'
	$(foreach file,$(MONITORING),install -m 644 packaging/$(file) '$(DESTDIR)$(DATADIR)/$(file)' &&) true
	install -d '$(DESTDIR)$(MANDIR)' '$(DESTDIR)$(BASHDIR)' '$(DESTDIR)$(ZSHDIR)' '$(DESTDIR)$(FISHDIR)'
	$(DAEMON) man '$(DESTDIR)$(MANDIR)'
	$(DAEMON) completions bash >'$(DESTDIR)$(BASHDIR)/containerd-wasmtimed'
	$(DAEMON) completions zsh >'$(DESTDIR)$(ZSHDIR)/_containerd-wasmtimed'
	$(DAEMON) completions fish >'$(DESTDIR)$(FISHDIR)/containerd-wasmtimed.fish'
	chmod 644 '$(DESTDIR)$(MANDIR)/'$(PAGES) $(COMPLETIONS)

uninstall: ## remove what install copied
	rm -f $(foreach product,$(PRODUCTS),'$(DESTDIR)$(PREFIX)/bin/$(product)' '$(DESTDIR)$(PREFIX)/bin/.$(product).new') \
		$(foreach unit,$(UNITS),'$(DESTDIR)$(UNITDIR)/$(unit)') \
		'$(DESTDIR)$(SYSCTLDIR)/$(SYSCTL)' '$(DESTDIR)$(DOCDIR)/$(EXAMPLE)' \
		$(foreach file,$(MONITORING),'$(DESTDIR)$(DATADIR)/$(file)') \
		'$(DESTDIR)$(MANDIR)/'$(PAGES) $(COMPLETIONS)
	rmdir '$(DESTDIR)$(DOCDIR)' '$(DESTDIR)$(DATADIR)/grafana' '$(DESTDIR)$(DATADIR)/prometheus' '$(DESTDIR)$(DATADIR)' \
		2>/dev/null || true

images: ## build the guests and their images into target/images
	@scripts/setup build guests resvg
	scripts/guests

load: ## import the images into a containerd (ADDRESS=/run/containerd/containerd.sock NAMESPACE=default)
	@scripts/load '$(ADDRESS)' '$(NAMESPACE)'

node-image: ## write the image that installs on Kubernetes nodes: target/images/runwasi-node.tar (IMAGE=its name)
	@scripts/setup build
	$(BUILD) $(addprefix --bin ,$(PRODUCTS) runwasi-node-installer oci-image)
	@mkdir -p target/images
	scripts/node-image target/images/runwasi-node.tar '$(IMAGE)'

# One file without a directory, owner and time: the same program gives the same archive.
shim-archive: build ## write the shim per pod for runtime-class-manager: target/images/containerd-shim-wasmtime-v1.tar.gz
	@mkdir -p target/images
	tar --create --owner=0 --group=0 --numeric-owner --mtime=@0 --directory=target/release containerd-shim-wasmtime-v1 | \
		gzip --no-name >target/images/containerd-shim-wasmtime-v1.tar.gz
	@sha256sum target/images/containerd-shim-wasmtime-v1.tar.gz

# Its programs are compiled by themselves, by the profile `dist`: 15 minutes the first time.
dist: ## write a release into target/dist: tarball, Debian packages, bill of materials, checksums
	@scripts/setup build
	scripts/dist

demo: ## from nothing to "Hello from wasm!" on both runtimes of a private containerd, then clean up (needs root)
	@scripts/demo

# The cases in the virtual machine come one after the other and keep little more than one core busy; it has a copy of
# what it tests. So the programs of the tests are compiled beside it, and the fuzz targets compiled and run.
test: ## all tests, with a real containerd and in a virtual machine (needs root)
	scripts/setup build
	scripts/together '$(BUILD)' 'scripts/setup test && scripts/guests --compile && scripts/vm-image $(DEBIAN)'
	scripts/together scripts/guests 'scripts/test-packages --build'
	scripts/test-packages --try
	scripts/together 'scripts/test-vm smoke' 'scripts/tests --compile' 'scripts/fuzz 60'
	scripts/tests
	@scripts/tried facts | scripts/tried record host 'all tests passed'

tried: test ## all tests, here and on two kernels; then the README's table of what they ran on (needs root)
	DEBIAN=trixie scripts/test-vm smoke
	scripts/tried write

# SUITES are tests of tests/tests, or `all` of them. They take long there: software emulates the machine.
test-vm: ## the smoke test in a virtual machine; SUITES="files limits" or SUITES=all, DEBIAN=trixie (needs root)
	@scripts/setup build guests resvg vm
	$(BUILD)
	scripts/guests
	scripts/test-vm $(SUITES)

# In each `make test` a minute; by hand longer: `make fuzz SECONDS=3600 TARGET=config_json`.
fuzz: ## the fuzz targets; SECONDS=3600 for each of them, TARGET=config_json for one (needs root)
	@scripts/setup fuzz
	scripts/fuzz $(SECONDS) $(TARGET)

# runwasi-lint depends on no other crate of the project: it compiles syn, and no wasmtime. `--bin` without
# `--package`, so that syn has the features that BUILD gives it and is compiled once.
# Advisories are in a database elsewhere: .github/workflows/advisories.yml.
audit: ## licences, sources and bans of all dependencies, by deny.toml
	@scripts/setup audit
	$$(scripts/tool cargo-deny) --locked check licenses bans sources

lint: ## format, import circles, language, references, clippy and docs, as CI does
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path tests/guests/Cargo.toml
	cargo fmt --all --check --manifest-path fuzz/Cargo.toml
	cargo run --release --quiet --bin runwasi-lint
	cargo clippy --release --workspace --all-targets $(PEERS) -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --release --quiet --no-deps --workspace $(PEERS)

# OPTIONS are those of runwasi-bench: OPTIONS='--before DIR --peer upstream=PATH'.
bench: bench-programs ## the benchmarks; figures also go to target/bench/results.json; OPTIONS= (needs root)
	target/release/runwasi-bench $(OPTIONS)

# On a machine that is idle otherwise, in about an hour.
performance: ## measure and write docs/performance.md and its plots; OPTIONS='--before DIR --peer NAME=PATH' (needs root)
	scripts/figures measure performance $(OPTIONS)
	scripts/figures write performance

bench-http: bench-programs ## of them the one of HTTP servers, against the loop of `wasmtime serve` (needs root)
	target/release/runwasi-bench --only http

# What the benchmarks run. No help line: scripts/figures and the targets above call it.
bench-programs:
	@scripts/setup test bench
	$(BUILD) $(BENCH)
	scripts/guests

commands: ## run the commands of the daemon and write what they print into docs/commands.md (needs root)
	$(BUILD)
	scripts/guests
	scripts/commands record
	scripts/commands write

figures: ## measure the tables of docs/security.md and docs/nodes.md and write them there (needs root)
	scripts/figures measure attacks
	scripts/figures write attacks
	scripts/figures measure holds
	scripts/figures write holds
	scripts/figures measure overhead
	scripts/figures write overhead

# Not in CI: ten minutes and more.
scale: ## 200 pods on a node, and a rollout under traffic, beside runc; PODS=50 (needs root)
	@scripts/setup test
	$(BUILD) $(BENCH)
	scripts/guests
	target/release/runwasi-bench --scale $(PODS)

chaos: ## pods whose containerd, daemon, shims and client are killed at random; KILLING=60 seconds (needs root)
	@scripts/setup test
	$(BUILD) $(BENCH)
	scripts/guests
	target/release/runwasi-bench --chaos $(KILLING)

soak: ## 100,000 container lives on each runtime; fails if memory or anything else grows; LIVES=1000 (needs root)
	@scripts/setup test
	$(BUILD) $(BENCH)
	scripts/guests
	target/release/runwasi-bench --soak $(LIVES)

docs: ## the documentation as a site in target/docs/site, with all its links checked
	@scripts/setup docs
	scripts/docs

clean: ## remove everything built
	cargo clean
