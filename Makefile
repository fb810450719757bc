# Each target installs what the machine lacks, then does one thing.

SHELL := bash
export PATH := $(PATH):$(HOME)/.cargo/bin

export VIDEO ?= assets/shapes.mp4
export PROMPT ?= Describe what is happening in this video.
export QUESTION ?= Where does the shape move?
# As `eval mcq` asks.
define CHOICE ?=
Which shape moves? Select the correct answer from the following options. Write your answer as only one of A, B, C, D and nothing else.

    A. circle
B. star
C. ring
D. cross
endef
export CHOICE

# Which part of the planted bugs.
PART ?= 0/400

# Python with the original implementations, for `bench-memory`, `parity` and `fixtures`.
VENV := target/python

.PHONY: help demo test test-long test-media mutants audit bench bench-eval bench-train bench-memory parity parity-llm table lint fixtures build install uninstall dist system

help:
	@echo "make demo          describe a clip with merv-tiny, and ask it two questions (VIDEO=… PROMPT=… QUESTION=… CHOICE=…)"
	@echo "make test          build, every test, and the lints"
	@echo "make test-long     twenty training runs killed at random moments, and gone on with"
	@echo "make test-media    the frames of 2,200 files, whole and damaged, against the ffmpeg command's (5 minutes)"
	@echo "make mutants       small bugs planted one at a time, and whether a test notices (PART=0/400, the first of 400)"
	@echo "make audit         check licences, sources and versions of every dependency; advisories if they can be downloaded"
	@echo "make bench         speed and memory, beside PyTorch where it is installed"
	@echo "make bench-eval    questions per second of an evaluation, beside one question at a time"
	@echo "make bench-train   seconds a training step, beside PyTorch where it is installed"
	@echo "make bench-memory  the memory of merv-full's sizes, with random weights of 8 GB"
	@echo "make parity        the encoders at full size against PyTorch, which it installs"
	@echo "make parity-llm    a real language model, SmolLM2, against llama.cpp's answers"
	@echo "make table         how often merv-tiny, and each of its encoders alone, is right about new clips"
	@echo "make install       install what was built below PREFIX, by default /usr/local (PREFIX=… DESTDIR=…)"
	@echo "make uninstall     remove what make install put below PREFIX"
	@echo "make dist          target/dist: a tarball, and a Debian package where dpkg-deb is there"
	@echo "make lint          format, clippy, features and documentation"
	@echo "make fixtures      make tests/fixtures anew with PyTorch"

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

audit:
	@scripts/audit

bench: build
	cargo run --locked --release --quiet --bin bench

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

table: build
	@scripts/merv-tiny-table target/table 1000

# Neither builds: they may be run as root, who need not have cargo.
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
