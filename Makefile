# Every step from a fresh machine: Python >= 3.11, make and the package registries are enough.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env serve test check describe services crash bounds caps drain reload storm grants bench bench-batch bench-count bench-elsewhere overload idle-streams bench-keys prices docs simulate growth lock clean

VENV := .venv
BIN := $(VENV)/bin
# The first of these that is new enough and can make a virtual environment; PYTHON=... names one.
CANDIDATES := $(or $(PYTHON),/usr/bin/python3 python3 python3.13 python3.12 python3.11 python3.14)
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
# Tests wait half of their time and more, for disks, clocks and servers: two run for each core, and one more.
JOBS ?= $(shell expr `getconf _NPROCESSORS_ONLN` \* 2 + 1)
# Only wheels with a known hash: a source package would fetch its build tools unchecked. What is imported is compiled
# when it is: all that is installed would take as long again.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-compile
LOCKED := $(INSTALL) --only-binary :all: --require-hashes
EDITABLE := $(INSTALL) --no-deps --no-build-isolation --editable .

# What pytest runs for minutes says how far it is, and at the end what to do.
# Where nearly all of the time is a wait for deadlines: four processes for each core.
BESIDE := -n $(shell expr `getconf _NPROCESSORS_ONLN` \* 4)
LONG := $(BIN)/python -m pytest -q -p tests.longform -o timeout=0

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1 \t/p' Makefile | expand -t 12

env: $(VENV)/.dev ## build .venv with the package and its tools

serve: $(VENV)/.run ## run the gateway; ARGS="--port 9000" passes options
	@exec $(BIN)/headgate serve $(ARGS)

