"""Run a prompt over every row of a dataset and see whether one run is really better than another."""
