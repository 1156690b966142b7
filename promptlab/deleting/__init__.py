"""Removes runs and versions of assets for good, in short steps that may be interrupted anywhere."""
