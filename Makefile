# Everything is set up on first use and reused afterwards. PIP_ARGS passes through to pip, for example
#   make ladder PIP_ARGS="--extra-index-url URL-OF-ANOTHER-TORCH-INDEX"
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: install ladder test test-extras test-ranks lint bench docs tour site clean

install: $(VENV)/.ready ## Create .venv and install pinned versions; every other target does so by itself

ladder: $(VENV)/.ready ## Train and measure the rungs of the log at budget quick; print the table, write the report
	$(BIN)/mytnano ladder $(ARGS)

test: $(VENV)/.ready-dev lint ## Lint, check the layers, run the tests
	$(BIN)/python -m pytest -n 2 -m "not extras and not ranks" $(ARGS)

test-extras: $(VENV)/.ready-extras ## The slow checks: kill -9 of a whole ladder, other corpora, exports, the site, a browser if there is one
	$(BIN)/python -m pytest -n 2 -m extras $(ARGS)

test-ranks: $(VENV)/.ready-dev ## Training on one, two and four processes, and the guide of docs/scale.md line by line
	$(BIN)/python -m pytest -m ranks $(ARGS)

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check src tests scripts
	$(BIN)/ruff format --check src tests scripts
	$(BIN)/lint-imports

bench: $(VENV)/.ready-dev ## Optimizer steps in tokens/s; ARGS="--nanogpt PATH" races against a nanoGPT checkout
	$(BIN)/mytnano bench $(ARGS)

docs: $(VENV)/.ready ## Fill the generated parts of README.md and docs/ from result files
	$(BIN)/python scripts/generate.py $(ARGS)

tour: $(VENV)/.ready ## Run the cells of docs/tour.md, and fill the page with what they print
	$(BIN)/python scripts/run_tour.py $(ARGS)

site: $(VENV)/.ready-site ## Build the site of docs/ into out/site; ARGS=serve shows it on this machine
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs $(or $(ARGS),build)

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit('mytnano needs Python 3.11 or newer; this is ' + sys.version.split()[0] + '. Try: make PYTHON=python3.12') if sys.version_info < (3, 11) else None"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt -e .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	touch $@

$(VENV)/.ready-extras: $(VENV)/.ready-dev
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt -e ".[dev,docs,hf,gguf,lm-eval,tensorboard,wandb]"
	touch $@

$(VENV)/.ready-site: $(VENV)/.ready
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt -e ".[docs]"
	touch $@

clean: ## Remove the environment (results in out/ stay)
	rm -rf $(VENV)
