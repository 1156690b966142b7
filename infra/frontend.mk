# The Studio's front-end files, from frontend/ into studio/promptlab_studio/static; the Makefile includes this.
FRONTEND_SOURCES := frontend/package-lock.json frontend/build.mjs $(wildcard frontend/src/*)

.PHONY: frontend screenshots chromium bench-studio

studio/promptlab_studio/static/manifest.json: $(FRONTEND_SOURCES)
	@frontend/build.sh $(PYTHON)

frontend: studio/promptlab_studio/static/manifest.json  ## build the Studio's front-end files, with Node from the machine or from PyPI

screenshots: .venv/dev frontend chromium  ## take pictures of every page of the Studio, in light and dark, into build/pictures, and those of docs/studio.md into docs/images
	@$(BIN)/python -m tests.browser.screenshots build/pictures
	@$(BIN)/python -m tests.browser.screenshots docs/images --docs

# Where it cannot be installed, the tests that need it are skipped and say so.
chromium:  ## have a Chromium for the browser tests: the machine's, or, for root, Debian's package
	@command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; \
	else echo "No Chromium here: install the package chromium; until then the browser tests are skipped."; fi

bench-studio: .venv/dev frontend chromium  ## measure the Studio over two runs of 100,000 cases (CASES=1000000; PART=http, browser or load; ROWS=280000 of the run under load)
	@$(BIN)/python -m tests.bench.studio --cases $(or $(CASES),100000) $(if $(PART),--part $(PART)) $(if $(ROWS),--rows $(ROWS))
