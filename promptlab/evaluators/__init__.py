"""Metrics: the built-in ones, the class that custom ones derive from, and the decorator of functions."""

from promptlab.evaluators.decorator import evaluator

__all__ = ["evaluator"]
