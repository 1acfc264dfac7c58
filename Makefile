# Each target does its own set-up; when everything is there already that takes a second.
# The work is in tools/; `make help` lists what there is.

# A test waits for servers, time limits and browsers more than it computes, so there are more workers than cores.
WORKERS ?= 4
# What needs no server, no clock and no process.
PURE = tests/oci tests/rules tests/values tests/model tests/edge/test_headers.py tests/drift/test_compare.py \
	tests/bench tests/rehearsal/test_child.py tests/console/test_links.py tests/console/test_wording.py \
	$(wildcard tests/console/test_contexts_*.py)

# The tests as pytest rewrites them are kept: to do so anew is half of the time that each worker needs to begin.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test test-pure attack soak audit-check bench bench-smoke bench-console lint format lock clean

help:
	@echo 'make run     start immuproxy, a registry and an embedded Redis in the foreground (EDGE=, CONSOLE= to move them)'
	@echo 'make test    run the whole test suite (ARGS="-k name" for a part of it; WORKERS=4)'
	@echo 'make test-pure  the tests of names, rules, values, the model and what pages show: seconds, and no server'
	@echo 'make attack  hostile requests and faults on every surface, the long ones too (ARGS="-k name" for a part of it)'
	@echo 'make soak    random clients and every fault for an hour (SECONDS=, TOPOLOGY=sentinel or cluster, SEED= to replay one)'
	@echo 'make audit-check  the audit held against what was sent and answered, for ten minutes of faults (SECONDS=, SEED=)'
	@echo 'make bench   pulls and pushes directly and behind nginx, HAProxy and immuproxy, in turn (SCALE=, RUNS=, ONLY=, JSON=)'
	@echo 'make bench-smoke  the same in under two minutes, held against generous margins'
	@echo 'make bench-console  time every page of the console at 10,000 and at 1,000,000 events (RUNS=, SIZES="...")'
	@echo 'make lint    lint, format check, types and the arrows between the rooms'
	@echo 'make format  format the code'
	@echo 'make lock    write the lock files anew from pyproject.toml'
	@echo 'make clean   remove what run and test made, data included'

run:
	@tools/setup run
	@exec .venv/bin/python tools/run.py $(if $(EDGE),--edge $(EDGE)) $(if $(CONSOLE),--console $(CONSOLE))

test:
	@tools/setup test
	@exec .venv/bin/python -m pytest $(or $(ARGS),-n $(WORKERS) --dist loadfile --no-loadscope-reorder)

test-pure:
	@tools/setup test
	@exec .venv/bin/python -m pytest -q $(PURE) $(or $(ARGS),-n 2 --dist worksteal)

attack:
	@tools/setup test
	@exec .venv/bin/python -m pytest tests/attack -m '' $(or $(ARGS),-n 2 --dist loadfile)

soak:
	@tools/setup test
	@PYTHONPATH=. exec .venv/bin/python tools/soak.py $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(TOPOLOGY),--topology $(TOPOLOGY))

audit-check:
	@tools/setup test
	@PYTHONPATH=. exec .venv/bin/python tools/audit_check.py $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

bench:
	@tools/setup bench >&2
	@exec .venv/bin/python -m bench.proxying $(if $(SCALE),--scale $(SCALE)) $(if $(RUNS),--runs $(RUNS)) $(if $(ONLY),--only $(ONLY)) $(if $(JSON),--json $(JSON))

bench-smoke:
	@tools/setup bench >&2
	@exec .venv/bin/python -m bench.smoke

bench-console:
	@tools/setup test
	@PYTHONPATH=. exec .venv/bin/python bench/console.py $(if $(RUNS),--runs $(RUNS)) $(SIZES)

lint:
	@tools/setup lint
	@tools/lint

format:
	@tools/setup lint
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

lock:
	@tools/lock

clean:
	rm -rf .venv .immuproxy .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
