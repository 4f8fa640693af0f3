# `make help` lists the targets.
CARGO ?= cargo

# How long `make fuzz` tries each target, and which.
SECONDS ?= 60
TARGETS ?= $(notdir $(wildcard tests/fuzz/corpus/*))

.PHONY: help demo test compat lint bench soak fuzz machine
help: ## what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

demo: ## an FTP server with the address problem, the proxy in front of it; ONCE=1: only the self-check
	$(CARGO) run --release --example demo -- $(if $(ONCE),--once)

test: ## everything; Debian and root (`cargo test` alone runs what needs neither)
	tests/setup.sh
	$(CARGO) test
	$(CARGO) test --test deploy
	$(CARGO) test --test interop

compat: ## every server with every client: writes COMPATIBILITY.md; Debian and root
	tests/setup.sh compat
	$(CARGO) test --test compat

fuzz: ## each fuzz target for a while (SECONDS=60, TARGETS=...); needs a C++ compiler, installs cargo-fuzz
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz
	@set -e; for target in $(TARGETS); do \
		mkdir -p target/fuzz/corpus/$$target tests/fuzz/regressions/$$target; \
		$(CARGO) fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none $$target \
			target/fuzz/corpus/$$target tests/fuzz/corpus/$$target tests/fuzz/regressions/$$target \
			-- -max_total_time=$(SECONDS) -timeout=10 -max_len=8192 -dict=tests/fuzz/words.dict; \
	done

lint: ## formatting, clippy and documentation, warnings denied
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path tests/fuzz/Cargo.toml
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items

bench: ## ftp-alg beside the direct path and the kernel's FTP helper; ARGS="--quick" or "--rounds 9"; Debian and root
	tests/setup.sh
	$(CARGO) bench --bench compare -- $(ARGS)

MINUTES ?= 10
soak: ## 2,000 sessions that come and go for MINUTES=10, clients that do not read, 10,000 idle sessions; Debian and root
	tests/setup.sh
	$(CARGO) bench --bench compare -- soak --minutes $(MINUTES)
	$(CARGO) bench --bench compare -- stalled
	$(CARGO) bench --bench compare -- scale

machine: ## the Debian package in a machine of its own, under a running systemd, in QEMU; some minutes; Debian and root
	tests/setup.sh machine
	$(CARGO) build
	$(CARGO) test --test deploy -- --ignored --nocapture running_systemd
