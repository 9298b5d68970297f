# make run      check this machine; in a container, a sample machine
# make test     every test that needs no virtual machine
# make lint     format, lint, types, shell
# make bench    time and memory, beside their limits
# make docs     the pages that are made from the code and from what the tests find
# make fuzz     every parser and whole trees, for a minute each (docs/fuzzing.md)
# make lab      every verdict held against a real boot, in virtual machines (docs/lab.md; needs QEMU)
# make lab-smoke  eight of them
# make vm       the other tests that boot virtual machines
# make matrix   the unit tests on the Python and the libraries of Debian 11, 12, 13 and testing (tools/matrix.py)
# make dist     the sources in one file, below dist/
# make deb      the package for Debian, below dist/ (docs/packaging.md)
# make rpm      the packages for RHEL and Fedora, below dist/ (docs/packaging.md)
# make setup    install what is missing; part of all of these

PYTHON = .venv/bin/python
PYTEST = $(PYTHON) -m pytest -p no:cacheprovider
AS_ROOT = tools/as_root.sh
SHELL_FILES = .ci/run tools/*.sh machines/*.sh plugins/hook $(wildcard tests/systemd/*.sh plugins/molly-guard/* plugins/apt/zzz-* bin/* debian/safeupdate.p* debian/tests/verbs)

.PHONY: setup run test lint bench docs fuzz lab lab-smoke vm matrix dist deb rpm

setup:
	@tools/setup.sh

# The root trees hold files that only root may read: what uses them runs as root.
run: setup
	@$(AS_ROOT) $(PYTHON) -m tools.run

test: setup
	$(AS_ROOT) $(PYTHON) -m machines
	$(AS_ROOT) $(PYTHON) -m tools.python39
	$(AS_ROOT) $(PYTEST) -m "not vm"

lint: setup
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	shellcheck $(SHELL_FILES)

bench: setup
	@$(AS_ROOT) $(PYTHON) -m bench

# The first needs no machine: `$(PYTHON) -m tools.findings` alone will do after a change of a check.
docs: setup
	$(PYTHON) -m tools.findings
	$(PYTHON) -m tests.unit.test_distributions
	$(AS_ROOT) $(PYTHON) -m tests.verdicts.test_verdicts

# Atheris has wheels for few versions of Python only, so that set-up does not want it.
fuzz: setup
	@$(PYTHON) -c 'import atheris' 2> /dev/null || $(PYTHON) -m pip install --quiet --disable-pip-version-check \
		--config-settings editable_mode=compat --editable '.[fuzz]'
	@$(AS_ROOT) $(PYTHON) -m tests.fuzz $(FUZZ)

lab: setup
	@$(AS_ROOT) $(PYTHON) -m tests.lab run; status=$$?; $(PYTHON) -m tests.lab page; exit $$status

lab-smoke: setup
	@$(AS_ROOT) $(PYTHON) -m tests.lab run --tag smoke --again --results .venv/lab-smoke.json

vm: setup
	$(AS_ROOT) $(PYTEST) -m vm

# All of them, or those named: make matrix SUITES=trixie
matrix: setup
	$(AS_ROOT) $(PYTHON) -m tools.matrix $(SUITES)

# These want nothing of .venv.
dist:
	@tools/dist.sh

deb:
	@tools/deb.sh

rpm:
	@tools/rpm.sh
