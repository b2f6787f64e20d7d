# make demo    the shop behind the gateway, from nothing but Python >= 3.11
# make test    all tests
# make check   ruff, mypy --strict, the import layers
# make bench   the benchmarks    make sim SEED=n   one simulation

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp

.PHONY: setup demo demo-stop test check bench sim sim-nightly lock

setup: $(STAMP)

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Shoal needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

lock:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --custom-compile-command "make lock" --group dev --extra runner pyproject.toml -o requirements.lock

demo: setup
	@$(BIN)/python examples/shop/demo.py

demo-stop: setup
	@$(BIN)/shoal down --file examples/shop

test: setup
	@# One more than there are processors: most of what tests do is wait for processes.
	@$(BIN)/pytest -n $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --dist worksteal

check: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup
	@$(BIN)/python -m bench --publish

sim: setup
	@$(BIN)/python -m tests.sim --seed $(SEED)

sim-nightly: setup
	@$(BIN)/python -m tests.sim --seeds 0-99999
