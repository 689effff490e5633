PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOG ?=
# Two cores: as many workers as cores, one thread each, so that neither tests nor timings fight.
export OMP_NUM_THREADS ?= 1
export TF_CPP_MIN_LOG_LEVEL ?= 3
export TF_ENABLE_ONEDNN_OPTS ?= 0

BENCHES := types match model sequences hdfs hdfs-raw incidents score tail volume lines feedback updates pipe kill agent faults

.PHONY: help demo test lint types format wheel deb test-agent test-tflite-runtime test-deb bench clean \
	$(addprefix bench-,$(BENCHES))

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "make %-20s %s\n", $$1, $$2}'

$(READY): setup.cfg pyproject.toml agent/foretail/__init__.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "foretail needs Python 3.11 or newer: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "The venv module is missing: apt install python3-venv" >&2; exit 1; }
	@echo "Installing into $(VENV) (once, some minutes) ..." >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[trainer,update,metrics,dev]'
	@touch $@

demo: $(READY) ## show the main job live; LOG=/path/to/your.log does it on your own log
	@$(BIN)/python -m foretail_trainer.demo $(if $(LOG),--log '$(LOG)')

test: $(READY) ## all tests
	$(BIN)/python -m pytest -q -n 2 tests

lint: $(READY) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

types: $(READY) ## mypy --strict
	$(BIN)/mypy

wheel: $(READY) ## dist/*.whl
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist . >/dev/null
	@ls dist

test-agent: wheel ## the agent's tests against the wheel, without the trainer extra
	$(PYTHON) -m venv --clear .venv-agent
	.venv-agent/bin/pip install --quiet --disable-pip-version-check dist/*.whl pytest pytest-timeout hypothesis jsonschema
	.venv-agent/bin/python -m pytest -q -m 'not trainer' tests/agent

test-tflite-runtime: wheel ## golden results under tflite-runtime (Python 3.11)
	$(PYTHON) -m venv --clear .venv-tflite
	.venv-tflite/bin/pip install --quiet --disable-pip-version-check "$$(ls dist/*.whl)[tflite-runtime]" pytest pytest-timeout
	FORETAIL_RUNTIME=tflite-runtime .venv-tflite/bin/python -m pytest -q -p no:cacheprovider tests/agent/test_golden.py

deb: wheel ## dist/foretail_*.deb
	sh packaging/deb/build dist

test-deb: deb ## install, run, upgrade and purge it in a fresh Debian root
	sh packaging/deb/test dist

bench: $(addprefix bench-,$(BENCHES)) ## all benchmarks; each writes bench/NAME.json
$(addprefix bench-,$(BENCHES)): bench-%: $(READY)
	$(BIN)/python tests/bench/bench_$(subst -,_,$*).py

clean: ## remove what was built
	rm -rf build dist bench demo .venv .venv-agent .venv-tflite .pytest_cache .mypy_cache .ruff_cache .hypothesis agent/*.egg-info
