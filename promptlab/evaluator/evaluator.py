"""The import path of promptlab 0.1 for Evaluator, which `from promptlab import Evaluator` gives."""

from promptlab.predecessor import moved

__getattr__ = moved(__name__, ["Evaluator"], {})
