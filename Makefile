# The commands of this project. Each does its own set-up: `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Warnings are errors in CI; at a desk they are shown and no more.
ifdef CI
CLIPPY_FLAGS := -- -D warnings
endif

XTASK := cargo run --quiet --package timesync-xtask --bin xtask --
E2E := cargo run --quiet --package timesync-e2e --bin e2e --
BENCH := cargo run --quiet --package timesync-bench --bin bench --
SIM := cargo run --quiet --release --package timesync-ntp --features sim --bin timesync-sim --

.PHONY: help
help: ## Lists the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Built first and not quietly: the first time it takes minutes, and cargo shows how far it is.
HARNESS := build-xtask build-e2e build-bench
.PHONY: $(HARNESS)
$(HARNESS): build-%:
	@cargo build --package timesync-$*

.PHONY: demo
demo: build-e2e ## A real cluster whose nodes have wrong clocks; one policy; the clocks come right (first time about 30 minutes, then 4)
	@$(E2E) demo

.PHONY: demo-down
demo-down: build-e2e ## Removes what `make demo` left
	@$(E2E) demo-down

.PHONY: test
test: check build-e2e ## Everything: `make check`, then the cluster tests
	@$(E2E) test

.PHONY: test-long
test-long: build-xtask build-e2e ## CRDs, chart, the site of the docs and a release checked by other programs, and cluster tests that wait for minutes: no part of `make test` (50 minutes)
	@echo "test-long: the CRDs and the API servers of other Kubernetes versions"
	@$(XTASK) crds
	@echo "test-long: helm lint and kube-score"
	@$(XTASK) kube-score
	@echo "test-long: the site of the docs"
	@$(MAKE) --no-print-directory docs
	@$(E2E) test long

.PHONY: check
check: build-xtask ## The tests that need no cluster (under 3 minutes once the dependencies are built)
	@echo "check: formatting"
	@cargo fmt --all --check
	@echo "check: lints"
	@cargo clippy --workspace --all-targets $(CLIPPY_FLAGS)
	@cargo clippy --quiet -p timesync-ntp --all-targets --features sim $(CLIPPY_FLAGS)
	@$(XTASK) packages
	@echo "check: licences, duplicates and sources of dependencies"
	@$(XTASK) tools cargo-deny
	@"$$($(XTASK) tools --path cargo-deny)" --locked check -D unmatched-skip -D unnecessary-skip licenses bans sources
	@echo "check: unit, property, golden and loopback tests"
	@cargo test --workspace --no-run
	@RUST_TEST_THREADS=6 cargo test --quiet --workspace
	@echo "check: chart"
	@$(XTASK) tools helm
	@bash charts/timesync/test.sh "$$($(XTASK) tools --path helm)"

.PHONY: docs
docs: build-xtask ## The pages in docs/ as a site in target/docs, its links checked (the first time mdbook is built, 3 minutes)
	@$(XTASK) tools mdbook
	@$(XTASK) docs

.PHONY: images
images: build-xtask ## The two images for amd64 and arm64 (or ARCH=amd64), as OCI archives in target/images
	@$(XTASK) images

.PHONY: push
push: build-xtask ## Pushes images and chart: make push REGISTRY=host/path [TAG=0.1.0] [INSECURE=1 for plain HTTP]
	@$(XTASK) push

.PHONY: release
release: build-xtask ## Writes a release into dist/: images, chart, kubectl plugin, manifests, SBOM, licences, checksums [REGISTRY= TAG= DOWNLOADS= SIGNING_KEY=]
	@$(XTASK) release

.PHONY: bench
bench: build-bench ## Measures, and writes docs/benchmarks.md
	@$(BENCH) all

.PHONY: bench-server
bench-server: build-bench ## Measures the server under load, without a cluster (as root; minutes), and writes its part of docs/benchmarks.md
	@$(BENCH) server

.PHONY: bench-scale
bench-scale: ## Measures the operator with NODES (1000) simulated nodes (as root; 15 minutes, with NODES=5000 an hour), and writes its part of docs/benchmarks.md
	@cargo build --release --package timesync-bench
	@cargo run --quiet --release --package timesync-bench --bin bench -- scale --nodes $(or $(NODES),1000)

.PHONY: sim
sim: build-xtask ## Runs the engine in simulation, all scenarios, and writes the table in docs/benchmarks.md (minutes)
	@cargo build --release -p timesync-ntp --features sim --bin timesync-sim
	@set -e -o pipefail; table=$$(mktemp); trap 'rm -f "$$table"' EXIT; $(SIM) | tee "$$table"; $(XTASK) page sim < "$$table"

# How libFuzzer sees which code an input reaches; cargo-bolero passes the same. Sanitizers alone need a nightly compiler.
FUZZ_FLAGS := --cfg fuzzing --cfg fuzzing_libfuzzer -C passes=sancov-module \
  $(addprefix -C llvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)

FUZZ_ARGS = -artifact_prefix=$(CURDIR)/target/fuzz/ -max_total_time=$(or $(FUZZ_SECONDS),10)

.PHONY: fuzz
fuzz: ## Damages octets for every reader in crates/ntp, for FUZZ_SECONDS each (10), guided by coverage (needs g++)
	@set -e -o pipefail; export RUST_BACKTRACE=0 BOLERO_FUZZER=libfuzzer RUSTFLAGS="$(FUZZ_FLAGS)"; \
	cargo="cargo test --quiet -p timesync-ntp --lib --target-dir target/fuzz --target $$(rustc --print host-tuple)"; \
	names=$$($$cargo -- --list fuzz:: | sed -n 's/: test$$//p'); \
	for name in $$names; do \
		log=target/fuzz/$$name.log; mkdir -p target/fuzz/corpus/$$name; \
		export TIMESYNC_FUZZ_CORPUS="$(CURDIR)/target/fuzz/corpus/$$name"; \
		BOLERO_LIBFUZZER_ARGS="$$TIMESYNC_FUZZ_CORPUS $(FUZZ_ARGS)" \
			$$cargo -- --exact --nocapture $$name &> $$log || { tail -n 50 $$log; exit 1; }; \
		echo "$$name $$(grep DONE $$log)"; \
	done

.PHONY: golden
golden: build-xtask ## Writes the generated files anew: the chart's CRDs, golden files, parts of docs
	@UPDATE_GOLDEN=1 cargo test --quiet -p timesync-api -p timesync-operator -p timesync-agent -p timesync-convert
	@$(XTASK) tools helm && bash charts/timesync/test.sh --update "$$($(XTASK) tools --path helm)"
