# Everything here is a shortcut for a command of `weft`, pytest, ruff or mypy: `make help` lists the
# targets, `make -n TARGET` shows the commands. The first target that needs it sets up .venv.

PYTHON ?= python3
CONFIG ?= base
OUT    ?= build/verilog
BOARD  ?= ulx3s-85f
SEEDS  ?= 1
COUNT  ?= 200
SEED   ?= 0

bin   := .venv/bin
side_by_side := -n auto --dist worksteal
stamp := .venv/.ready
docs_stamp := .venv/.docs
torch_stamp := .venv/torch/.ready
litex_stamp := .venv/litex/.ready
torch_tests := tests/sw/quantize/test_pytorch.py tests/docs/test_textbook.py

.DEFAULT_GOAL := help
.PHONY: help setup sim test test-all wheel-test torch-test litex-test fuzz fuzz-programs formal mutants bench bench-record networks verilog bitstream lint docs clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(stamp)  ## create .venv with everything that the other targets need

sim: $(stamp)  ## simulate the digits network: accuracy, cycles and utilization of each layer
	@$(bin)/python -m weft.digits

test: $(stamp)  ## run the tests, about 13 minutes on two cores
	$(bin)/python -m pytest $(side_by_side) -m "not slow"

test-all: $(stamp)  ## run all tests
	$(bin)/python -m pytest $(side_by_side)

wheel-test: $(stamp)  ## install the wheel into an environment of its own and run the digits network
	$(bin)/python -m pytest tests/test_wheel.py

torch-test: $(torch_stamp)  ## install PyTorch into an environment of its own, run what needs it, and its tutorial
	.venv/torch/bin/python -m pytest -n 2 $(torch_tests)

litex-test: $(litex_stamp)  ## install LiteX into an environment of its own, simulate a SoC that runs the digits from C
	.venv/litex/bin/python -m pytest tests/sw/litex

fuzz: $(stamp)  ## run COUNT=200 random networks of SEED=0 on all simulators, or on that of CONFIG
	@PYTHONPATH=tests $(bin)/python -m fuzz.networks --count $(COUNT) --seed $(SEED) $(on_config) $(on_scheduler)

fuzz-programs: $(stamp)  ## run COUNT=200 random command streams of SEED=0 on five accelerators, or on CONFIG
	@PYTHONPATH=tests $(bin)/python -m fuzz.programs --count $(COUNT) --seed $(SEED) $(on_config)

# CONFIG has a default for `make verilog`; here it counts only if it is given.
on_config = $(if $(filter file,$(origin CONFIG)),,--config $(CONFIG))

# SCHEDULER=tcp://HOST:PORT: on the workers of a Dask scheduler, with tests/ on their PYTHONPATH.
on_scheduler = $(if $(SCHEDULER),--scheduler $(SCHEDULER))

formal: $(stamp)  ## prove properties of the hardware for all inputs, and list them
	$(bin)/python -m pytest $(side_by_side) tests/formal

mutants: $(stamp)  ## try COUNT=200 random changes of the hardware of SEED=0: do the tests notice?
	$(bin)/python tests/mutants --count $(COUNT) --seed $(SEED)

bench: $(stamp)  ## measure a suite of networks; fail if one takes more cycles than recorded
	@$(bin)/weft bench --check $(models) $(on_scheduler)

bench-record: $(stamp)  ## measure the suite, record the cycles and write docs/benchmarks.md
	@$(bin)/weft bench --record $(models)
	@$(bin)/python -m weft.bench.document > docs/benchmarks.md

# Networks that are not part of Weft, where they are at hand.
models = $(addprefix --models ,$(wildcard ../shared/models))

networks: $(stamp)  ## run all networks at hand, record what came of them and write docs/networks.md
	@$(bin)/weft survey --record benchmarks/networks.json sw/digits/digits_int8.onnx \
	    $(call found,onnx)
	@$(if $(call found,tflite),$(bin)/weft survey --record benchmarks/networks.json \
	    --config '$(fixed_point)' $(call found,tflite))
	@$(bin)/python -m weft.report.networks_page > docs/networks.md