test: $(VENV)/.dev ## run every test that this machine can run; ARGS="-k words" selects
	@PYTEST_XDIST_AUTO_NUM_WORKERS=$(JOBS) $(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

check: $(VENV)/.dev ## lint, format, types, import directions, size limits
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_limits.py

describe: $(VENV)/.dev ## try the admin API's description against it, long; CASES=100 for each operation
	@ADMIN_CASES=$(or $(CASES),100) $(LONG) tests/admin/test_description.py $(ARGS)

services: ## start PostgreSQL, Redis and RabbitMQ on their usual ports (Debian, as root)
	@bash tools/services.sh

crash: $(VENV)/.dev ## kill the server under load, restart it, reconcile the books
	@$(BIN)/python -m tests.crash $(ARGS)

.PHONY: hang-ups leaks faults outages
hang-ups: $(VENV)/.dev ## hang up 1,000 times, at every place of an answer: its provider is let go, and it is paid once
	@HEADGATE_RUNS=$(or $(RUNS),20) $(LONG) tests/faults/test_hang_ups.py $(ARGS)

leaks: $(VENV)/.dev ## leave 100,000 answers in the middle: the gateway's memory, files and threads stay as they were
	@$(BIN)/python -m tests.leaks $(ARGS)

faults: $(VENV)/.dev ## meet each fault of providers 20 times, long; RUNS=2 takes fewer
	@HEADGATE_RUNS=$(or $(RUNS),20) $(LONG) $(BESIDE) tests/faults/test_provider_faults.py \
	  tests/faults/test_first_event.py tests/faults/test_stream_cuts.py tests/faults/test_hedges.py $(ARGS)

outages: $(VENV)/.dev ## fail a provider for a minute at full load, and on and off for twenty, with clients that retry
	@HEADGATE_OUTAGE_S=$(or $(OUTAGE_S),60) $(LONG) tests/path/test_storm.py \
	  tests/faults/test_storm_served.py tests/routing/test_outages.py $(ARGS)

.PHONY: stream-fuzz slow-clients stalls
stream-fuzz: $(VENV)/.dev ## cut 200 drawn streams at 500 places each: what comes out and what is paid is the same
	@HEADGATE_STREAMS=$(or $(STREAMS),200) HEADGATE_CUTS=$(or $(CUTS),500) $(LONG) \
	  tests/faults/test_stream_fuzz.py $(ARGS)

slow-clients: $(VENV)/.dev ## open 2,000 connections that drip, say nothing or do not read; CONNECTIONS=400 opens fewer
	@HEADGATE_CONNECTIONS=$(or $(CONNECTIONS),2000) $(LONG) -s \
	  tests/faults/test_many_slow_clients.py tests/faults/test_slow_clients.py $(ARGS)

stalls: $(VENV)/.dev ## send what is dear to read 20 times: the loop stops for 250 ms at most
	@HEADGATE_RUNS=$(or $(RUNS),20) HEADGATE_STALL_S=0.25 $(LONG) -s \
	  tests/surfaces/test_stalls.py $(ARGS)

bounds: $(VENV)/.dev ## draw 10,000 calls: none costs more than its hold
	@BOUND_CASES=10000 $(LONG) tests/admission/test_actual_within_hold.py $(ARGS)

.PHONY: zoo
zoo: $(VENV)/.dev ## put known bugs into copies of the source; tests must fail; ARGS="8 21a" chooses
	@$(BIN)/python -m tests.zoo $(ARGS)

grants: $(VENV)/.dev ## draw 10,000 grants: no key has a right that its maker lacks
	@HEADGATE_GRANTS=10000 $(LONG) tests/ops/test_lattice.py $(ARGS)

.PHONY: batch-kills
batch-kills: $(VENV)/.dev ## kill the server 20 times under a batch: one output and one charge for each line
	@$(BIN)/python -m tests.batchkills $(ARGS)

.PHONY: provider-batches
provider-batches: $(VENV)/.dev ## kill the server at every place of a batch that its provider runs, on each wire
	@HEADGATE_PLACES=all $(LONG) tests/surfaces/test_passed_wires.py tests/surfaces/test_passed_batches.py tests/surfaces/test_waiting_lines.py tests/surfaces/test_batches_in_tokens.py $(ARGS)

caps: $(VENV)/.dev ## call on money for a few from many clients at once, with 1 and 4 workers
	@$(BIN)/python -m tests.caps $(ARGS)

drain: $(VENV)/.dev ## stop it under 100 streams, and restart three behind a balancer
	@$(BIN)/python -m tests.drain $(ARGS)

.PHONY: redis-loss
redis-loss: $(VENV)/.dev ## lose Redis in six ways for 30 s under load; ARGS="--seconds 5 frozen" chooses
	@$(BIN)/python -m tests.redis $(ARGS)

.PHONY: losses replicas fleet upgrade
fleet: $(VENV)/.dev ## lose PostgreSQL, Redis and RabbitMQ under three gateways and a worker, restart all, reconcile
	@$(BIN)/python -m tests.ensemble $(ARGS)

upgrade: $(VENV)/.dev ## start three gateways at once on a million rows of an older schema, and kill them in a step
	@$(BIN)/python -m tests.upgrade $(ARGS)

losses: $(VENV)/.dev ## lose PostgreSQL for 30 s in every way, a full disk too: what is open, what is closed
	@$(BIN)/python -m tests.losses $(ARGS)

replicas: $(VENV)/.dev ## let three gateways on one PostgreSQL be one: caps, changes, idempotency keys, a kill, a rolling restart
	@$(BIN)/python -m tests.replicas $(ARGS)

reload: $(VENV)/.dev ## change its settings 200 times under load
	@$(BIN)/python -m tests.reload $(ARGS)

storm: $(VENV)/.dev ## cancel a third of 100,000 calls of 50 tenants: nobody sees what is another's
	@$(BIN)/python -m tests.storm $(ARGS)

simulate: $(VENV)/.dev ## spend a budget and a limit by 1 to 1,000 replicas, in virtual time
	@$(BIN)/python -m tests.fleet $(ARGS)

bench: $(VENV)/.dev ## measure the gateway beside a direct call and nginx
	@$(BIN)/python bench/run.py $(ARGS)

overload: $(VENV)/.dev ## call at 2, 5 and 10 times what a gateway can serve; ARGS=--quick takes seconds
	@$(BIN)/python bench/overload.py $(ARGS)

bench-elsewhere: $(VENV)/.dev ## CPU of a call with PostgreSQL and Redis beside that of an embedded gateway; ARGS="--rounds 6"
	@$(BIN)/python bench/elsewhere.py $(ARGS)

idle-streams: $(VENV)/.dev ## hold 10,000 streams open: memory, CPU, new calls; ARGS="--streams 500" takes fewer
	@$(BIN)/python bench/idle.py $(ARGS)

bench-count: $(VENV)/.dev ## count the bytecodes and calls of a governed call, by function
	@$(BIN)/python bench/count.py $(ARGS)

bench-batch: $(VENV)/.dev ## run a batch of 50,000 lines: lines a second, CPU and memory, beside direct calls; ARGS="--lines 2000"
	@$(BIN)/python bench/batch.py $(ARGS)

bench-keys: $(VENV)/.dev ## measure how a worker reads a million keys
	@$(BIN)/python bench/keys.py $(ARGS)

growth: $(VENV)/.dev ## write many calls into books: bytes of each, time of reports; ARGS="--calls 3250000 --postgres postgresql://root@127.0.0.1"
	@$(BIN)/python bench/growth.py $(ARGS)

prices: $(VENV)/.dev ## write the price book anew from genai-prices
	@$(BIN)/python tools/make_prices.py $(ARGS)

docs: $(VENV)/.dev ## write docs/ settings, errors, metrics and command line anew from the code
	@$(BIN)/python tools/make_docs.py

COMPILE = build/lock/bin/uv --no-config pip compile --quiet --universal --generate-hashes \
  --python-version 3.11 --no-header --no-emit-index-url $(ARGS)

lock: build/lock/.done ## resolve the locked sets anew; ARGS="--upgrade" takes newer versions
	$(COMPILE) pyproject.toml -o requirements/base.txt
	$(COMPILE) pyproject.toml --extra client --group build \
	  -c requirements/base.txt -o requirements/run.txt
	$(COMPILE) pyproject.toml --extra dev --group build \
	  -c requirements/run.txt -o requirements/dev.txt
	$(COMPILE) pyproject.toml --extra all --group build \
	  -c requirements/dev.txt -o requirements/image.txt
	$(COMPILE) --group lock -o requirements/lock.txt

clean: ## remove what these targets made, never the gateway's data
	rm -rf $(VENV) build dist .ruff_cache .mypy_cache .hypothesis .import_linter_cache

$(VENV)/pyvenv.cfg:
	@for python in $(CANDIDATES); do \
	  if $$python -c '$(USABLE)' 2>/dev/null; then \
	    echo "Making $(VENV) with $$python"; exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "No Python >= 3.11 that can make a virtual environment among: $(CANDIDATES)." >&2; \
	echo "Install one (Debian, Ubuntu: apt-get install python3-venv) or name it: make PYTHON=/path/to/python3" >&2; \
	exit 1

$(VENV)/.run: $(VENV)/pyvenv.cfg requirements/run.txt pyproject.toml
	@echo "Installing the locked run-time packages, each checked against its hash"
	@$(LOCKED) --requirement requirements/run.txt
	@$(EDITABLE)
	@touch $@

# The larger set holds the smaller one at the same versions, so it serves for both.
$(VENV)/.dev: $(VENV)/pyvenv.cfg requirements/dev.txt pyproject.toml
	@echo "Installing the locked packages and tools, each checked against its hash"
	@$(LOCKED) --requirement requirements/dev.txt
	@$(EDITABLE)
	@touch $(VENV)/.run $@

build/lock/.done: $(VENV)/pyvenv.cfg requirements/lock.txt
	@$(BIN)/python -m venv build/lock
	@build/lock/bin/python -m pip install --quiet --disable-pip-version-check \
	  --only-binary :all: --require-hashes --requirement requirements/lock.txt
	@touch $@
