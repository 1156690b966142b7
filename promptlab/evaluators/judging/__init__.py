"""Metrics that ask a model: one engine for all of them, and what each asks."""
