# The cloud's verbs; the Makefile includes this.
CLOUD_PYTHON ?=
CLOUD := $(if $(CLOUD_PYTHON),CLOUD_PYTHON=$(CLOUD_PYTHON) )$(PYTHON) infra/local_cloud.py
SAM_BIN := .cloud/sam/bin

.PHONY: cloud cloud-down test-cloud lint-cloud

cloud: frontend  ## start a local AWS, build and deploy the template on it, and leave it up (CLOUD_PORT=4566)
	@$(CLOUD) up

cloud-down:  ## stop the local AWS; its runs stay
	@$(CLOUD) down

test-cloud: .venv/dev frontend  ## deploy on a fresh local AWS that enforces every role, and run the cloud tests through its URL
	@$(if $(CLOUD_PYTHON),CLOUD_PYTHON=$(CLOUD_PYTHON) )$(BIN)/python infra/local_cloud.py test

lint-cloud:  ## check the template, the state machine and the roles, without an account
	@$(CLOUD) tools
	@bash infra/lint_cloud.sh
