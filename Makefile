# Everything runs in the environments that envs/run makes; nothing else has to be installed.
# Programs that look at the code run in main, which has the tools for it.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help
TESTS := test-main test-tensorflow test-workflow test-devices
.PHONY: help envs env-main env-tensorflow demo test $(TESTS) $(TESTS:test-%=again-%) test-quick lint format docs pages proto bench clean distclean

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

# What needs the tensorflow environment; what starts workflows; what goes over SSH; the rest, new folders too.
TESTS_tensorflow := tests/tensorflow tests/runs
TESTS_workflow := tests/runs tests/workflow
TESTS_devices := tests/devices
TESTS_main = $(filter-out $(TESTS_tensorflow) $(TESTS_workflow) $(TESTS_devices),$(patsubst %/,%,$(wildcard tests/[a-z]*/)))
TEST = envs/run $(if $(filter tensorflow,$*),tensorflow,main) pytest -o cache_dir=build/pytest-$* $(TESTS_$*) $(PYTEST)

# Two parts at a time, so that two cores are never idle. The first is seen while it runs, the others at
# the end, whatever comes of each.
test: envs ## all tests, each part in its environment
	@[ "$$(id -u)" != 0 ] || .ci/system-packages
	@rm -rf build/test-* build/pytest-*
	@$(MAKE) --no-print-directory --keep-going --jobs 2 $(TESTS) || true
	@tail -n +1 $(patsubst %,build/%.log,$(filter-out test-main,$(TESTS)))
	@$(MAKE) --no-print-directory --keep-going $(TESTS:test-%=again-%)

# With a folder of its own for temporary files, where locks of devices lie too: the parts do not wait
# for each other. It stays where a test failed.
test-main test-tensorflow test-workflow test-devices: test-%:
	@mkdir -p build; folder=$$(mktemp -d); TMPDIR=$$folder $(TEST) 2>&1 | tee build/test-$*.log $(if $(filter main,$*),,>/dev/null) \
	  && rm -rf "$$folder" && touch build/test-$*.passed

# A test whose time ran out beside another part is a failure only if it fails with nothing beside it;
# both are shown, so that whoever reads it sees which tests a busy machine upsets.
$(TESTS:test-%=again-%): again-%:
	@[ -e build/test-$*.passed ] || { echo "== what failed in $*, again with nothing beside it"; \
	  $(TEST) --last-failed --last-failed-no-failures none; }

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
