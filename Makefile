# benchfarm: two commands from a fresh clone, `make run` and `make test`. Needs Python 3.11 and nothing else.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
# Default Linux wheels of torch are CUDA builds: about 5 GB with their libraries, all from PyPI.
# A machine that reaches PyTorch's own index can have the CPU build: make install TORCH_BACKEND=cpu
TORCH_BACKEND ?=
MODEL  ?= torchvision/mobilenet_v3_small
# Every runtime, two recipes: three minutes. All of them: benchfarm run MODEL.
RECIPES ?= fp32 int8-static

# Three processes, for on two cores one of them often waits (four end no sooner, and starve what waits by the clock); each
# file of tests in one of them: no test measures time, and what a file's tests share is made once. In the order of
# tests/conftest.py, the longest first: xdist would begin with the files of most tests.
AT_A_TIME := --numprocesses 3 --dist loadfile --no-loadscope-reorder

.PHONY: run test unit faults install lint bench constraints clean

run: $(VENV)/.installed
	$(BIN)/benchfarm run $(MODEL) $(addprefix --recipe ,$(RECIPES))

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(AT_A_TIME) tests/unit tests/integration tests/acceptance

unit: $(VENV)/.installed
	$(BIN)/python -m pytest tests/unit

# What is killed, frozen, cut off and starved of disk, phones under a real adbd, and what measures without other tests beside
# it; hosts of their own need root, iproute2, util-linux, PostgreSQL, debootstrap.
faults: $(VENV)/.installed
	$(BIN)/python -m pytest tests/faults

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# All run; the worst exit code counts: 3 a figure stayed unresolved, 4 one was missed.
bench: $(VENV)/.installed
	@worst=0; for name in startup overhead agreement runtimes dispatch growth ingest policy phones detection; do \
		$(BIN)/python benchmarks/$$name.py; code=$$?; [ $$code -le $$worst ] || worst=$$code; \
	done; exit $$worst

install: $(VENV)/.installed

# Bytecode is compiled at install: base imports cost 1.0 s without it, 0.3 s with it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --compile-bytecode --constraint constraints.txt \
		$(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) --editable '.[all,dev]'
	touch $@

# Pins what pyproject.toml admits today.
constraints: $(VENV)/.installed
	$(BIN)/uv pip compile --quiet --python-version 3.11 --all-extras --no-header --no-annotate --no-emit-index-url \
		--upgrade pyproject.toml --output-file constraints.txt
	$(BIN)/uv pip freeze --quiet | grep '^uv==' >> constraints.txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
