"""`code_tests` in a hosted lab: what models wrote runs in the sandbox, and nowhere else."""

from __future__ import annotations

from functools import cache
from typing import cast

import orjson

from promptlab.domain.code import CodeBundle
from promptlab.domain.experiment import Metric
from promptlab.engine.processes import SANDBOX, Recipe
from promptlab.engine.sandbox.request import CODE
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.registry import canonical, exists

METRIC = "code_tests"


@cache
def bundle() -> CodeBundle:
    """The bundle that the sandbox is given for it: nothing, for the metric is the lab's own."""
    return CodeBundle(name=METRIC, files={"README.md": "The metric is a part of promptlab.\n"})


def runs_answers(name: str) -> bool:
    """Whether a metric runs code that a model wrote."""
    return exists(name) and canonical(name) == METRIC


def recipe_of(metric: Metric, evaluator: Evaluator) -> Recipe:
    """How the sandbox makes a metric's evaluator. Where there is none, on a laptop, the evaluator itself
    confines a process."""
    from promptlab.evaluators.code_tests import CodeTests

    argument = {
        "role": CODE,
        "hash": bundle().content_hash(),
        "ref": {
            "module": "promptlab.engine.sandbox.answers_code",
            "qualname": "AnswersCode",
            "params": dict(metric.params),
        },
        "metric": metric.evaluator_name,
        "limit_s": cast("CodeTests", evaluator).timeout_s,
    }
    return Recipe(metric.evaluator_name, SANDBOX, orjson.dumps(argument))
