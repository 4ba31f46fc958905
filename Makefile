.PHONY: quickstart test lint bench crds images push

# Watches this repository, and says hello at each new commit. Ctrl-C ends it.
quickstart:
	cargo run -q -p git-events-runner-operator -- local examples/quickstart

test:
	cargo test --workspace --all-features --no-fail-fast

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps
	cargo deny check bans licenses sources
	cargo check -p git-events-runner-core --no-default-features
	cargo check --manifest-path git-events-runner-core/fuzz/Cargo.toml --target-dir target/fuzz
	cargo check --manifest-path git-events-runner-operator/fuzz/Cargo.toml --target-dir target/fuzz
	@tree=$$(cargo tree -p git-events-runner-core --no-default-features -e normal --prefix none) && \
	if echo "$$tree" | grep -E '^(kube|git2|reqwest|tokio) '; then echo "core depends on it without any feature"; exit 1; fi

# What checks and evaluations cost, as a table: see docs/performance.md.
bench:
	cargo bench -p git-events-runner-tests --bench checks
	cargo bench -p git-events-runner-operator --bench webhooks
	cargo bench -p git-events-runner-operator --bench listener

# The definitions of all kinds, in the chart.
crds:
	cargo run -q -p git-events-runner-operator -- crds > charts/git-events-runner/files/crds.yaml

# The three images: see docs/images.md.
REGISTRY ?= ghcr.io/git-events-runner
BUILDER ?= docker
VERSION = $(shell sed -n '/^\[workspace.package\]/,/^$$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
BUILD = $(BUILDER) build --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD)

images:
	$(BUILD) --tag $(REGISTRY)/git-events-runner:$(VERSION) --file git-events-runner-operator/Dockerfile .
	$(BUILD) --tag $(REGISTRY)/cloner:$(VERSION) --file git-events-runner-cloner/Dockerfile .
	$(BUILD) --tag $(REGISTRY)/worker:$(VERSION) --file action-worker/Dockerfile .

push:
	for image in git-events-runner cloner worker; do $(BUILDER) push $(REGISTRY)/$$image:$(VERSION) || exit 1; done
