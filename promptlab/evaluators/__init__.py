"""Metrics: the built-in ones, and the class that custom ones derive from."""
