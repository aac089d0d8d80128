# Each target makes its own environment when it is missing: `make demo` works on a fresh clone.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python
# How many emulated machines run side by side.
MACHINES ?= 2
STAMP = $(VENV)/.installed

.PHONY: demo test soak fuzz lint bench docs

demo: $(STAMP)
	$(VENV)/bin/ota demo

test: $(STAMP)
	$(RUN) -m pytest -n auto --dist loadgroup $(TESTS)

soak: $(STAMP)
	COMPLETE=all FAULTS=all OUTCOMES=$${OUTCOMES:-.cache} $(RUN) -m pytest -v -n $(MACHINES) --dist loadgroup -m 'soak or not soak' $(or $(TESTS),tests/vm tests/faults)

fuzz: $(STAMP)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(RUN) -m tests.fuzz $(TARGETS)

lint: $(STAMP)
	$(RUN) -m pytest -q tests/lint

bench: $(STAMP)
	$(RUN) -m tests.bench

docs: $(STAMP)
	$(RUN) -m ota_cli.docs

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	touch $@
