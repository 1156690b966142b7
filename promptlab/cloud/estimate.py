"""An estimate of what an experiment would cost in the cloud, and how long it would take,
before anything is paid for."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any

import orjson

from promptlab.assets.ingest import stage
from promptlab.cloud.cost import CHILD_S, IdleItem, Work, idle, price_table, scenarios, unit_costs, units
from promptlab.cloud.judged import JudgeEstimate, judges_of, total_usd
from promptlab.cloud.sampled import MOST_TRIED, LikelyRange, SampledRun, slowest, times_by_limit, tried_of
from promptlab.cloud.simulation import DEFAULT, NEW_ACCOUNT, Simulated, simulate, widest
from promptlab.cloud.turns import turns_of, worst_turns_usd
from promptlab.domain.assets import Dataset, DatasetContent, PromptTemplate, which_version
from promptlab.domain.chat import ChatRequest, Prompt
from promptlab.domain.experiment import Experiment
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prices import BATCH, Price, cost_usd, price_of
from promptlab.domain.results import RunRecord
from promptlab.domain.summary import Summary
from promptlab.domain.templates import check_placeholders, compile_template_async
from promptlab.domain.tokens import ASCII_CHARS, chat_tokens
from promptlab.domain.worst_case import worst_case
from promptlab.engine.plan import together
from promptlab.errors import ConfigError
from promptlab.experiments.code_answers import runs_answers
from promptlab.experiments.config import CodeConfig, ExperimentConfig
from promptlab.experiments.subset import Sample, subset
from promptlab.lab import Lab
from promptlab.models.base import Model
from promptlab.models.batches.registry import has_batch_mode
from promptlab.wiring import StackSize
from promptlab.worker import IN_FLIGHT, at_once

TOKENIZERS = (0.8, 1.3)
"""How far models' tokenizers are from this rule, either way."""
ANSWER_TOKENS = 250
SAMPLE = 20
"""Rows whose prompts are measured."""
Sampled = tuple[list[dict[str, Any]], DatasetContent]
_PLACES = 5
_Z = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The expected cost and duration of a run in the cloud."""

    work: Work
    """As expected."""
    sampled: int
    """Rows whose prompts were measured."""
    prompt_tokens: LikelyRange
    """The latency of one call."""
    answer_tokens: LikelyRange
    model: str
    model_usd: LikelyRange | None
    """The usual cost of all calls; None when the model's price is not known."""
    batch_usd: LikelyRange | None
    """The cost in the provider's batch mode; None where it has none, or the price is not known."""
    services: Mapping[str, LikelyRange]
    """Dollars, by AWS service."""
    wall_s: LikelyRange
    simulated: Simulated
    """The run as expected, over time."""
    widest: int
    """The largest MaxConcurrency that hits no quota."""
    idle: Sequence[IdleItem]
    """By the month."""
    flex_usd: LikelyRange | None = None
    """The cost in the provider's flex tier; None where it has none, or the price is not known."""
    worst_usd: float | None = None
    """The most that the calls can cost, each answered at the first try: what a budget would set aside; None
    where a price, or how much the model may write, is not known."""
    metrics_usd: float | None = None
    """The metrics' own calls: as the tried rows' cost, else as `judges` say; None where it is not known."""
    judges: Sequence[JudgeEstimate] = ()
    """Each judge of each metric."""
    turns: LikelyRange | None = None
    """Answers of the model in a case of a conversation, whose tokens are then those of all of them."""
    user_usd: LikelyRange | None = None
    """What simulated users cost; None without any, or where the price is not known."""
    laptop_s: Mapping[str, LikelyRange]
    """Seconds that each limit of the model makes the run take on one machine, at least."""
    tried: SampledRun | None = None
    """The rows that were really run."""

    @property
    def laptop_wall_s(self) -> LikelyRange:
        """Seconds on one machine: those of the limit that counts."""
        return slowest(self.laptop_s)[1]

    @property
    def limited_by(self) -> str:
        """The limit that counts."""
        return slowest(self.laptop_s)[0]

    @property
    def cloud_usd(self) -> LikelyRange:
        """All services, without the model."""
        parts = self.services.values()
        return LikelyRange(
            sum(p.low for p in parts), sum(p.expected for p in parts), sum(p.high for p in parts)
        )

    def to_json(self) -> dict[str, Any]:
        """JSON, as `promptlab cloud estimate --json` prints it."""
        return {
            "rows": self.work.rows,
            "cases": self.work.cases,
            "sampled_rows": self.sampled,
            "prompt_tokens": asdict(self.prompt_tokens),
            "answer_tokens": asdict(self.answer_tokens),
            "model": self.model,
            "model_usd": asdict(self.model_usd) if self.model_usd else None,
            "batch_usd": asdict(self.batch_usd) if self.batch_usd else None,
            "flex_usd": asdict(self.flex_usd) if self.flex_usd else None,
            "worst_usd": self.worst_usd,
            "metrics_usd": self.metrics_usd,
            "judges": [asdict(one) for one in self.judges],
            "turns": asdict(self.turns) if self.turns else None,
            "simulated_user_usd": asdict(self.user_usd) if self.user_usd else None,
            "laptop_wall_s": asdict(self.laptop_wall_s),
            "laptop_s": {name: asdict(seconds) for name, seconds in self.laptop_s.items()},
            "limited_by": self.limited_by,
            "tried": asdict(self.tried) if self.tried else None,
            "cloud_usd": asdict(self.cloud_usd),
            "services_usd": {name: asdict(interval) for name, interval in self.services.items()},
            "wall_s": asdict(self.wall_s),
            "workers": self.simulated.workers,
            "workers_asked": self.simulated.asked,
            "workers_without_throttling": self.widest,
            "gives_up": self.simulated.gives_up,
            "throttles": [asdict(throttle) for throttle in self.simulated.throttles],
            "idle_usd_a_month": [asdict(item) for item in self.idle],
            "prices_as_of": price_table()["as_of"],
        }


