# Everything this project can do, one target each. `make` alone lists them.
#
#   make site ARGS="--check --diff"     further arguments of ansible-playbook
#   make unit ARGS="-k context -x"      further arguments of pytest
#   make INVENTORY=… site               another inventory than the demo
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
INVENTORY ?= inventories/demo
ARGS ?=
VERSION := $(shell sed -n 's/^version: //p' galaxy.yml)
ARTIFACT := build/nebula-provision-$(VERSION).tar.gz

# Ansible wants UTF-8, which a bare container does not set; tests compare English messages.
export LC_ALL := C.UTF-8
# A world-writable checkout would have its ansible.cfg ignored.
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# pip and others have nothing to ask.
export PIP_NO_INPUT := 1
# Images of containers set it, and each Python that tests start would compile all of ours anew.
unexport PYTHONDONTWRITEBYTECODE

PLAYBOOK := $(BIN)/ansible-playbook -i '$(INVENTORY)'

.PHONY: help site teardown status machine topology audit quick test test-all bench venv run-venv floor-venv newest-venv mutants-venv bench-venv \
	packages constraints hooks lint ruff format mypy yamllint ansible-lint sanity importer docs specifications variables attributes changes floor newest forged matrix \
	changelog artifact unit integration molecule suites touched coverage mutants \
	test-awx test-openvz installer torture clean

help:  ## this list
	@sed -n 's/^\([a-z%-]*\):.*  ## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 18

# --- running ---------------------------------------------------------------------------------------------------------

site: run-venv  ## provision: everything the inventory describes
	$(PLAYBOOK) site.yml $(ARGS)

teardown: run-venv  ## remove every VM, lease, disk and bridge of the inventory
	$(PLAYBOOK) playbooks/teardown.yml $(ARGS)

status: run-venv  ## show hosts, images, networks, leases and VMs; changes nothing
	$(PLAYBOOK) playbooks/status.yml $(ARGS)

machine: run-venv  ## start, stop or restart machines, or show their consoles: ARGS='-e vm=web-0 -e do=stop'
	$(PLAYBOOK) playbooks/machine.yml $(ARGS)

topology: run-venv  ## draw tenants, networks, routers, nodes and machines: build/topology.html
	$(PLAYBOOK) playbooks/topology.yml $(ARGS)

audit: run-venv  ## compare catalog, images and nodes; names each difference and its remedy
	$(PLAYBOOK) playbooks/audit.yml $(ARGS)

# --- set-up ----------------------------------------------------------------------------------------------------------

run-venv:
	@tests/tools/venv.sh .venv requirements/run.txt

venv:  ## the environment with all tools, .venv
	@tests/tools/venv.sh .venv requirements/test.txt

floor-venv:
	@tests/tools/venv.sh .venv-floor requirements/floor.txt

newest-venv:
	@PYTHON="$$(tests/tools/newer_python.sh)" && export PYTHON && tests/tools/venv.sh .venv-newest requirements/newest.txt

mutants-venv:
	@tests/tools/venv.sh .venv-mutants requirements/mutants.txt

bench-venv:
	@tests/tools/venv.sh .venv-bench requirements/bench.txt

packages:  ## the Debian packages that tests need (root)
	@tests/tools/packages.sh requirements/debian.txt
	@[ -d /run/systemd/system ] || tests/tools/packages.sh requirements/firewalls.txt

constraints: run-venv  ## write requirements/exact anew, after a change of a list; ARGS are uv's
	tests/tools/constraints.sh $(ARGS)

hooks: venv  ## have git check what takes seconds before each commit
	$(BIN)/pre-commit install

# --- tests -----------------------------------------------------------------------------------------------------------

# Three tiers; tests/tiers.py says what is in each, and CONTRIBUTING.md how long each takes.
SUITES := $(BIN)/python tests/tools/suites.py
# What is named in ARGS, else all of it.
FILES = $(or $(filter tests/%,$(ARGS)),$(1)) $(filter-out tests/%,$(ARGS))

quick: packages venv ruff mypy  ## before each commit: ruff, mypy, unit tests, and integration tests that take seconds
	@$(BIN)/pytest -n 3 -q $$($(SUITES) files quick) $(ARGS)

# One pytest run over all of them, so that one failing tool hides no other and the last line counts everything:
# the tools below are tests too (tests/tools/test_tools.py). tests/conftest.py says what its processes share;
# ARGS="-n 0" runs all tests one after another.
test: packages venv  ## what CI runs: quick, sanity, importer, docs, and one whole life of every world
	@$(BIN)/pytest -n 3 --durations=30 $$($(SUITES) files test) $(ARGS)

