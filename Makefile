# Each target is a line or two of public commands; everything is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# processes that test; each may take 3 GB
JOBS ?= 2

.PHONY: demo test test-backends test-all lint bench wheel sdist-check clean

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
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist worksteal

# the network's tests on the other Keras backends, where they are installed
test-backends: $(BIN)/.ready
	for backend in jax torch; do if $(BIN)/python -c "import $$backend" 2>/dev/null; \
	then KERAS_BACKEND=$$backend $(BIN)/python -m pytest tests/*/test_train_*.py tests/unit/test_semantic_*.py || exit 1; \
	else echo "$$backend is not installed: skipped (pip install tng-sfr[$$backend])"; fi; done

test-all: $(BIN)/.ready
	$(BIN)/python -m pytest

lint: $(BIN)/.ready
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy

# criterion, then side by side with other ways; needs a C compiler, writes docs/benchmarks.md
bench: $(BIN)/.ready
	cargo bench
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python benches/python/bench.py --write

# Linux: for every glibc from 2.17 on, the oldest that all dependencies have wheels for; zig links with its
# symbols, maturin refuses a wheel that needs newer ones; then it is installed and used where nothing else is
MANYLINUX := $(if $(filter Linux,$(shell uname)),--zig --compatibility manylinux_2_17 --auditwheel check)

wheel: $(BIN)/.ready
	rm -rf dist
	$(BIN)/python -m pip install --quiet "maturin[zig]>=1.9.4,<2"
	PATH="$(abspath $(BIN)):$$PATH" maturin build --release $(MANYLINUX) --out dist
	$(BIN)/maturin sdist --out dist
	$(BIN)/python -m venv dist/empty
	dist/empty/bin/python -m pip install --quiet dist/*.whl
	cd dist/empty && bin/sfr --version && bin/sfr doctor
	cd dist/empty && bin/sfr mock sim --galaxies 2 --snaps 99 --cells 300 && bin/sfr render --sim sim --snap 99
	rm -rf dist/empty

# the source distribution builds by itself, and its wheel holds what is not Python
sdist-check: $(BIN)/.ready
	rm -rf dist/check
	$(BIN)/maturin sdist --out dist/check
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist/check dist/check/*.tar.gz
	$(BIN)/python -m zipfile --list dist/check/*.whl > dist/check/files
	grep -q thesis.toml dist/check/files && grep -q index.html.jinja dist/check/files
	grep -q _core.abi3.so dist/check/files && grep -q py.typed dist/check/files

clean:
	rm -rf target $(VENV) dist python/sfr/_core*.so