async def estimate(
    lab: Lab,
    config: ExperimentConfig,
    *,
    rows: int | None = None,
    sample: int = SAMPLE,
    latency_s: float = 2.0,
    answer_tokens: int | None = None,
    max_concurrency: int = 100,
    worker_memory: int = 512,
    new_account: bool = False,
    tries: int = 0,
    folder: Path | None = None,
    sampled: Sampled | None = None,
) -> Estimate:
    """Estimate an experiment. Nothing is stored, and no model is called, unless rows are to be tried.

    Args:
        lab: where assets are that the experiment names by reference.
        config: the experiment.
        rows: how many rows to estimate for; default: those of the dataset.
        sample: rows whose prompts are measured.
        latency_s: seconds that a call takes on average.
        answer_tokens: tokens of an answer; default: half of the model's max_tokens, or 250.
        max_concurrency: the stack's MaxConcurrency.
        worker_memory: the stack's WorkerMemory, in MB.
        new_account: use the quotas of a new AWS account.
        tries: rows that are really run and paid for, a random sample; what they took replaces the guesses.
        folder: what relative paths to code count from, as in `Lab.run`.
        sampled: the rows whose prompts are measured, where they were read already.

    Raises:
        PromptLabError: the experiment is wrong, or no tried row was answered.
    """
    if config.prompt_template is None:
        raise ConfigError(
            "An agent is a Python function: how many calls it makes is not known before it runs, so there is "
            "nothing to estimate. Try it with a few rows: --limit."
        )
    if isinstance(config.model, CodeConfig):
        raise ConfigError(
            f"model: {config.model.code} is code of your own: what a call costs is not known before it "
            "runs. Try "
            "it with a few rows: --limit."
        )
    model = config.model.config if isinstance(config.model, Model) else config.model
    found, content = sampled or await sampled_rows(lab, config.dataset, sample)
    prompt = await _prompt(lab, config.prompt_template)
    compiled = await compile_template_async(prompt)
    check_placeholders(prompt, content, compiled)
    prompts = [await compiled.render_async(row) for row in found]
    read, written = prompt_tokens(prompts), _answer(model, answer_tokens)
    tried = await _tried(lab, config, tries, folder) if tries else None
    if tried is not None:
        read, written = tried.prompt_tokens or read, tried.completion_tokens or written
        latency_s = tried.latency_s.expected if tried.latency_s else latency_s
    tokens = read.expected + written.expected
    work = _work(config, model, rows or content.rows, latency_s, max_concurrency, worker_memory, tokens)
    judges = await judges_of(config, found, prompts, written, work.cases)
    quotas = NEW_ACCOUNT if new_account else DEFAULT
    latency = (tried.latency_s if tried else None) or LikelyRange(latency_s / 2, latency_s, 2 * latency_s)
    turns = turns_of(config.conversation, found, prompts, read, written) if config.conversation else None
    if turns is None:
        laptop_s = times_by_limit(model, work.cases, latency, read.plus(written))
    else:
        if tried is None:  # else it is of all turns of a case, as is what was read and written
            read, written, latency = (
                turns.prompt_tokens,
                turns.answer_tokens,
                latency.times(turns.count.expected),
            )
        work = replace(work, latency_s=latency.expected)
        laptop_s = turns.times_by_limit(model, work.cases, latency, read.plus(written))
    runs = {
        name: replace(
            w, answer_bytes=ASCII_CHARS * getattr(written, name), latency_s=_with_waits(w, laptop_s, name)
        )
        for name, w in scenarios(work).items()
    }
    # Of a million rows a second and more: a Studio serves others meanwhile.
    timed = await asyncio.to_thread(lambda: {name: simulate(run, quotas) for name, run in runs.items()})
    most = await asyncio.to_thread(widest, runs["expected"], quotas)
    spent = {name: unit_costs(units(run, timed[name].wall_s)) for name, run in runs.items()}
    usual, flex = price_of(model), price_of(model, tier="flex")
    return Estimate(
        work=runs["expected"],
        sampled=len(found),
        prompt_tokens=read,
        answer_tokens=written,
        model=model.name,
        model_usd=tried.usd.times(work.cases)
        if tried is not None and tried.usd is not None
        else _model_usd(usual, read, written, work.cases),
        flex_usd=_model_usd(flex, read, written, work.cases) if flex != usual else None,
        worst_usd=worst_turns_usd(config.conversation, model, prompts, work.cases)
        if config.conversation
        else _worst_usd(model, prompts, work.cases),
        turns=turns.count if turns else None,
        user_usd=turns.user_usd.times(work.cases) if turns and turns.user_usd else None,
        metrics_usd=_metrics_usd(tried, judges, work.cases),
        judges=judges,
        laptop_s=laptop_s,
        tried=tried,
        batch_usd=_model_usd(price_of(model, tier=BATCH), read, written, work.cases)
        if has_batch_mode(model) and turns is None
        else None,
        services={
            service: _around(*(spent[name][service] for name in runs)) for service in spent["expected"]
        },
        wall_s=_around(*(timed[name].wall_s for name in runs)),
        simulated=timed["expected"],
        widest=most,
        idle=idle(keys=1 if model.api_key_secret else 0),
    )


