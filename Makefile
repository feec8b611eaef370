# SPDX-License-Identifier: GPL-2.0
# The way to everything: `make help`.

# For pipefail: a test's output also goes to a file.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

PYTHON := /usr/bin/python3
VENV := build/venv/bin
# The kernel's makes that these run take all CPUs, and not the jobs of this one.
SETUP := env -u MAKEFLAGS PYTHONPATH=tools $(PYTHON) -m setup
SUITES := env -u MAKEFLAGS PYTHONPATH=tests/lab:tools $(PYTHON) -m labvm.suites
RELEASE = $(shell uname -r)
VERSION = $(shell sed -n 's/^version = //p' setup.cfg)

# Kernels to build the modules for; others are fetched when they are named here.
KERNELS ?= 6.1

# What the linters look at: every package that is there.
PACKAGES := $(wildcard tools/popcorn tools/popcorn_tracing tools/codegen tools/setup tests/lab/labvm)

.DEFAULT_GOAL := help
.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

.PHONY: demo
demo: setup modules build/bin/popcornctl ## Start a second kernel beside the first, in an emulated machine
	@rm -f build/demo.json build/lab/out/demo.json
	tests/lab/run -- $(PYTHON) tests/lab/demo.py
	@cp build/lab/out/demo.json build/demo.json
	@echo "written to build/demo.json"

# The emulated machines leave a part of the CPUs idle: what needs no lab takes that, and no more. Some unit tests
# read the kernels, so those come first.
.PHONY: test
test: setup ## Check everything against the distribution's own kernel
	@$(SETUP) kernels $(KERNELS)
	@$(MAKE) --no-print-directory modules
	@$(MAKE) --no-print-directory --jobs=2 test-lab test-beside
	@echo "unit: $$(tail -n 1 build/unit.log)" && cat build/lab/summary

# Its output would come between that of the lab: it is shown if something fails.
.PHONY: test-beside
test-beside: setup
	@nice $(MAKE) --no-print-directory lint unit >build/beside.log 2>&1 || { cat build/beside.log; exit 1; }
	@echo "lint, unit: $$(tail -n 1 build/unit.log) (build/beside.log)"

.PHONY: test-matrix
test-matrix: setup perfetto build/bin/popcornctl ## Run the lab tests on 6.1, 6.12 and 7.2, mixed, BIOS and UEFI, xAPIC and x2APIC
	$(PYTHON) -m pytest tests/unit/test_perfetto.py
	$(SUITES) matrix

.PHONY: test-debug
test-debug: setup build/bin/popcornctl ## Run the lab tests on a kernel with KASAN, lockdep, kmemleak and UBSAN, built once
	$(SUITES) debug

.PHONY: bench
bench: setup modules build/bin/popcornctl ## Measure
	$(PYTHON) tests/bench/run.py

.PHONY: unit
unit: setup ## Run the tests that need no second machine
	$(PYTHON) -m pytest tests/unit tests/ring tests/model | tee build/unit.log

.PHONY: test-lab
test-lab: setup modules build/bin/popcornctl ## Run the lab tests on the distribution's own kernel
	$(SUITES) test

# For hours: ten million messages each way, a hundred crashes, a million writes of a hostile kernel.
.PHONY: test-soak
test-soak: setup modules build/bin/popcornctl ## Run the lab tests that may take hours
	POPCORN_SOAK=1 $(SUITES) soak

.PHONY: perfetto
perfetto: setup ## Build Perfetto's trace processor, once; tests then open our timelines in it
	$(SETUP) perfetto

.PHONY: lab
lab: setup modules build/bin/popcornctl ## Open a shell in the lab
	tests/lab/run

.PHONY: lint
lint: setup ## Check style and types
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	MYPYPATH=tools:tests/lab $(VENV)/mypy $(PACKAGES)

.PHONY: fmt
fmt: setup ## Put the Python code into its canonical form
	$(VENV)/ruff check --fix --select I .
	$(VENV)/ruff format .

.PHONY: modules
modules: setup build/popcorn-agent ## Build the kernel modules for KERNELS (default: 6.1)
	$(SETUP) modules $(KERNELS)

.PHONY: untraced
untraced: setup ## Build the modules for KERNELS without tracepoints, too, to measure what those cost
	$(SETUP) untraced $(KERNELS)

.PHONY: gen
gen: ## Regenerate what is derived from kmod/uapi/popcorn.yaml
	PYTHONPATH=tools $(PYTHON) -m codegen

.PHONY: docs
docs: gen ## Regenerate docs/reference/
	PYTHONPATH=tools $(PYTHON) -m codegen.man

# Below DESTDIR for a package. For another kernel than the running one: RELEASE, and KDIR if its build
# tree is not where distributions link it.
KDIR = /lib/modules/$(RELEASE)/build
FISH = /etc/fish/completions
PIP = $(PYTHON) -m pip --quiet --disable-pip-version-check

