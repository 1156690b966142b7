"""The expected cost of what New run describes: of one run, and of all that several prompts and models are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from promptlab.cloud.sampled import LikelyRange, slowest, times_by_limit
from promptlab.domain.assets import Dataset, PromptTemplate
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import BATCH, Price, cost_usd, price_of
from promptlab.domain.summary import Summary
from promptlab.domain.sweeps import MOST_CELLS
from promptlab.domain.templates import compile_template_async
from promptlab.domain.tokens import chat_tokens
from promptlab.errors import PromptLabError
from promptlab.models.batches.registry import has_batch_mode
from promptlab.report import duration
from promptlab.store_lab import StoreLab
from promptlab_studio.pages.reading import read_outlines
from promptlab_studio.views.new_run_form import further_models, further_prompts, model_of, rows_asked
from promptlab_studio.views.state import Query, whole

CALL_S = 2.0
"""Seconds of a call, where no run of the prompt tells."""
SAMPLED = 50
"""Rows whose tokens are counted."""


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """The expected cost of a run."""

    calls: int
    read: int
    """Tokens, from the text of the first rows."""
    written: int | None
    """Tokens, as earlier runs of the prompt wrote, or as many as the model may; None
    when neither is known."""
    basis: str
    usd: float | None
    known_price: bool
    has_batches: bool
    """Whether the model's provider has a batch mode."""
    batch_usd: float | None
    """Dollars in batch mode."""
    time: str
    """How long the calls take at the limit that counts, in words; empty where no model is chosen."""
    limited_by: str
    """That limit."""
    sweep: SweepCost | None = None
    """All runs together, where the form describes several."""


@dataclass(frozen=True, slots=True)
class SweepCost:
    """What all runs of a sweep cost."""

    runs: int
    calls: int
    usd: float | None
    """Of those whose price is known; None where none is."""
    unknown: Sequence[str]
    """Models whose price, or whose length of answers, is not known."""
    too_many: bool
    """Whether there are more runs than a sweep has."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one prompt asks a model over the rows that are chosen."""

    calls: int
    read: int
    written: int | None
    basis: str
    call_s: float


async def estimated(
    lab: StoreLab, query: Query, prompt: PromptTemplate, dataset: Dataset
) -> CostEstimate | None:
    """Estimate what the form's run costs, and all of its runs; None where it does not describe one yet."""
    try:
        given = model_of(query) if query.get("model") else {"code": ""}
        config = None if "code" in given else ModelConfig.model_validate(given)
        asked = await _asked(lab, query, prompt, dataset, config)
        sweep = await _sweep(lab, query, given, config, dataset, (prompt, asked))
    except (PromptLabError, ValidationError):
        return None
    # A deployed lab has no bucket and no role for those of Bedrock.
    has_batches = config is not None and has_batch_mode(config)
    has_batches = has_batches and (lab.stack is None or config is None or config.provider != "bedrock")
    time, limit = "", ""
    if config and asked.calls:
        tokens = (asked.read + (asked.written or 0)) / asked.calls
        call = LikelyRange(asked.call_s / 2, asked.call_s, 2 * asked.call_s)
        each = LikelyRange(tokens, tokens, tokens)
        limit, took = slowest(times_by_limit(config, asked.calls, call, each))
        time = f"≈ {duration(took.expected)}"
    price = price_of(config) if config else None
    return CostEstimate(
        calls=asked.calls,
        read=asked.read,
        written=asked.written,
        basis=asked.basis,
        usd=_dollars(price, asked),
        known_price=price is not None,
        has_batches=has_batches,
        batch_usd=_dollars(price_of(config, tier=BATCH), asked) if config else None,
        time=time,
        limited_by=limit,
        sweep=sweep,
    )


async def _sweep(
    lab: StoreLab,
    query: Query,
    given: Mapping[str, Any],
    config: ModelConfig | None,
    dataset: Dataset,
    first: tuple[PromptTemplate, _Asked],
) -> SweepCost | None:
    """All combinations of the prompts and models; the first prompt is counted already."""
    prompts, models = further_prompts(query), further_models(query)
    if not (prompts or models):
        return None
    runs = (1 + len(prompts)) * (1 + len(models))
    if config is None or runs > MOST_CELLS:
        return SweepCost(runs, runs * first[1].calls, None, (), runs > MOST_CELLS)
    asked = [first[1]]
    for name in prompts:
        async with lab.assets.draft(name, "prompt_template") as draft:
            assert isinstance(draft.asset, PromptTemplate)
            asked.append(await _asked(lab, query, draft.asset, dataset, config))
    configs = [config, *(ModelConfig.model_validate({**given, "name": name}) for name in models)]
    found = [(one.name, _dollars(price_of(one), each)) for one in configs for each in asked]
    known = [usd for _, usd in found if usd is not None]
    unknown = tuple(dict.fromkeys(name for name, usd in found if usd is None))
    calls = len(configs) * sum(each.calls for each in asked)
    return SweepCost(runs, calls, sum(known) if known else None, unknown, False)


async def _asked(
    lab: StoreLab, query: Query, prompt: PromptTemplate, dataset: Dataset, config: ModelConfig | None
) -> _Asked:
    calls = rows_asked(query, len(dataset)) * (whole(query.get("trials")) or 1)
    compiled = await compile_template_async(prompt)
    rows = await lab.assets.rows(dataset, 0, SAMPLED)
    sample = [await compiled.render_async(row) for row in rows]
    read = round(sum(map(chat_tokens, sample)) / max(len(sample), 1) * calls)
    each, basis, call_s = await _written(lab, prompt, config)
    return _Asked(calls, read, None if each is None else round(each * calls), basis, call_s)


def _dollars(price: Price | None, asked: _Asked) -> float | None:
    """Return what so many equal calls cost: one by one, for long prompts cost more."""
    calls, written = max(asked.calls, 1), asked.written
    one = cost_usd(price, asked.read / calls, None if written is None else written / calls)
    return None if one is None else one * asked.calls


async def _written(
    lab: StoreLab, prompt: PromptTemplate, config: ModelConfig | None
) -> tuple[float | None, str, float]:
    """Tokens that a case will write, from what we know it, and seconds of a call."""
    outlines, _ = await read_outlines(lab)
    for outline in outlines:
        used: Mapping[str, Any] = outline.run.experiment.get("prompt_template") or {}
        if used.get("name") != prompt.name or outline.metrics is None:
            continue
        for run in await lab.whole([outline]):
            if not run.summary or not run.summary["cases"] or not run.summary["completion_tokens"]:
                continue
            latency = Summary.from_json(run.summary).latency_ms
            call_s = latency.mean / 1000 if latency.n else CALL_S
            each = run.summary["completion_tokens"] / run.summary["cases"]
            return each, f"as run {run.run_id} of this prompt wrote", call_s
    if config and config.max_tokens:
        return config.max_tokens, "at most, as max_tokens allows", CALL_S
    return None, "unknown: no run of this prompt yet, and no max_tokens", CALL_S
