# Occam's Networks: `make help` lists what can be made.
PYTHON ?= python3
TORCH_INDEX ?=
NB ?=
SCALE ?= book
DEVICE ?= cpu
SEEDS ?= 5
JOBS ?= 2

BIN := .venv/bin
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: help book test lint unit notebooks site lab run reseed bench lock clean

help: ## list these targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12
	@echo; echo "Variables: NB='notebooks/perceptron/01*.ipynb'  SCALE=book|paper  DEVICE=cpu|cuda  SEEDS=5  JOBS=2"
	@echo "           TORCH_INDEX=https://download.pytorch.org/whl/cpu  (on Linux: the small CPU build of torch)"

book: .venv-book/ready ## build the site into _build/html (no torch needed)
	.venv-book/bin/jupyter-book build . --quiet
	@echo; echo "The book is built. Open file://$(CURDIR)/_build/html/index.html"

test: lint unit notebooks site ## prove it: lint, unit tests, every notebook, the site in a browser

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

unit: .venv/ready
	$(ONE_THREAD) $(BIN)/pytest -q -n 2 --ignore=tests/test_site.py --jaxtyping-packages=occamnets,beartype.beartype \
	    tests lib README.md

notebooks: .venv/ready
	$(BIN)/pytest -q -n 2 --dist loadfile --nbval --nbval-current-env --nbval-sanitize-with tests/nbval.cfg notebooks

site: .venv/ready
	$(BIN)/pytest -q -rs tests/test_site.py

lab: .venv/ready ## open JupyterLab
	$(BIN)/jupyter lab notebooks

run: .venv/ready ## run notebooks again (NB, SCALE, DEVICE); paper scale writes results/ alone
	$(BIN)/python scripts/notebooks.py run $(NB) --scale $(SCALE) --device $(DEVICE) --jobs $(JOBS)

reseed: .venv/ready ## run notebooks under other seeds (NB, SEEDS) and record their verdicts
	$(BIN)/python scripts/notebooks.py reseed $(NB) --seeds $(SEEDS) --jobs $(JOBS)

bench: .venv/ready ## measure speed and memory, ours against the plain way (RECORD=1: keep the run for the book)
	$(ONE_THREAD) $(BIN)/pytest -q --benchmark-quiet $(if $(RECORD),--record) benchmarks

lock: ## write both lock files anew from pyproject.toml
	$(PYTHON) scripts/lock.py

clean: ## remove environments and everything built
	rm -rf .venv .venv-book _build .pytest_cache .hypothesis .ruff_cache lib/*.egg-info

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install -q --disable-pip-version-check -r requirements.lock $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv-book/ready: requirements-book.lock
	$(PYTHON) -m venv --clear .venv-book
	.venv-book/bin/pip install -q --disable-pip-version-check -r requirements-book.lock
	@touch $@
