"""What the judges of an experiment's metrics would be asked, and cost, before anybody is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from promptlab.cloud.sampled import LikelyRange
from promptlab.domain.chat import Prompt, texts_of
from promptlab.domain.judges import JudgeConfig
from promptlab.domain.prices import BATCH, cost_usd, price_of
from promptlab.domain.results import ModelResponse
from promptlab.domain.tokens import ASCII_CHARS, chat_tokens
from promptlab.errors import ConfigError, PromptLabError
from promptlab.evaluators.judging.asking import Asked, Judgement, Question
from promptlab.evaluators.judging.base import Judge
from promptlab.evaluators.registry import build
from promptlab.experiments.config import EvaluationConfig, ExperimentConfig
from promptlab.models.base import Messages, Model

MEASURED = 5
"""Rows whose questions are measured."""
REASON_TOKENS = 120
"""What a judge writes to give its reason and a label; of claims, each token of the answer besides once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeEstimate:
    """One judge of one metric, over a run."""

    metric: str
    judge: str
    calls: float
    """Calls of the run, without repairs; judgements that are kept from before cost none."""
    prompt_tokens: LikelyRange
    """Of one call."""
    answer_tokens: LikelyRange
    usd: LikelyRange | None
    """Of all calls; None where the judge's price is not known."""


class _Silent(Model):
    """Stands for a judge's model: it is never called."""

    async def achat(self, messages: Messages) -> ModelResponse:
        """Refuse.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("a judge is not asked for an estimate")


class _Measuring(Asked):
    """Takes questions, and answers each with the least that has its form."""

    def __init__(self, config: JudgeConfig, guidance: str) -> None:
        super().__init__(config, _Silent(config.model()), guidance)
        self.questions: list[Question] = []

    async def ask(self, question: Question, repeat: int = 0) -> Judgement:
        """Keep the question."""
        del repeat
        self.questions.append(question)
        found = {name: _least(schema) for name, schema in question.form.members.items()}
        return Judgement(found=found, fingerprint="", judge=self.config.name, version=self.config.name)


def _least(schema: Mapping[str, Any]) -> Any:
    """The least value that a member of a form can have; of a list one item, so that it is asked about."""
    if choices := schema.get("enum"):
        return choices[0]
    kind = schema.get("type")
    if kind == "object":
        return {name: _least(one) for name, one in schema.get("properties", {}).items()}
    if kind == "array":
        return [_least(schema["items"])] if "items" in schema else []
    return {"string": "one", "integer": 1, "number": 1.0, "boolean": True}.get(str(kind))


async def judges_of(
    config: ExperimentConfig,
    rows: Sequence[Mapping[str, Any]],
    prompts: Sequence[Prompt],
    written: LikelyRange,
    cases: int,
) -> list[JudgeEstimate]:
    """Estimate the judges of all metrics.

    Args:
        config: the experiment.
        rows: some rows of its dataset.
        prompts: what the model is asked for them.
        written: tokens of an answer of the model, which the judges read.
        cases: cases of the run.
    """
    found = []
    for item in config.evaluation:
        if item.judge is None or item.evaluator is not None:
            continue
        evaluator = build(item.metric, item.params)
        if not isinstance(evaluator, Judge):
            continue
        share = _share(item, rows)
        for one in item.judge:
            judge = JudgeConfig.of(one.config) if isinstance(one, Model) else one
            found.append(await _estimated(item, evaluator, judge, rows, prompts, written, cases * share))
    return found


def _share(item: EvaluationConfig, rows: Sequence[Mapping[str, Any]]) -> float:
    """The share of rows that the metric's `when` leaves."""
    if item.when is None or not rows:
        return 1.0
    return sum(item.when.holds(row) for row in rows) / len(rows)


async def _estimated(
    item: EvaluationConfig,
    evaluator: Judge,
    judge: JudgeConfig,
    rows: Sequence[Mapping[str, Any]],
    prompts: Sequence[Prompt],
    written: LikelyRange,
    cases: float,
) -> JudgeEstimate:
    answer = "word " * max(1, round(written.expected * ASCII_CHARS / 5))
    read, calls, lists, measured = 0.0, 0, 0, 0
    for row, prompt in list(zip(rows, prompts, strict=True))[:MEASURED]:
        asked = _Measuring(judge, evaluator.guidance)
        with suppress(ValueError, PromptLabError):  # what the least answers lead to is no matter
            await evaluator.judged(asked, 0, _inputs(item, evaluator, row, prompt, answer))
        if asked.questions:
            measured += 1
            calls += len(asked.questions)
            read += sum(chat_tokens(question.messages) for question in asked.questions)
            lists += sum(
                any(schema.get("type") == "array" for schema in q.form.members.values())
                for q in asked.questions
            )
    each = calls / measured if measured else 1.0
    tokens = read / calls if calls else REASON_TOKENS + written.expected
    low, high = 0.8, 1.3  # as of the model's own prompts
    prompt_tokens = LikelyRange(tokens * low, tokens, tokens * high)
    says = REASON_TOKENS + (written.expected * lists / calls if calls else 0.0)
    answer_tokens = LikelyRange(says / 2, says, says * 2)
    total = cases * each * judge.repeats
    return JudgeEstimate(
        metric=item.result_name,
        judge=judge.name,
        calls=total,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        usd=_usd(judge, prompt_tokens, answer_tokens, total),
    )


def _usd(judge: JudgeConfig, read: LikelyRange, written: LikelyRange, calls: float) -> LikelyRange | None:
    price = price_of(judge.model(), tier=BATCH if judge.batch else None)
    found = [cost_usd(price, getattr(read, n), getattr(written, n)) for n in ("low", "expected", "high")]
    known = [usd for usd in found if usd is not None]
    return LikelyRange(*known).times(calls) if len(known) == 3 else None


def _inputs(
    item: EvaluationConfig, evaluator: Judge, row: Mapping[str, Any], prompt: Prompt, answer: str
) -> dict[str, Any]:
    """The inputs of a case, with a text as long as an answer where the model's would be."""
    mapping = {
        evaluator.renamed_inputs.get(name, name): source for name, source in item.column_mapping.items()
    }
    for name, default in evaluator.inputs.items():
        mapping.setdefault(name, default or (name if name in row else ""))
    said = {
        "$prompt": "\n\n".join(texts_of(prompt)),
        "$messages": [{"role": "assistant", "parts": [{"type": "text", "content": answer}]}],
        "$contexts": [answer],
    }
    return {
        name: said.get(source, answer) if source.startswith("$") else row.get(source)
        for name, source in mapping.items()
        if source
    }


def total_usd(judges: Sequence[JudgeEstimate]) -> LikelyRange | None:
    """Dollars of all judges; None where there are none, or a price is not known."""
    known = [one.usd for one in judges if one.usd is not None]
    if not judges or len(known) < len(judges):
        return None
    total = LikelyRange(0.0, 0.0, 0.0)
    for usd in known:
        total = total.plus(usd)
    return total
