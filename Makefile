# Everything this project can do, one target each. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: venv

venv:  ## the environment with all tools, .venv
	@tests/tools/venv.sh .venv requirements/test.txt
