# Each target installs what is missing, then does one thing.

SHELL := bash
export PATH := $(PATH):$(HOME)/.cargo/bin

export VIDEO ?= assets/shapes.mp4
export PROMPT ?= Describe what is happening in this video.
export QUESTION ?= Where does the shape move?
# In the form in which `eval mcq` asks.
define CHOICE ?=
Which shape moves? Select the correct answer from the following options. Write your answer as only one of A, B, C, D and nothing else.

    A. circle
B. star
C. ring
D. cross
endef
export CHOICE

# The part of the mutants to test: 0/400 is the first of 400.
PART ?= 0/400

# Python with the original implementations, for `bench-memory`, `parity` and `fixtures`.
VENV := target/python

.PHONY: help demo test test-long test-media mutants audit check-abi check-mpi torch test-torch bench bench-abi bench-eval bench-train bench-memory parity parity-llm table lint fixtures build install uninstall dist system

help:
	@echo "make demo          describe a clip with merv-tiny and ask two questions about it (VIDEO=… PROMPT=… QUESTION=… CHOICE=…)"
	@echo "make test          build, run every test, then lint"
	@echo "make test-long     twenty training runs, killed at random moments and resumed"
	@echo "make test-media    compare the frames of 2,200 files, whole and damaged, with those of the ffmpeg command (5 minutes)"
	@echo "make mutants       plant small bugs one at a time and report those that no test notices (PART=0/400 is the first of 400)"
	@echo "make check-abi     load plugins of another compiler, and check the boundary with AddressSanitizer (needs nightly)"
	@echo "make audit         check licences, sources and versions of every dependency; advisories if they can be downloaded"
	@echo "make bench         measure speed and memory, next to PyTorch if it is installed"
	@echo "make bench-abi     measure the cost of a call through the plugin boundary"
	@echo "make bench-eval    measure the questions per second of an evaluation, and of one question at a time"
	@echo "make bench-train   measure the seconds per training step, next to PyTorch if it is installed"
	@echo "make bench-memory  measure the memory at the sizes of merv-full, with 8 GB of random weights"
	@echo "make parity        compare the encoders at full size with PyTorch, which it installs"
	@echo "make parity-llm    compare a real language model, SmolLM2, with llama.cpp's answers"
	@echo "make check-mpi     exchange tensors between four processes over MPI, which it installs"
	@echo "make torch         build the plugin that computes with libtorch (1 GB, which it downloads), in target/torch"
	@echo "make test-torch    build it, and run the tests of models with it"
	@echo "make table         measure how often merv-tiny, and each of its encoders alone, is right about new clips"
	@echo "make install       install what was built into PREFIX, by default /usr/local (PREFIX=… DESTDIR=…)"
	@echo "make uninstall     remove what make install put into PREFIX"
	@echo "make dist          write a tarball to target/dist, and a Debian package if dpkg-deb is installed"
	@echo "make lint          check format, clippy, features and documentation"
	@echo "make fixtures      regenerate tests/fixtures with PyTorch"

demo: build
	@cargo run --locked --release --quiet --bin merv-host -- \
	    generate --show-mixer --max-new-tokens 64 --video "$$VIDEO" --prompt "$$PROMPT"
	@cargo run --locked --release --quiet --bin merv-host -- \
	    generate --max-new-tokens 64 --video "$$VIDEO" --prompt "$$QUESTION"
	@cargo run --locked --release --quiet --bin merv-host -- \
	    generate --max-new-tokens 64 --video "$$VIDEO" --prompt "$$CHOICE"

test: build
	cargo test --locked --release --workspace --no-fail-fast
	scripts/lint

test-media: build
	@scripts/install-system-packages "ffmpeg command -v ffmpeg"
	cargo run --locked --release --quiet --bin test_media -- target/test-media

test-long: build
	cargo test --locked --release -p merv-tests --test train -- --ignored

mutants: build
	@scripts/mutants target/mutants "$(PART)"

check-abi: build
	scripts/check-abi

audit:
	@scripts/audit

bench: build
	cargo run --locked --release --quiet --bin bench

bench-abi: build
	cargo run --locked --release --quiet --bin bench_abi

bench-eval: build
	cargo run --locked --release --quiet --bin bench_eval

bench-train: build
	cargo run --locked --release --quiet --bin bench_train

bench-memory: build
	@scripts/bench-memory $(VENV)

parity: build
	@scripts/parity $(VENV)

parity-llm: build
	@scripts/parity-llm $(VENV)

check-mpi: system
	@scripts/check-mpi

torch: system
	@scripts/build-torch target/libtorch

test-torch: build
	@scripts/test-torch target/libtorch

table: build
	@scripts/merv-tiny-table target/table 1000

# These do not build: root may run them without cargo.
install:
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/install

uninstall:
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/install --uninstall

dist: build
	@scripts/dist target/dist

lint: system
	scripts/lint

fixtures:
	scripts/make-fixtures $(VENV)

build: system
	cargo build --locked --release --workspace

system:
	@scripts/install-system-packages
