# Each target is a line or two of public commands; everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all lint bench wheel clean

$(BIN)/.ready: pyproject.toml Cargo.toml Cargo.lock $(wildcard rust/*/Cargo.toml rust/*/src/*.rs)
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1" "maturin>=1.9.4,<2"
	$(BIN)/python -m pip install --quiet --group dev
	$(BIN)/maturin develop --release --quiet
	touch $@

demo: $(BIN)/.ready
	$(BIN)/sfr demo

test: $(BIN)/.ready
	cargo test --quiet --workspace
	cargo test --quiet --benches
	$(BIN)/python -m pytest -m "not slow"

test-all: $(BIN)/.ready
	$(BIN)/python -m pytest

lint: $(BIN)/.ready
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest sfr._core

bench:
	cargo bench

wheel: $(BIN)/.ready
	$(BIN)/maturin build --release --out dist
	$(BIN)/maturin sdist --out dist

clean:
	rm -rf target $(VENV) dist python/sfr/_core*.so
