# Each target makes .venv and installs what it needs, once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STORE  ?= store
PYTEST := OMP_WAIT_POLICY=passive $(BIN)/pytest --durations 10
BOTH   := --numprocesses 2 --dist worksteal

.PHONY: demo test test-slow bench gpu-check clean
.DEFAULT_GOAL := demo

$(VENV)/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps vos-benchmark  # see setup.cfg
	touch $@

demo: $(VENV)/installed   ## the main job on the generated miniature: videos and sentences in, masks and a report out
	$(BIN)/acga run configs/miniature.toml --store $(STORE)

test: $(VENV)/installed   ## lint, types and the tests, without the long proofs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy data extractors models pipeline
	$(PYTEST) $(BOTH) -m 'not slow' $(ARGS)

test-slow: $(VENV)/installed   ## the long proofs
	$(PYTEST) -m 'slow and alone' $(ARGS)
	$(PYTEST) $(BOTH) -m 'slow and not alone' $(ARGS)

bench: $(VENV)/installed   ## what is fast, measured on this machine
	for script in stages catalogue scheduler decoding text shards trunk disk memory network; do $(BIN)/python tests/benchmarks/$$script.py || exit 1; done

gpu-check:   ## parity, training, exact resume and speed on a GPU; installs nothing, uses PYTHON as it is
	$(PYTHON) tests/gpu/gpu_check.py

clean:
	rm -rf $(VENV) build *.egg-info
