# Targets for people. Everything is run as root; `make` alone lists them.

SHELL   := /bin/sh
PYTHON  := .venv/bin/python3
IMAGES  ?= /var/lib/katapy/images
PREFIX  ?= /usr/local
DESTDIR ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
# What users have and a development machine may lack is tried by these; all of vm and engines takes hours where it is emulated.
KVM_TESTS ?= tests/host/test_testhost_machine.py tests/kvm \
	$(patsubst %,tests/vm/test_%.py,lifecycle exec run process terminal) \
	$(patsubst %,tests/engines/test_podman_%.py,cgroups fences lifecycle run running)

.DEFAULT_GOAL := help
.PHONY: help setup image image-check demo lint unit test test-kvm testhost proto bench install uninstall

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## */\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r target text; do \
		printf '  make %-12s %s\n' "$$target" "$$text"; done

setup: ## install what the host lacks, and make .venv
	@sh setup/host.sh

image: setup ## build the guest image (a second call finds it there)
	@$(PYTHON) guest-image/build.py --output $(IMAGES)

image-check: setup ## build the guest image twice and compare the bytes
	@$(PYTHON) guest-image/build.py --output $(IMAGES) --check

demo: ## from nothing to a container in its own virtual machine
	@sh demo/run.sh

lint: setup ## ruff, mypy and the import rules
	@$(PYTHON) -m pytest -q tests/unit/test_linters.py

unit: setup ## tests that need no root and no virtual machine
	@$(PYTHON) -m pytest -q tests/unit $(PYTEST_ARGS)

test: image ## all tests, linters included (PYTEST_ARGS: more arguments; `-n 0`: one after the other)
	@$(PYTHON) -m pytest tests -n auto --dist loadfile $(PYTEST_ARGS)

test-kvm: image ## tests on a host with KVM, vsock, cgroup v2 and systemd: here, or in a test host (KVM_TESTS: other ones)
	@$(PYTHON) -m pytest --testhost $(KVM_TESTS) $(PYTEST_ARGS)

testhost: image ## a shell command on a host with KVM, vsock, cgroup v2 and systemd (CMD='...'), see tests/testhost
	@$(PYTHON) tests/testhost --warm '$(subst ','\'',$(CMD))'

proto: setup ## generate the code of the agent's protocol
	@$(PYTHON) setup/generate_protocol.py

bench: image ## measure what the design promises, beside runc (BENCH_ARGS: --runs N, --json FILE)
	@$(PYTHON) tests/perf/bench.py $(BENCH_ARGS)

install: image ## the command, its configuration, and Podman's drop-in
	@sh setup/install.sh install "$(DESTDIR)" "$(PREFIX)"

uninstall: ## take away what install put there (katapy.yaml stays if it was changed)
	@sh setup/install.sh uninstall "$(DESTDIR)" "$(PREFIX)"
