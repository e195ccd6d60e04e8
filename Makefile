# On a machine with Python 3.11 to 3.13 and make: `make ablation` runs the main job, `make test` every test.
# Options of the job: make ablation ARGS="--preset smoke"

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo ablation test first-hour newest proofs device fuzz goodput mutants check clean

# Three minutes: two arms, three seeds, and a board that fills up.
demo: $(VENV)/ready
	$(BIN)/python experiments/demo.py

ablation: $(VENV)/ready
	$(BIN)/python experiments/sudoku_ablation.py $(ARGS)

test: check
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder

# What a newcomer types, in a fresh clone and environment: how long until an answer, and until a study?
first-hour:
	python3 tests/first_hour.py

# The suite on the newest jax, flax, optax and orbax, without what only export needs: NEWEST=/path/to/python3.13.
NEWEST ?= $(shell command -v python3.13 || command -v python3.12)
ENGINE := jax|flax|optax|orbax-checkpoint|numpy|ml_dtypes|jax2onnx
newest:
	test -n "$(NEWEST)" || { echo "No Python 3.12 or 3.13: give NEWEST=/path/to/python" >&2; exit 1; }
	$(NEWEST) -m venv .venv-newest
	grep --invert-match --extended-regexp "^($(ENGINE))==" requirements.txt > .venv-newest/others.txt
	.venv-newest/bin/pip install --quiet --upgrade jax flax optax orbax-checkpoint numpy -r .venv-newest/others.txt
	.venv-newest/bin/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder $(NEWEST_ARGS)

proofs: $(VENV)/ready
	$(BIN)/python -m pytest -m slow

# What runs on a Jetson, with the Python of JetPack 6: PYTHON310=/path/to/python3.10 where it is not on the path.
PYTHON310 ?= python3.10
device: $(VENV)/ready
	$(PYTHON310) -m venv .venv310
	.venv310/bin/pip install --quiet --disable-pip-version-check numpy==2.2.6 onnxruntime==1.23.2
	.venv310/bin/python -c "import numpy, onnxruntime"
	$(BIN)/python -m pytest tests/edge/test_classify.py -k python_3_10 -rs

# Every reader and both bodies of the service, on nearly valid inputs: 10 minutes, or FUZZ_SECONDS=60 make fuzz.
fuzz: $(VENV)/ready
	$(BIN)/python tests/fuzz/run.py

# Maps answered in a second by the service under 64 clients that ignore Retry-After, beside the best it can.
goodput: $(VENV)/ready
	$(BIN)/python tests/fuzz/goodput.py

# Faults put into a copy of the code, one at a time: which of them do the tests not find?
mutants: $(VENV)/ready
	$(BIN)/python tests/mutants/apply.py

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The first Python of a tested version that can make environments; some systems list ones that do not start.
$(VENV)/ready: requirements.txt pyproject.toml
	@for python in python3 python3.13 python3.12 python3.11; do \
		if $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
			2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "No Python 3.11, 3.12 or 3.13 with the venv module found: install one (Debian: python3-venv)" >&2; exit 1; \
	fi; \
	echo "Creating $(VENV) with $$($$found --version)"; \
	rm -rf $(VENV) && $$found -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.txt --editable .
	@touch $@

clean:
	rm -rf $(VENV) .venv-newest .venv310 .pytest_cache .mypy_cache .ruff_cache
