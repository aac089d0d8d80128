# Each target makes its own environment when it is missing: `make demo` works on a fresh clone.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
# How many emulated machines run side by side.
MACHINES ?= 2
STAMP = $(VENV)/.installed

.PHONY: demo test soak fuzz lint bench docs screens promises

demo: $(STAMP)
	$(VENV)/bin/ota demo

test: $(STAMP)
	$(RUN) -m pytest -n auto --dist loadgroup --junitxml=.cache/test.xml $(TESTS)

soak: $(STAMP)
	COMPLETE=all FAULTS=all OUTCOMES=$${OUTCOMES:-.cache} $(RUN) -m pytest -v --junitxml=.cache/soak.xml -n $(MACHINES) --dist loadgroup -m 'soak or not soak' $(or $(TESTS),tests/vm tests/faults)

fuzz: $(STAMP)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(RUN) -m tests.fuzz $(TARGETS)

lint: $(STAMP)
	$(RUN) -m pytest -q tests/lint

bench: $(STAMP)
	$(RUN) -m tests.bench

docs: $(STAMP)
	$(RUN) -m ota_cli.docs

# What people see on a terminal, as it is now; look at each with `git diff` before it is expected.
screens: $(STAMP)
	SCREENS=write $(RUN) -m pytest -q tests/screens

# Counts in the reports that `make test` and `make soak` left, into the README.
promises: $(STAMP)
	$(RUN) -m tests.promises $(wildcard .cache/test.xml .cache/soak.xml)

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	touch $@