.PHONY: install
install: setup ## Install popcornctl, its manual and the modules for RELEASE, the running kernel
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" = 0 ] || \
		{ echo "install: needs root; or install below a directory: make install DESTDIR=DIRECTORY" >&2; exit 1; }
	@if ! [ -e "$(KDIR)/Makefile" ]; then \
		echo "install: cannot build the modules for $(RELEASE): its headers are not in $(KDIR)"; \
		echo "hint: if it is Debian's kernel: apt-get install linux-headers-$(RELEASE)"; \
		echo "hint: if it is your own: make install KDIR=DIRECTORY, where it was built"; \
		found=$$(ls -d /lib/modules/*/build/Makefile 2>/dev/null | cut -d/ -f4 | paste -sd' '); \
		[ -z "$$found" ] || echo "hint: for another one: make install RELEASE=..., headers are here for $$found"; \
		exit 1; \
	fi >&2
	@# Here, so that a refusal comes before anything is built.
	@$(MAKE) --no-print-directory build/popcorn-agent
	@# From build/lib, pip would install what is gone from the source, too.
	rm -rf build/install build/lib build/bdist.* && cp -a kmod build/install
	$(MAKE) -C build/install KDIR="$(abspath $(KDIR))" PCN_VERSION=$(VERSION) modules
	@built=$$(modinfo -F vermagic build/install/popcorn.ko | cut -d' ' -f1); \
	[ "$$built" = "$(RELEASE)" ] || { \
		echo "install: $(KDIR) is of $$built, not of $(RELEASE)"; \
		echo "hint: make install KDIR=$(KDIR) RELEASE=$$built"; \
		exit 1; \
	} >&2
	$(PIP) install --root-user-action=ignore --break-system-packages --no-build-isolation --no-deps \
		$(if $(DESTDIR),--ignore-installed --no-warn-script-location --root="$(abspath $(DESTDIR))") .
	install -D -m 644 -t "$(DESTDIR)/lib/modules/$(RELEASE)/updates/popcorn" build/install/*.ko
	install -D -m 755 -t "$(DESTDIR)/usr/local/lib/popcorn" build/popcorn-agent
	@# What is for one machine only. Debian's fish does not look into /usr/local by itself.
	$(if $(DESTDIR),,install -D -m 644 -t $(FISH) tools/popcorn/cli/shell/popcornctl.fish)
	$(if $(DESTDIR),,depmod $(RELEASE))

.PHONY: uninstall
uninstall: ## Remove what install installed, for all kernels
	@[ -z "$(DESTDIR)" ] || \
		{ echo "uninstall: what is below DESTDIR is removed with it" >&2; exit 1; }
	@[ "$$(id -u)" = 0 ] || { echo "uninstall: needs root" >&2; exit 1; }
	@! systemctl is-enabled popcorn-metrics.timer >/dev/null 2>&1 || \
		systemctl disable $$([ ! -d /run/systemd/system ] || echo --now) popcorn-metrics.timer
	$(PIP) uninstall --yes --root-user-action=ignore --break-system-packages popcorn
	@for modules in /lib/modules/*/updates/popcorn; do \
		[ -d "$$modules" ] || continue; \
		release=$$(echo "$$modules" | cut -d/ -f4); \
		echo "rm -r $$modules"; rm -r "$$modules" || exit 1; \
		rmdir --ignore-fail-on-non-empty "$${modules%/popcorn}"; \
		depmod "$$release" || exit 1; \
	done
	rm -f $(FISH)/popcornctl.fish
	rm -rf /usr/local/lib/popcorn
	rm -rf /var/cache/popcorn
	@! [ -d /sys/module/popcorn ] || \
		echo "the modules stay loaded until you reboot, or: modprobe -r popcorn_host popcorn"

.PHONY: setup
setup: ## Install what building and testing need
	@tools/setup/host.sh

.PHONY: clean
clean: ## Remove what was built; fetched kernels and root file systems stay (they are in build/ too)
	rm -rf build/modules build/lab build/bin build/popcorn-agent build/install build/lib build/bdist.*
	find . -name __pycache__ -not -path './build/*' -prune -exec rm -rf {} +

# What runs commands on other kernels, for their images: static, as nothing else is there.
build/popcorn-agent: agent/agent.c
	@mkdir -p $(@D)
	$(CC) -Wall -Wextra -O2 -static -s -o $@ $<

# The command of the checkout, as an installed one would be called.
build/bin/popcornctl: Makefile
	@mkdir -p $(@D)
	@{ \
		echo '#!/bin/sh'; \
		echo '# Run popcornctl from the checkout.'; \
		echo 'PYTHONPATH="$(CURDIR)/tools$${PYTHONPATH:+:$$PYTHONPATH}" exec $(PYTHON) -m popcorn.cli "$$@"'; \
	} >$@
	@chmod +x $@
