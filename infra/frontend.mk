# The Studio's front-end files, from frontend/ into studio/static; the Makefile includes this.
FRONTEND_SOURCES := frontend/package-lock.json frontend/build.mjs $(wildcard frontend/src/*)

.PHONY: frontend screenshots

studio/static/manifest.json: $(FRONTEND_SOURCES)
	@frontend/build.sh $(PYTHON)

frontend: studio/static/manifest.json  ## build the Studio's front-end files, with Node from the machine or from PyPI

screenshots: .venv/dev frontend  ## take pictures of every page of the Studio, in light and dark, into docs/images/all
	@$(BIN)/python -m tests.browser.screenshots docs/images/all
