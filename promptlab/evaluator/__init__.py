"""The import path of promptlab 0.1 for evaluators; the metrics are in promptlab.evaluators."""
