"""The Lambda functions: one file for each state of infra/experiment.asl.json, and the Studio."""
