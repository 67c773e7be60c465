# setup: everything the main job needs, into .venv (once; again when dependencies change)
# demo:  a PyTorch module becomes a faster, proven, exported kernel
# fuzz:  mutants of honest kernels, and how many of them the judge finds
# attacks: known cheats against the judge, with and without the guard that stops each
# gpu-check: the GPU that is here: kernels, attacks, benchmarks (again to go on with those);
#            without one it says what was not run; PYTHON=python3 takes a Python that has PyTorch
#            for CUDA as it is, and makes no .venv
# calibrate: how often the statistics err on this machine, and candidates judged per minute
# test, check, bench, clean, setup-peers (ONNX Runtime and OpenVINO as further baselines)

VENV   ?= .venv
DEMO   ?= examples/rmsnorm.py
BUDGET ?= 60s
OUT    ?= docs/results/bench
MINUTES ?= 20
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.setup
PEERS  := $(VENV)/.setup-peers
TESTS  := $(wildcard tests/null tests/host tests/chip)

.PHONY: setup setup-peers demo test check bench fuzz sanitize attacks gpu-check calibrate clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt .ci/python
	@.ci/python -c ''
	.ci/python -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "error: this Python cannot make virtual environments — apt install python3-venv" >&2; exit 2; }
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

setup-peers: $(PEERS)

$(PEERS): $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]'
	touch $@

demo: $(STAMP)
	$(BIN)/epitaxy optimize $(DEMO) --budget $(BUDGET) --out epitaxy-out/demo

test: $(STAMP)
	$(BIN)/python -m pytest $(TESTS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/epitaxy bench examples --budget 90s --out $(OUT)

fuzz: $(STAMP)
	$(BIN)/python tests/host/fuzz_run.py

sanitize: $(STAMP)
	$(BIN)/python tests/host/sanitized.py

attacks: $(STAMP)
	$(BIN)/python -m epitaxy.attacks

ifdef PYTHON
gpu-check: GPU := PYTHONPATH=$(CURDIR)/src:$$PYTHONPATH $(PYTHON)
else
gpu-check: GPU := $(BIN)/python
gpu-check: $(STAMP)
endif
gpu-check:
	@failed=""; \
	try() { echo "== $$*"; "$$@" || failed="$$failed  $$*\n"; }; \
	try env $(GPU) -m pytest tests/chip -rs --tb=short -s; \
	try env $(GPU) -m epitaxy.attacks --on cuda; \
	try env $(GPU) benchmarks/gpu.py $(GPU_ARGUMENTS); \
	test -z "$$failed" || { printf "error: not all of gpu-check went through:\n$$failed"; exit 1; }

calibrate: $(STAMP)
	$(BIN)/python benchmarks/calibrate.py --minutes $(MINUTES) --out docs/results/calibration
	$(BIN)/python benchmarks/rate.py --out docs/results/rate

clean:
	rm -rf $(VENV) build epitaxy-out .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
