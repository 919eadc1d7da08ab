# Everything runs in the environments that envs/run makes; nothing else has to be installed.
# Programs that look at the code run in main, which has the tools for it.
.DEFAULT_GOAL := help
.PHONY: help envs env-main env-tensorflow demo test test-main test-tensorflow test-again test-quick lint format docs pages proto bench clean distclean

MAIN := envs/run main
TENSORFLOW := envs/run tensorflow
PYTHON := core tests workflow profiles
SNAKEFILES := Snakefile rules

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

envs: ## make both environments, side by side
	@$(MAKE) --no-print-directory --jobs 2 env-main env-tensorflow

env-main env-tensorflow:
	@envs/run $(@:env-%=%)

demo: envs ## figure 15a at demo scale
	$(MAIN) snakemake figures/fig15a.pdf --cores 1

# Both halves run side by side, and report whatever comes of the other: the shorter one at the end.
test: envs ## all tests, each half in its environment
	@[ "$$(id -u)" != 0 ] || .ci/system-packages
	@rm -rf build/test-*.passed build/pytest-*
	@$(MAKE) --no-print-directory --keep-going --jobs 2 test-main test-tensorflow || true
	@cat build/test-tensorflow.log; $(MAKE) --no-print-directory test-again

test-main:
	@mkdir -p build; $(MAIN) pytest -o cache_dir=build/pytest-main $(PYTEST) && touch build/test-main.passed

# With a folder of its own for temporary files, where locks of devices lie too: the halves do not wait
# for each other. It stays where a test failed.
test-tensorflow:
	@mkdir -p build; folder=$$(mktemp -d); TMPDIR=$$folder $(TENSORFLOW) pytest -o cache_dir=build/pytest-tensorflow \
	  tests/tensorflow tests/runs $(PYTEST) >build/test-tensorflow.log 2>&1 && rm -rf "$$folder" && touch build/test-tensorflow.passed

# A test whose time ran out beside the other half is a failure only if it fails with nothing beside it;
# both are shown, so that whoever reads it sees which tests a busy machine upsets.
test-again:
	@status=0; for half in main tensorflow; do [ -e build/test-$$half.passed ] || { \
	  echo "== what failed in $$half, again with nothing beside it"; \
	  envs/run $$half pytest -o cache_dir=build/pytest-$$half --last-failed --last-failed-no-failures none \
	    $$([ $$half = main ] || echo tests/tensorflow tests/runs) $(PYTEST) || status=1; }; done; exit $$status

test-quick: ## the tests that take seconds
	@$(MAKE) --no-print-directory test PYTEST='-m "not slow" $(PYTEST)'

lint: ## format, likely defects, types
	$(MAIN) ruff format --check $(PYTHON)
	$(MAIN) ruff check $(PYTHON)
	$(MAIN) mypy
	$(MAIN) snakefmt --check $(SNAKEFILES)
	$(MAIN) .ci/snakemake-lint

format: ## put the code into its format
	$(MAIN) ruff check --fix-only --quiet $(PYTHON)
	$(MAIN) ruff format $(PYTHON)
	$(MAIN) snakefmt $(SNAKEFILES)

docs: ## the pages of docs/ as a site, in build/site
	$(MAIN) env NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

pages: ## docs/commands.md, docs/expected.md, and the README's pictures from figures/
	@$(MAIN) python -m core pages

proto: ## make the code of the wire's headers again, after a change of core/split/wire.proto
	$(MAIN) python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. core/split/wire.proto

bench: envs ## run every benchmark into results/bench/
	@mkdir -p results/bench; status=0; list=$$($(MAIN) python -m core bench --list) || exit; \
	for bench in $$(echo "$$list" | tr ' ' :); do \
	  name=$${bench%:*}; environment=$${bench#*:}; echo "== $$name ($$environment)"; \
	  envs/run $$environment python -m core bench $$name --out results/bench/$$name-$$environment.json || status=1; \
	done; \
	exit $$status

clean: ## remove results and figures; environments and downloads stay
	find results figures -mindepth 1 -maxdepth 1 ! -name README.md ! -name downloads -exec rm -rf {} +
	rm -rf logs build dist

distclean: clean ## remove environments and downloads too
	rm -rf .envs .snakemake results/downloads *.egg-info