test-all: test  ## everything: test, and each long suite; hours
	@$(SUITES) all

suites: venv  ## the long suites: their names, minutes and subjects
	@$(SUITES) list

touched: packages venv  ## of the long suites those whose subject was changed, the most touched first
	@$(SUITES) touched $(ARGS)

test-%: packages venv  ## one of the long suites by its name, such as test-images
	@$(SUITES) run $* $(ARGS)

lint: ruff mypy yamllint ansible-lint  ## ruff, mypy, yamllint, ansible-lint

ruff: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: venv  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

mypy: venv
	$(BIN)/mypy

yamllint: venv
	$(BIN)/yamllint --strict .

ansible-lint: venv
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline --strict --nocolor

# Moved into place whole: two targets that run at once (test_tools.py) may both build it.
artifact: venv  ## build/nebula-provision-VERSION.tar.gz
	@mkdir -p build && directory=$$(mktemp -d build/artifact.XXXXXX) && \
	$(BIN)/ansible-galaxy collection build --output-path "$$directory" >/dev/null && \
	mv "$$directory"/*.tar.gz $(ARTIFACT); status=$$?; rm -rf "$$directory"; exit $$status

sanity: artifact  ## ansible-test sanity, all tests, nothing ignored
	$(BIN)/python tests/tools/sanity.py $(ARTIFACT) $(ARGS)

importer: artifact  ## what Ansible Galaxy checks of an upload
	$(BIN)/python tests/tools/importer.py $(ARTIFACT)

docs: venv  ## lint the documentation of plugins and roles, and the changelog's fragments
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs all \
		--skip-rstcheck collections/ansible_collections/nebula/provision
	$(BIN)/antsibull-changelog lint
	$(BIN)/python tests/tools/specifications.py --check
	$(BIN)/python tests/tools/variables.py --check
	$(BIN)/python tests/tools/attributes.py --check
	$(BIN)/python tests/tools/changes_of_machines.py --check

specifications: venv  ## the forms of what an item of a list may say, out of plugins/module_utils/model/specifications/*.yml
	$(BIN)/python tests/tools/specifications.py
	$(BIN)/python tests/tools/variables.py

variables: venv  ## docs/variables.md out of the roles' argument_specs
	$(BIN)/python tests/tools/variables.py

attributes: venv  ## docs/attributes.md out of the table of templates' attributes
	$(BIN)/python tests/tools/attributes.py

changes: venv  ## docs/changes.md out of what the catalog decides by the hypervisors' declarations
	$(BIN)/python tests/tools/changes_of_machines.py

# Of the cheap tests those that know Ansible, and what every playbook goes through. Guests' consoles and pictures do not.
OF_ANSIBLE := --ignore tests/unit/plugins/plugin_utils/guest --ignore tests/unit/plugins/plugin_utils/topology tests/unit/test_modules.py $(addprefix tests/unit/plugins/,action connection filter inventory lookup modules plugin_utils test module_utils/test_runner.py)
define cheap_tests
	@mkdir -p build
	$(1)/bin/ansible-doc --metadata-dump nebula.provision >build/documentation$(1).json
	$(1)/bin/ansible-playbook -i '$(INVENTORY)' --syntax-check playbooks/*.yml
	$(1)/bin/ansible-playbook -i '$(INVENTORY)' site.yml --check $(ARGS)
	$(1)/bin/python -m pytest -q $(OF_ANSIBLE)
endef

floor: packages floor-venv  ## the oldest ansible-core promised: documentation, syntax, site.yml --check, its unit tests (root)
	$(call cheap_tests,.venv-floor)

newest: packages newest-venv  ## the same by the newest ansible-core, where a Python for it is (root)
	$(call cheap_tests,.venv-newest)

# What a host answers with, in all roles and playbooks; `make unit` has one of each.
FORGED := $(addprefix tests/unit/plugins/,plugin_utils/test_forged_facts.py action/test_nebula_builtin.py)
forged: packages venv floor-venv  ## hosts that answer with facts named like settings, by each ansible-core (root)
	NEBULA_EVERY=1 $(BIN)/python -m pytest -q -n 2 $(FORGED)
	NEBULA_EVERY=1 .venv-floor/bin/python -m pytest -q -n 2 $(FORGED)
	@if tests/tools/newer_python.sh >/dev/null; then $(MAKE) --no-print-directory newest-venv && \
	NEBULA_EVERY=1 .venv-newest/bin/python -m pytest -q -n 2 $(FORGED); \
	else echo "forged: the newest ansible-core is left out"; fi

matrix: floor  ## the cheap tests by the oldest ansible-core, ours, and the newest (root)
	$(call cheap_tests,.venv)
	@if tests/tools/newer_python.sh >/dev/null; then $(MAKE) --no-print-directory newest; \
	else echo "matrix: the newest ansible-core is left out"; fi

unit: venv  ## the pure layers, and everything that needs no root; ARGS names a file, or options of pytest
	$(BIN)/pytest $(call FILES,tests/unit)

integration: packages venv  ## against the real libvirtd, qemu-img, …; ARGS names a file, or options of pytest (root)
	$(BIN)/pytest $(call FILES,tests/integration)

molecule: packages venv  ## the roles from prepare to cleanup, scenario default (root)
	PATH="$(CURDIR)/$(BIN):$$PATH" molecule test --scenario-name default $(ARGS)

scenario-%: packages venv  ## one of molecule's scenarios (extensions/molecule), such as scenario-xen (root)
	@PATH="$(CURDIR)/$(BIN):$$PATH" molecule test --scenario-name $* $(ARGS)

# It names AWX by AWX_URL and others; tests/awx/run.py says which. Their collection comes with the peers of the benchmarks.
test-openvz: packages venv  ## containers of OpenVZ by a real vzctl (VZCTL=/path/to/vzctl); without one by the stand-in
	VZCTL='$(VZCTL)' $(BIN)/pytest -q -s tests/integration/test_openvz.py

test-awx: bench-venv  ## role awx against a living AWX, and its jobs that need no node (AWX_URL=…)
	@PYTHONPATH=collections .venv-bench/bin/python tests/awx/run.py

installer: packages venv  ## Debian's own installer, by UEFI, preseeded, emulated: half an hour (root)
	@PYTHONPATH=collections $(BIN)/python tests/installer/run.py $(ARGS)

# Another seed each time; TORTURE_SEED repeats one.
TORTURE_SEED ?= $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')
torture: packages venv  ## 200 kills anywhere, 40 rounds of moves, a kill at each call of one, pairs of runs, a full disk at each call, 100 power cuts, hostile input (root)
	@mkdir -p build
	$(BIN)/python tests/torture/torture.py --kills 200 --seed $(TORTURE_SEED) --jobs 2 --report build/torture.jsonl $(ARGS)
	ROUNDS=6 $(BIN)/pytest -s tests/integration/test_runs_at_once.py
	NEBULA_MOVES=40 TORTURE_SEED=$(TORTURE_SEED) $(BIN)/pytest -s tests/integration/test_tortured_moves.py
	NEBULA_MOVE_KILLS=all TORTURE_SEED=$(TORTURE_SEED) $(BIN)/pytest -s tests/integration/test_killed_moves.py
	NEBULA_TORTURE=1 $(BIN)/pytest tests/integration/test_disk_full.py tests/integration/test_power_cut.py
	NEBULA_FUZZ=2000 $(BIN)/pytest tests/unit/test_hostile_text.py tests/unit/test_hostile_guests.py tests/unit/test_injection.py tests/integration/test_hostile_images.py \
	    tests/integration/test_injection.py

coverage: packages mutants-venv  ## lines of the plugins that `make test` reaches, by package and by test: build/coverage; ARGS=SUITE (root)
	@tests/tools/packages.sh requirements/coverage.txt
	.venv-mutants/bin/python tests/tools/measure_coverage.py $(or $(ARGS),test)

mutants: packages mutants-venv  ## small faults put into the plugins: which of them do the tests notice? after `make coverage` (root)
	.venv-mutants/bin/python tests/tools/mutants.py $(ARGS)

bench: packages bench-venv run-venv  ## ratios against the peers, as a table and build/bench.json (root)
	@tests/tools/packages.sh requirements/bench-packages.txt
	@mkdir -p build
	@PYTHONPATH=collections .venv-bench/bin/python tests/tools/guest_images.py
	.venv-bench/bin/python benchmarks/run.py --output build/bench.json $(ARGS)

changelog: venv  ## CHANGELOG.md out of the fragments of released versions
	$(BIN)/antsibull-changelog generate

clean:  ## what was built; environments stay
	rm -rf build .ansible .hypothesis .mypy_cache .pytest_cache .ruff_cache
