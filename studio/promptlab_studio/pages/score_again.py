"""Scores a run that is there by other metrics, and says before what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from fastapi import Request, Response

from promptlab.domain.experiment import Experiment, Metric
from promptlab.domain.results import RunRecord
from promptlab.domain.summary import Summary
from promptlab.errors import ConfigError, PromptLabError
from promptlab.experiments.config import EvaluationConfig
from promptlab.experiments.rescoring import scoring_config
from promptlab.experiments.yaml_bounds import check_bounds
from promptlab_studio.access import lab_of, needs
from promptlab_studio.forms import fields_of
from promptlab_studio.pages.rendering import go_to, render, router
from promptlab_studio.views.format import run_url
from promptlab_studio.views.run_bounds import dollars_of

MOST_CHARS = 100_000

routes = router()


@routes.get("/runs/{run_id}/score", dependencies=[needs("run")])
async def score_page(request: Request, run_id: str) -> Response:
    """The form: the run's metrics as YAML, to change; and the generations of its scores."""
    run = await lab_of(request).get_run(run_id)
    return _page(request, run, _written(run))


@routes.post("/runs/{run_id}/score", dependencies=[needs("run")])
async def score(request: Request, run_id: str) -> Response:
    """Estimate what it costs, or begin it."""
    lab, fields = lab_of(request), await fields_of(request)
    run, text = await lab.get_run(run_id), fields.get("evaluation", [""])[-1]
    try:
        metrics = _read(text)
        config = scoring_config(Experiment.model_validate(run.experiment), metrics, ())
        if fields.get("do", [""])[-1] != "start":
            return _page(request, run, text, estimate=_estimated(run, config.evaluation))
        usd = dollars_of(fields.get("max_cost_usd", [""])[-1])
        await lab.start_score(run_id, metrics, max_cost_usd=usd)
    except PromptLabError as error:
        return _page(request, run, text, problem=str(error))
    return go_to(run_url(run_id), "The run is scored again.")


def _page(
    request: Request, run: RunRecord, text: str, *, estimate: Any = None, problem: str = ""
) -> Response:
    metrics = Experiment.model_validate(run.experiment).evaluation
    context = {
        "run": run,
        "text": text,
        "estimate": estimate,
        "problem": problem,
        "generations": [_generation(metric) for metric in metrics],
        "most_chars": MOST_CHARS,
    }
    return render(request, "labels/score.html", context, status=422 if problem else 200)


def _generation(metric: Metric) -> Mapping[str, Any]:
    judges = ", ".join(judge.name for judge in metric.judge or ())
    return {
        "name": metric.name,
        "metric": metric.metric,
        "since": metric.since or 0,
        "kept": metric.kept,
        "judges": judges,
    }


def _written(run: RunRecord) -> str:
    """Write the metrics that a run has now as YAML."""
    listed: list[dict[str, Any]] = []
    for metric in Experiment.model_validate(run.experiment).evaluation:
        if metric.kept is not None or (
            metric.part is not None and any(one["metric"] == metric.metric for one in listed)
        ):
            continue
        if metric.code is not None and metric.code.bundle is None:
            continue  # code of a laptop is not there to be made again from its name
        entry: dict[str, Any] = {"metric": metric.metric}
        if metric.evaluator_name != metric.metric:
            entry["name"] = metric.evaluator_name
        entry["column_mapping"] = dict(metric.column_mapping)
        if metric.params:
            entry["params"] = metric.params
        if metric.judge:
            entry["judge"] = [judge.model_dump(mode="json", exclude_defaults=True) for judge in metric.judge]
        listed.append(entry)
    return yaml.safe_dump({"evaluation": listed}, sort_keys=False, allow_unicode=True)


def _read(text: str) -> list[Any]:
    """Read metrics: YAML with `evaluation`, or the list alone. Variables of the environment stay as they are.

    Raises:
        ConfigError: it is no such YAML.
    """
    if len(text) > MOST_CHARS:
        raise ConfigError(f"The metrics have {len(text):,} characters; {MOST_CHARS:,} at most.")
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                raise ConfigError("There is no metric to score by.")
            check_bounds(Path("evaluation"), root)
            found = loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError(f"This is no YAML: {error}") from None
    except RecursionError:
        raise ConfigError("Brackets are nested too deep.") from None
    found = found.get("evaluation") if isinstance(found, dict) else found
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ConfigError("Give `evaluation`, a list of metrics, as in an experiment.")
    return found


def _estimated(run: RunRecord, evaluation: tuple[EvaluationConfig, ...]) -> Mapping[str, Any]:
    """Return what scoring costs, by what judges of the run cost before: a metric's own, else the mean of
    all."""
    summary = Summary.from_json(run.summary) if run.summary else None
    spent = {
        name: metric.usage.cost_usd / metric.usage.calls
        for name, metric in (summary.metrics if summary else {}).items()
        if metric.usage.calls and metric.usage.cost_usd
    }
    a_call = sum(spent.values()) / len(spent) if spent else None
    lines, total = [], 0.0
    known = True
    for item in evaluation:
        judges = item.judge or ()
        calls = run.cases * sum(judge.repeats for judge in judges)
        usd = None
        if calls:
            price = spent.get(item.result_name, a_call)
            known, usd = known and price is not None, None if price is None else price * calls
            total += usd or 0.0
        lines.append({"name": item.result_name, "calls": calls, "usd": usd})
    return {"lines": lines, "usd": total if known else None}
