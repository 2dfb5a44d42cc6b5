# Two commands on a fresh machine with Python >= 3.11: `make demo` and `make test`. Each makes .venv and installs what it needs.

PYTHON ?= python3
VENV ?= .venv

.PHONY: demo test lint clean

# Memory in huge pages saves a fifth to a third of a training step on a CPU (Linux, glibc 2.35 or newer; elsewhere it changes nothing).
demo: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
demo: $(VENV)/.run
	$(VENV)/bin/python main.py --config=configs/synthetic.py --workdir=runs/demo

test: $(VENV)/.test
	$(VENV)/bin/python -m pytest

lint: $(VENV)/.test
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check --quiet .
	$(VENV)/bin/lint-imports

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; give it with: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python requirements.txt
	$(VENV)/bin/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.test: $(VENV)/.run requirements-test.txt
	$(VENV)/bin/python -m pip install --quiet -r requirements-test.txt
	touch $@

clean:
	rm -rf $(VENV) runs data
