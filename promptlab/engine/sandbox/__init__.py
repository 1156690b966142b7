"""Runs code of users where it can reach nothing: a guard that runs none of it, and one confined child a
bundle."""
