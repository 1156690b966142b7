"""Differences between a configuration and a recorded experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from promptlab.assets.store import AssetDraft
from promptlab.domain.conversation import Conversation
from promptlab.domain.experiment import AssetRef, CodeRef, Experiment, Metric
from promptlab.domain.model_config import ModelConfig
from promptlab.errors import ConfigError
from promptlab.experiments.prepare import Prepared

KEYS = {"api_key", "api_key_env", "api_key_secret"}
CODE = {"code", "higher_is_better", "needs_embedding", "isolated", "value_range"}
"""Fields of a metric that its code decides, and where it runs."""
MOST_SHOWN = 20
LONGEST_VALUE = 100


def check_unchanged(run_id: str, experiment: Experiment, given: Prepared) -> None:
    """Refuse a configuration that is another experiment than the run's; keys and code may differ.

    Raises:
        ConfigError: something else differs; the message names every difference.
    """
    found = list(_differences(experiment, given))
    if found:
        more = [f"… and {len(found) - MOST_SHOWN} more"] if len(found) > MOST_SHOWN else []
        raise ConfigError(
            "\n".join(
                (
                    f"run {run_id} goes on as it was begun; only keys and code may be others. "
                    "This configuration differs in:",
                    *(f"  {line}" for line in found[:MOST_SHOWN]),
                    *more,
                    "Take these back, leave the configuration out, or start a new run with it.",
                )
            )
        )


def _differences(experiment: Experiment, given: Prepared) -> Iterator[str]:
    live = given.live
    if experiment.name != given.config.name:
        yield _changed("name", experiment.name, given.config.name)
    yield from _asset("prompt_template", experiment.prompt_template, given.prompt)
    yield from _asset("dataset", experiment.dataset, given.dataset)
    model, embedding = live.model, live.embedding_model
    assert model is not None
    yield from _model("model", experiment.model, model.config)
    yield from _params("model.params", experiment.model_code, live.code_of("model", model))
    yield from _params("agent_proxy.params", experiment.agent, live.agent_code(model))
    yield from _model("embedding_model", experiment.embedding_model, embedding.config if embedding else None)
    code = live.code_of("embedding_model", embedding)
    yield from _params("embedding_model.params", experiment.embedding_model_code, code)
    yield from _conversation(experiment.conversation, given.config.conversation)
    yield from _metrics(experiment.evaluation, given.metrics)
    yield from _metrics(experiment.run_evaluation, given.run_metrics)
    for field in ("trials", "max_failures", "case_deadline_s", "run_deadline_s"):
        before, after = getattr(experiment, field), getattr(given.config, field)
        if before != after:
            yield _changed(field, before, after)


def _asset(field: str, before: AssetRef | None, after: AssetDraft | None) -> Iterator[str]:
    old = (before.name, before.hash) if before else None
    new = (after.asset.name, after.hash) if after else None
    if old == new:
        return
    was = f"{before.name}@{before.version}" if before else "none"
    if after is None:
        now = "none"
    elif after.stored:
        now = f"{after.asset.name}@{after.asset.version}"
    else:
        now = (
            f"{after.asset.name} with another content"
            if old and old[0] == after.asset.name
            else after.asset.name
        )
    yield f"{field}: {was} in the run, {now} here"


def _model(field: str, before: ModelConfig | None, after: ModelConfig | None) -> Iterator[str]:
    if before is None or after is None:
        if before is not after:
            yield _changed(field, before and before.name, after and after.name)
        return
    yield from _fields(field, _plain(before, KEYS), _plain(after, KEYS))


def _conversation(before: Conversation | None, after: Conversation | None) -> Iterator[str]:
    old, new = (_plain(one) if one else {} for one in (before, after))
    for one in (old, new):
        model = (one.get("simulated_user") or {}).get("model", {})
        for key in KEYS & model.keys():
            del model[key]
    yield from _fields("conversation", old, new)


def _params(field: str, before: CodeRef | None, after: CodeRef | None) -> Iterator[str]:
    old, new = ((_plain(code).get("params", {}) if code else {}) for code in (before, after))
    yield from _fields(field, old, new)


def _metrics(before: tuple[Metric, ...], after: tuple[Metric, ...]) -> Iterator[str]:
    # Metrics that were added or replaced since are as `promptlab score` was given them.
    before = tuple(m for m in before if m.since is None)
    old, new = {m.name: m for m in before}, {m.name: m for m in after}
    for name in dict.fromkeys((*old, *new)):
        field = f"evaluation {name}"
        if name not in old or name not in new:
            yield f"{field}: only {'in the run' if name in old else 'here'}"
        else:
            was, now = _plain_metric(old[name]), _plain_metric(new[name])
            if not new[name].params.get("steps") and (steps := old[name].params.get("steps")):
                now["params"] = {**now.get("params", {}), "steps": steps}  # made when the run began
            yield from _fields(field, was, now)


def _plain_metric(metric: Metric) -> dict[str, Any]:
    """A metric's fields without what its code decides, and without keys."""
    found = _plain(metric, CODE)
    if metric.judge:
        found["judge"] = [_plain(judge, KEYS) for judge in metric.judge]
    return found


def _fields(of: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield _changed(f"{of}.{name}", before.get(name), after.get(name))


def _plain(
    value: ModelConfig | Metric | CodeRef | Conversation, without: set[str] | None = None
) -> dict[str, Any]:
    return value.model_dump(mode="json", exclude_none=True, exclude=without)


def _changed(field: str, before: Any, after: Any) -> str:
    return f"{field}: {_shown(before)} in the run, {_shown(after)} here"


def _shown(value: Any) -> str:
    text = "not set" if value is None else orjson.dumps(value, default=str).decode()
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"
