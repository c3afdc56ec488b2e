# Needs Python 3.11 and make; everything else is installed into .venv. `make demo` and `make test` set it up when missing.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready

export TF_CPP_MIN_LOG_LEVEL := 3
export KERAS_BACKEND := tensorflow

.PHONY: test test-all demo bench gpu lint format mutants floors oracle clean

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# The long proofs too: every night, and before a release.
test-all: $(READY)
	ROBERTA_TESTS_OPTIMISED=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m ""

demo: $(READY)
	@$(BIN)/python -m roberta demo

# Beside every named peer, each fetched into a folder of its own; takes an hour on a quiet machine. Writes docs/performance.md.
bench: $(READY)
	$(BIN)/python -m benchmarks inference --docs

# Every class on the GPU of this machine against our CPU in float64, and its speed; says so and skips where there is none.
gpu: $(READY)
	$(BIN)/python -m benchmarks gpu

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Seeded mistakes in a copy of the code, each of which a test has to catch. Takes long.
mutants: $(READY)
	$(BIN)/python tests/mutants.py

# The lowest versions that pyproject.toml allows, in .floors beside .venv, and the tests that call them. Takes long.
floors: $(READY)
	$(BIN)/python tests/floors.py

# Other people's implementations, for tests/oracle: never dependencies, and never in .venv.
oracle: .oracle/transformers4 .oracle/transformers5

.oracle/transformers4: PACKAGES = transformers==4.57.6 tokenizers==0.22.2 huggingface_hub==0.36.0 tf_keras==2.21.0 requests accelerate==1.15.0 psutil sentencepiece==0.2.3
.oracle/transformers5: PACKAGES = transformers==5.23.0 accelerate==1.15.0 psutil
.oracle/transformers4 .oracle/transformers5: | $(READY)
	rm -rf $@ $@.part
	$(BIN)/python -m pip install --quiet --no-deps --target $@.part $(PACKAGES)
	mv $@.part $@

# seqeval comes as source: --use-pep517 builds it without a setuptools of our own.
# A virtual environment with the tested versions and this project, editable; made again when they change.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --use-pep517 --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .oracle .floors demo-checkpoint demo-sapiens