def _with_waits(work: Work, times: Mapping[str, LikelyRange], scenario: str) -> float:
    """Seconds of a call with its wait for a permit: a limit of requests or tokens a minute makes all calls in
    flight, and the workers that are paid meanwhile, take as long as it wants."""
    at_once = min(work.cases, work.workers * work.in_flight)
    least_s: list[float] = [getattr(times[name], scenario) for name in times if name.endswith("_per_minute")]
    return max([work.latency_s, *(seconds * at_once / work.cases for seconds in least_s)])


def spent_usd(run: RunRecord, summary: Summary, stack: StackSize) -> float:
    """Compute what AWS charged for a run that has ended, by the same formulas, from the run's
    latency, answers and length.

    Faults, retries and pauses are not counted.
    """
    experiment, latency = Experiment.model_validate(run.experiment), summary.latency_ms
    mean_s = max(latency.mean / 1000, 1e-3)
    answered = max(1, summary.cases)
    work = _work(
        experiment,
        experiment.model,
        max(1, summary.cases // experiment.trials),
        mean_s,
        stack.max_concurrency,
        stack.worker_mb,
    )
    work = replace(
        work,
        answer_bytes=ASCII_CHARS * (summary.completion_tokens or 0) / answered,
        tail=max(1.0, (latency.quantile(0.98) or 0.0) / 1000 / mean_s),
    )
    return sum(unit_costs(units(work, run.wall_s)).values())


def prompt_tokens(prompts: Sequence[Prompt]) -> LikelyRange:
    """Tokens of one prompt: the mean of some rendered ones, between what chance in the sample and other
    tokenizers leave open."""
    counts = [chat_tokens(messages) for messages in prompts]
    mean = statistics.fmean(counts)
    spread = _Z * statistics.stdev(counts) / sqrt(len(counts)) if len(counts) > 1 else mean / 2
    low, high = TOKENIZERS
    return LikelyRange(max(0.0, mean - spread) * low, mean, (mean + spread) * high)


async def _tried(lab: Lab, config: ExperimentConfig, tries: int, folder: Path | None) -> SampledRun:
    """Run a random sample of the rows, and sum up what they took."""
    if not 1 <= tries <= MOST_TRIED:
        raise ConfigError(f"{tries:,} rows to try: 1 to {MOST_TRIED:,} are tried.")
    async with subset(lab.assets, config.dataset, Sample(tries, 0)) as dataset:
        # Rows of their own are compared with no run.
        part = config.model_copy(update={"dataset": dataset, "stop": None})
        run = await lab.run(part, folder=folder)
    if run.summary is None or not run.summary["succeeded"]:
        raise ConfigError(
            f"No row of the {tries:,} that were tried was answered: {run.error or run.status} (run "
            f"{run.run_id})."
        )
    return await tried_of(run, lab.results(run.run_id))


def _metrics_usd(tried: SampledRun | None, judges: Sequence[JudgeEstimate], cases: int) -> float | None:
    """Dollars of the metrics' own calls: what tried rows cost, else what the judges would be asked."""
    if tried is not None:
        return None if tried.metrics_usd is None else tried.metrics_usd * cases
    total = total_usd(judges)
    return total.expected if total is not None else None


def _worst_usd(
    model: ModelConfig, prompts: Sequence[Sequence[Mapping[str, str]] | ChatRequest], cases: int
) -> float | None:
    """The most that all calls can cost, by the longest prompt of the sample."""
    try:
        worst = worst_case(model)
    except ConfigError:
        return None
    return max(worst.usd(messages) for messages in prompts) * cases


def _answer(model: ModelConfig, given: int | None) -> LikelyRange:
    if given is not None:
        return LikelyRange(0.75 * given, given, 1.25 * given)
    expected = model.max_tokens / 2 if model.max_tokens else ANSWER_TOKENS
    return LikelyRange(expected / 2, expected, 2 * expected)


def _around(first: float, expected: float, last: float) -> LikelyRange:
    """A longer answer may deflate to a smaller item: what is meant to be low need not be."""
    return LikelyRange(min(first, expected, last), expected, max(first, expected, last))


def _model_usd(
    price: Price | None, read: LikelyRange, written: LikelyRange, cases: int
) -> LikelyRange | None:
    each = [
        cost_usd(price, getattr(read, name), getattr(written, name)) for name in ("low", "expected", "high")
    ]
    known = [usd for usd in each if usd is not None]
    return LikelyRange(*known).times(cases) if len(known) == len(each) else None


def _work(
    config: ExperimentConfig | Experiment,
    model: ModelConfig,
    rows: int,
    latency_s: float,
    max_concurrency: int,
    worker_memory: int,
    tokens: float | None = None,
) -> Work:
    allowed = model.max_concurrent_tasks
    workers = at_once(model, max_concurrency, tokens)
    answers = [item for item in config.evaluation if item.evaluator is None and runs_answers(item.metric)]
    work = Work(
        rows=rows,
        trials=config.trials,
        metrics=len(config.evaluation),
        code_metrics=sum(item.evaluator is not None for item in config.evaluation) + len(answers),
        code_s=CHILD_S if answers else 0.0,
        latency_s=latency_s,
        in_flight=min(allowed, IN_FLIGHT),
        workers=workers,
        worker_mb=worker_memory,
    )
    return replace(work, together=together(work.shards, workers, config.trials))


async def _prompt(lab: Lab, value: PromptTemplate | str) -> PromptTemplate:
    if isinstance(value, PromptTemplate):
        return value
    name, _, which = value.partition("@")
    found = await lab.assets.get(name, **which_version(which), kind="prompt_template")
    assert isinstance(found, PromptTemplate)
    return found


async def sampled_rows(lab: Lab, value: Dataset | str, count: int = SAMPLE) -> Sampled:
    """Read some rows of a dataset, from all over it, and what is known of it."""
    if isinstance(value, Dataset) and value.version is None:
        async with stage(value) as staged:
            return await asyncio.to_thread(
                _lines, staged.rows_path, staged.content.rows, count
            ), staged.content
    name, _, which = (value if isinstance(value, str) else f"{value.name}@{value.version}").partition("@")
    dataset = await lab.assets.get(name, **which_version(which), kind="dataset")
    assert isinstance(dataset, Dataset) and dataset.content is not None
    content, found = dataset.content, list[dict[str, Any]]()
    places = min(_PLACES, count, content.rows)
    each = -(-min(count, content.rows) // places)
    for place in range(places):
        offset = place * content.rows // places
        found += await lab.assets.rows(dataset, offset, min(each, 500))
    return found[:count], content


def _lines(path: Path, rows: int, count: int) -> list[dict[str, Any]]:
    wanted = {place * rows // min(count, rows) for place in range(min(count, rows))}
    with path.open("rb") as file:
        return [orjson.loads(line) for number, line in enumerate(file) if number in wanted]
