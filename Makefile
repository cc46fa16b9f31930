# Everything a newcomer needs: Python 3.11 or newer and make. The first target called sets up .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

PEERS := .venv-peers

.PHONY: audit check docs test slow peers format lock clean

audit: $(READY)  ## train a victim on the built-in data, attack it, sum up
	$(BIN)/python -m seg_mia audit --config phantom_audit.yaml

check: $(READY)  ## ruff, formatting, types, imports, the Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile

docs: $(READY)  ## the documentation as a site, into site/; a broken link or name is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

test: $(READY)  ## the fast tests; those that compare with a framework skip where it is not installed
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal

slow: $(READY)  ## the tests that train, two at a time
	$(BIN)/python -m pytest -m "slow and not peers" -n 2 --maxschedchunk 1 --durations=0 --durations-min=20

peers: $(PEERS)/ready  ## the tests that compare with nnU-Net, MONAI, transformers, ONNX, Ray and dp-accounting
	SEG_MIA_PEERS=required $(PEERS)/bin/python -m pytest -m peers -n 2 --maxschedchunk 1 --durations=0 --durations-min=20

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY)  ## pin what docker/Dockerfile installs
	$(BIN)/python -m pip install --quiet --upgrade uv
	$(BIN)/python docker/lock.py

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "seg_mia needs Python 3.11 or newer, PYTHON=$(PYTHON) is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[dev]'
	touch $@

# These frameworks (group peers in pyproject.toml, pinned) in an environment of their own, which has the packages of .venv, too:
# neither changes the other, and torch is not installed twice.
# nnU-Net brings an older timm, which this torch warns about; that of .venv remains.
$(PEERS)/ready: $(READY)
	$(BIN)/python -m venv --clear --without-pip $(PEERS)
	$(BIN)/python -c 'import sysconfig; [print("import site; site.addsitedir(%r)" % place) for place in sorted({sysconfig.get_path(name) for name in ("purelib", "platlib")})]' \
		> "$$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/layered.pth"
	$(PEERS)/bin/python -m pip install --quiet --no-compile --group peers
	$(PEERS)/bin/python -m pip uninstall --quiet --yes timm
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