fixed_point := base,fixed_point=true,name="base_fixed_point"
found = $(wildcard $(addsuffix /*.$(1),$(wildcard ../shared/models ../shared/models/*)))

verilog: $(stamp)  ## write the Verilog of CONFIG=base (a preset or a .toml file) to OUT=build/verilog
	@$(bin)/weft verilog --config $(CONFIG) -o $(OUT)

bitstream: $(stamp)  ## build the bitstream of BOARD=ulx3s-85f, the best of SEEDS=1, in build/BOARD
	@$(bin)/weft build --board $(BOARD) --seeds $(SEEDS)

lint: $(stamp)  ## check style (ruff), types (mypy) and outdated Amaranth
	$(bin)/ruff check .
	@rm -rf .venv/typing && mkdir -p .venv/typing/weft
	@cd .venv/typing/weft && ln -s $(addprefix ../../../,sw/* hw sim boards) .
	MYPYPATH=.venv/typing $(bin)/mypy -p weft
	@! grep -nE '$(outdated)' -r --include='*.py' hw sim sw boards tests \
	    || { echo 'weft: error: outdated Amaranth, see CONTRIBUTING.md' >&2; exit 1; }

docs: $(docs_stamp)  ## build the documentation in build/docs and check its links
	@rm -rf build/docs
	$(bin)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going \
	    --doctree-dir build/docs-cache docs build/docs
	@$(bin)/python docs/check_links.py build/docs

clean:  ## remove .venv and everything generated
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Several of these warn only late, and Record not at all.
outdated := \bRecord\(|hdl import .*\b(Memory|Record)\b|hdl\.(ast|dsl|ir|mem|rec)\b|add_sync_process
outdated := $(outdated)|lib\.coding|log2_int|Signal\(.*\breset=|\bnmigen\b

# Only `make docs` needs Sphinx, so that the set-up of everything else is no slower.
$(docs_stamp): $(stamp)
	@echo "Installing the Python packages that build the documentation"
	@$(bin)/pip install --quiet --disable-pip-version-check -e '.[docs]' || \
	    { echo "weft: error: pip could not install the packages; the lines above say why" >&2; exit 1; }
	@touch $@

# PyTorch is large, and what does not need it is tested without it. On Linux, PyPI has the build for
# graphics cards; TORCH_INDEX=https://download.pytorch.org/whl/cpu finds one of a tenth of its size.
$(torch_stamp): $(stamp)
	@echo "Installing PyTorch into .venv/torch"
	@rm -rf .venv/torch && $(PYTHON) -m venv .venv/torch
	@.venv/torch/bin/pip install --quiet --disable-pip-version-check \
	    $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
	    -e '.[torch,digits,images]' 'pytest>=8,<10' 'pytest-xdist>=3.6,<4' || \
	    { echo "weft: error: pip could not install the packages; the lines above say why" >&2; exit 1; }
	@touch $@

# The C compiler of LiteX's extra is large, and what does not need it is tested without it.
$(litex_stamp): $(stamp)
	@echo "Installing LiteX into .venv/litex"
	@rm -rf .venv/litex && $(PYTHON) -m venv .venv/litex
	@.venv/litex/bin/pip install --quiet --disable-pip-version-check \
	    -e '.[litex,toolchain,digits]' 'litex-boards>=2023.12' 'litedram>=2024.12' 'pytest>=8,<10' || \
	    { echo "weft: error: pip could not install the packages; the lines above say why" >&2; exit 1; }
	@touch $@

# Set-up. Every way in which it can fail on a new machine ends with one line that says what to do.
debian = Debian, Ubuntu: apt install

$(stamp): pyproject.toml setup.py
	@fail() { echo "weft: error: $$1" >&2; exit 1; }; \
	command -v $(PYTHON) >/dev/null || \
	    fail "$(PYTHON) was not found: install Python 3.11 or newer ($(debian) python3 python3-venv)"; \
	version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') || \
	    fail "$(PYTHON) does not start: name a working one, as in make PYTHON=python3.12 $(MAKECMDGOALS)"; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    fail "Python 3.11 or newer is needed and $(PYTHON) is $$version: name a newer one, as in make PYTHON=python3.12 $(MAKECMDGOALS)"; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    fail "$(PYTHON) lacks the venv module: install it ($(debian) python$$version-venv)"; \
	command -v g++ >/dev/null || \
	    fail "g++ was not found: install a C++20 compiler ($(debian) g++; Fedora: dnf install gcc-c++)"; \
	command -v perl >/dev/null || \
	    fail "perl was not found, and Verilator needs it: install it ($(debian) perl)"; \
	echo "Creating .venv with Python $$version"; \
	rm -rf .venv && $(PYTHON) -m venv .venv || \
	    fail "$(PYTHON) could not create .venv; the lines above say why"; \
	echo "Installing the Python packages that Weft uses (a minute or two)"; \
	$(bin)/pip install --quiet --disable-pip-version-check -e '.[toolchain,fpga,usb,explore,digits,images,dev]' || \
	    fail "pip could not install the packages; the lines above say why"; \
	touch $@
