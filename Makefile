.PHONY: quickstart test lint bench crds

# Watches this repository, and says hello at each new commit. Ctrl-C ends it.
quickstart:
	cargo run -q -p git-events-runner-operator -- local examples/quickstart

test:
	cargo test --workspace --all-features

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps
	cargo deny check bans licenses sources
	cargo check -p git-events-runner-core --no-default-features
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
