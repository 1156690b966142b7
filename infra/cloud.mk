# The cloud's verbs; the Makefile includes this.
CLOUD_PYTHON ?=
CLOUD := $(if $(CLOUD_PYTHON),CLOUD_PYTHON=$(CLOUD_PYTHON) )$(PYTHON) infra/local_cloud.py
RUNTIME ?= 3.13

.PHONY: bundle cloud cloud-down test-cloud lint-cloud cold-starts

bundle: frontend  ## what `sam deploy` deploys: the front end, then `sam build`, then bytecode for short cold starts (RUNTIME=3.13)
	@sam build
	@python$(RUNTIME) infra/finish_bundle.py .aws-sam/build

cloud: frontend  ## start a local AWS, build and deploy the template on it, and leave it up (CLOUD_PORT=4566)
	@$(CLOUD) up

cloud-down:  ## stop the local AWS; its runs stay
	@$(CLOUD) down

test-cloud: .venv/dev frontend  ## deploy on a fresh local AWS that enforces every role, and run the cloud tests through its URL
	@$(if $(CLOUD_PYTHON),CLOUD_PYTHON=$(CLOUD_PYTHON) )$(BIN)/python infra/local_cloud.py test

lint-cloud:  ## check the template, the state machine and the roles, without an account
	@$(CLOUD) tools
	@bash infra/lint_cloud.sh

cold-starts:  ## measure how long each function of the built bundle (make cloud) takes to import
	@$(PYTHON) infra/cold_starts.py --check
