# Both commands set themselves up in .venv; a machine needs only Python 3.11 and make.
PYTHON ?= python3.11
BIN := .venv/bin
BENCHMARKS := aa_studies cosines controls quality paper_tables tables_suite fresh_tables base_share where_it_pays ladder cost ranking_cost large_batches soft_rank reloss_correlation reloss_training reloss_pitfalls adalfl adalfl_long clean_validation toward_metric phenomena look_ahead_cost pose pose_humanoid translation spans retrieval segmentation ala predict_memory
STAMP := .venv/.installed

.PHONY: install compare test lint bench docs loc fence clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "metricgrad needs Python 3.11 or later: install it, or call make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[train,compare,test,bench]"
	@touch $(STAMP)

compare: install
	$(BIN)/metricgrad compare digits-noisy --metric accuracy --losses cross_entropy,uniloss,reloss,adalfl,ala --trials 6 --seeds 10 --jobs 2 --out runs/compare

# two processes of one thread each; the tests of a file stay together, in the order of their names: those that take long come early;
# what is imported first is compiled and kept for the hundred processes that tests start, also where the machine is told to keep nothing
test: install
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright --threads

bench: install
	for script in $(BENCHMARKS); do $(BIN)/python benchmarks/$$script.py || exit 1; done
	$(BIN)/python benchmarks/report.py

# an hour or two; tests run a part of it
fuzz: install
	for script in $$(grep -l __main__ benchmarks/fuzz/*.py); do $(BIN)/python $$script || exit 1; done

docs: install
	$(BIN)/python docs/generate_inference_table.py
	$(BIN)/python docs/generate_pages.py
	$(BIN)/python docs/generate_devices.py
	$(BIN)/python docs/generate_compiling.py

# how large the library is
loc:
	@$(PYTHON) docs/count_lines.py

# the numbers of every cell into RECORD, before and after a reorganisation; see CONTRIBUTING.md
RECORD ?= runs/fence.safetensors
fence: install
	mkdir -p $(dir $(RECORD))
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fence record $(RECORD)

clean:
	rm -rf runs .pytest_cache .ruff_cache
