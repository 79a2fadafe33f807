# Nothing of an environment that happens to be active may leak into ours.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

PY := .venv/bin/python
# Each worker imports semilearn once (about 8 s); one thread each keeps the workers from fighting over cores.
PYTEST_WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(PY) -m pytest -q -n $(PYTEST_WORKERS) --dist loadfile

.PHONY: help install demo docs lint test test-all upstream bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

install: ## make .venv with everything in it (about 3 minutes and 6 GB, once)
	@bash scripts/setup_env.sh

demo: install ## train and compare on a small example
	@$(PY) scripts/demo.py

docs: install ## the documentation as a site: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build

lint: install ## ruff, and mypy on the pure modules
	$(PY) -m ruff check .
	$(PY) -m mypy

test: lint ## lint and the fast tests
	$(PYTEST)

test-all: lint ## lint and all tests, the slow ones too, and what they say into docs/reliability.md (USB=.. as in upstream)
	$(PYTEST) -m "" --junitxml build/tests.xml
	$(PY) scripts/reliability.py build/tests.xml

upstream: install ## check the two patch series for USB: make upstream USB=<checkout of USB's main> (about 10 minutes)
	@$(PY) scripts/check_upstream.py --usb "$(or $(USB),$(error USB: give a checkout of USB's main, make upstream USB=<folder>))"

bench: install ## all benchmarks, each a ratio measured in one run (about an hour), into results/performance
	@$(PY) benchmarks/all.py

clean: ## remove caches and build outputs (.venv stays)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
