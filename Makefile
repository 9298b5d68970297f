# make run      check this machine; in a container, a sample machine
# make test     every test that needs no virtual machine
# make lint     format, lint, types, shell
# make bench    time and memory, beside their limits
# make lab      the tests that boot virtual machines (needs QEMU)
# make setup    install what is missing; part of all of these

PYTHON = .venv/bin/python
SHELL_FILES = .ci/run tools/*.sh machines/*.sh

.PHONY: setup run test lint bench lab

setup:
	@tools/setup.sh

run: setup
	@$(PYTHON) tools/run.py

test: setup
	$(PYTHON) -m machines
	$(PYTHON) tools/test_on_python39.py
	$(PYTHON) -m pytest -m "not vm"

lint: setup
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	shellcheck $(SHELL_FILES)

bench: setup
	$(PYTHON) -m bench

lab: setup
	$(PYTHON) -m pytest -m vm
