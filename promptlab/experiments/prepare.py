"""From a configuration to an experiment that can run: everything that can be wrong is found here, before a
call is paid for."""

from __future__ import annotations

import asyncio
import difflib
import os
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from promptlab.assets.json_rows import clip
from promptlab.assets.store import AssetDraft, AssetStore
from promptlab.domain.assets import Dataset, DatasetContent, PromptTemplate
from promptlab.domain.deployments import deployment_warnings
from promptlab.domain.experiment import (
    PROMPT,
    SPECIAL,
    AssetRef,
    Experiment,
    Metric,
    RunMetricSpec,
    is_special,
    score_source,
)
from promptlab.domain.kin import kin_warnings
from promptlab.domain.model_config import ModelConfig
from promptlab.domain.prompt_warnings import prompt_warnings
from promptlab.domain.secrets import secret_variable
from promptlab.domain.shutdowns import shutdown_warnings
from promptlab.domain.templates import (
    CompiledTemplate,
    check_placeholders,
    compile_template_async,
    media_parts,
)
from promptlab.engine.job import Bindings
from promptlab.errors import ConfigError, MissingKeyError, TemplateError, UnknownNameError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.combining import in_order
from promptlab.evaluators.registry import build
from promptlab.experiments.binding import Live, bind, checked_metrics, live_objects
from promptlab.experiments.config import ExperimentConfig
from promptlab.experiments.conversations import check_conversation
from promptlab.experiments.pinned import hashed, prices_of, ref_of
from promptlab.experiments.stored import Stored
from promptlab.models.base import Model, lacking, not_by_address
from promptlab.models.batches.registry import AS_DOCUMENTED, BatchModes, batches_of
from promptlab.models.provider import ProviderModel
from promptlab.models.registry import load_provider
from promptlab.outbound import Outbound
from promptlab.ports import Secrets

_POSSIBLE: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int, float),
    "number": (int, float),
    "boolean": (bool,),
}
"""Python's types of a column's values; a column of mixed values has none."""


@dataclass(slots=True)
class Prepared:
    """A checked experiment. Nothing of it is stored yet."""

    config: ExperimentConfig
    prompt: AssetDraft | None
    dataset: AssetDraft
    metrics: tuple[Metric, ...]
    run_metrics: tuple[RunMetricSpec, ...]
    """The metrics of the run as a whole."""
    live: Live
    warnings: tuple[str, ...] = ()
    """Warnings about what is probably not meant."""

    @property
    def rows(self) -> int:
        """How many rows the dataset has."""
        content = self.dataset.content
        assert content is not None
        return content.rows

    def unstored(self) -> Experiment:
        """Give what of the experiment is known before its assets are stored."""
        model, dataset = self.live.model, self.dataset
        assert model is not None
        return Experiment(
            name=self.config.name,
            dataset=AssetRef(name=dataset.asset.name, version=dataset.asset.version or 0, hash=dataset.hash),
            model=model.config,
            evaluation=self.metrics,
            run_evaluation=self.run_metrics,
            embedding_model=self.live.embedding_model.config if self.live.embedding_model else None,
            trials=self.config.trials,
        )

    async def commit(self, store: AssetStore) -> tuple[Experiment, Bindings]:
        """Store the assets that are new, and pin the experiment to them."""
        prompt = await store.commit(self.prompt) if self.prompt else None
        dataset = await store.commit(self.dataset)
        model, embedding = self.live.model, self.live.embedding_model
        assert model is not None and isinstance(dataset, Dataset)
        experiment = Experiment(
            name=self.config.name,
            prompt_template=ref_of(prompt) if prompt else None,
            dataset=ref_of(dataset),
            model=model.config,
            model_code=self.live.code_of("model", model),
            agent=self.live.agent_code(model),
            embedding_model=embedding.config if embedding else None,
            embedding_model_code=self.live.code_of("embedding_model", embedding),
            conversation=self.config.conversation,
            evaluation=self.metrics,
            run_evaluation=self.run_metrics,
            trials=self.config.trials,
            max_failures=self.config.max_failures,
            case_deadline_s=self.config.case_deadline_s,
            run_deadline_s=self.config.run_deadline_s,
            prices={
                name: price for one in self.live.models() for name, price in prices_of(one.config).items()
            },
        )
        experiment = hashed(experiment).model_copy(
            update={"warnings": self.warnings, "slices": self.config.slices}
        )
        return experiment, await bind(
            experiment, prompt if isinstance(prompt, PromptTemplate) else None, dataset, self.live
        )


def _grouped(
    config: ExperimentConfig, content: DatasetContent, metrics: tuple[Metric, ...]
) -> tuple[Metric, ...]:
    """The metrics with the column that rows belong together by.

    Raises:
        UnknownNameError: the dataset lacks that column, or one to look at the metrics by.
    """
    known = [column.name for column in content.columns]
    for what, name in [("cluster_by", config.cluster_by), *(("slices", name) for name in config.slices)]:
        if name is not None and name not in known:
            raise UnknownNameError(f"dataset column of {what}", name, known)
    if config.cluster_by is None:
        return metrics
    return tuple(metric.model_copy(update={"cluster_by": config.cluster_by}) for metric in metrics)


@asynccontextmanager
async def prepare(
    config: ExperimentConfig,
    store: AssetStore,
    folder: Path,
    stored: Stored | None = None,
    rows: AssetDraft | None = None,
    known: Sequence[Metric] = (),
    *,
    batches: BatchModes = AS_DOCUMENTED,
) -> AsyncIterator[Prepared]:
    """Check an experiment, but for whether its models can be called. What it staged is gone when the context
    ends.

    Args:
        config: the experiment.
        store: where its assets are.
        folder: what relative paths to code count from.
        stored: its code that the lab keeps.
        rows: its dataset, where that was read already.
        known: metrics that the run has already.
        batches: what speaks to the batch modes of providers.

    Raises:
        PromptLabError: something is wrong; see errors.py. Nothing was stored.
    """
    async with AsyncExitStack() as stack:
        loading = asyncio.gather(*map(load_provider, _providers(config)))
        try:  # meanwhile
            prompt = (
                await stack.enter_async_context(store.draft(config.prompt_template, "prompt_template"))
                if config.prompt_template is not None
                else None
            )
        finally:
            await loading
        live = live_objects(config, folder, stored)
        made = [await checked_metrics(item, live, folder) for item in config.evaluation]
        metrics = tuple(metric for each in made for metric in each)
        _check_names(metrics)
        dataset = (
            rows
            if rows is not None
            else await stack.enter_async_context(store.draft(config.dataset, "dataset"))
        )
        content = dataset.content
        assert content is not None
        compiled = None
        if prompt is not None:
            assert isinstance(prompt.asset, PromptTemplate)
            compiled = await compile_template_async(prompt.asset)
            check_placeholders(prompt.asset, content, compiled)
            _check_takes(prompt.asset, compiled, content, live.model)
        metrics = tuple(
            _mapped(m, live.evaluators[m.evaluator_name], content, prompt is not None) for m in metrics
        )
        metrics = _grouped(config, content, metrics)
        run_metrics = tuple(m for m in metrics if isinstance(m, RunMetricSpec))
        metrics = tuple(m for m in metrics if not isinstance(m, RunMetricSpec))
        _check_made_of(metrics, live, known)
        _check_sources(run_metrics, {m.name for m in (*known, *metrics)})
        warnings: tuple[str, ...] = ()
        if prompt is not None and compiled is not None:
            assert isinstance(prompt.asset, PromptTemplate)
            mappings = [(m.name, m.column_mapping) for m in metrics]
            warnings = prompt_warnings(
                prompt.asset, compiled, content, mappings, is_all=config.conversation is None
            )
        if warnings and config.strict:
            raise ConfigError("\n".join(("The experiment is strict, and would be warned of:", *warnings)))
        if config.conversation is not None:
            await check_conversation(config.conversation, live, content)
        _check_embedding(metrics, live)
        configs = [model.config for model in live.models()]
        warnings += shutdown_warnings(configs, datetime.now(UTC).date())
        warnings += deployment_warnings(configs)
        warnings += kin_warnings(metrics, live.model.name) if live.model is not None else ()
        _check_batch(live, content.rows * config.trials, config.case_deadline_s, batches)
        yield Prepared(config, prompt, dataset, metrics, run_metrics, live, warnings)


def _providers(config: ExperimentConfig) -> set[str]:
    """The providers of the models that an experiment describes."""
    judges = (one for item in config.evaluation for one in item.judge or ())
    given = (config.model, config.embedding_model, *judges)
    return {one.provider for one in given if isinstance(one, ModelConfig)}


def _check_takes(
    template: PromptTemplate, compiled: CompiledTemplate, content: DatasetContent, model: Model | None
) -> None:
    """Hold what a prompt sends beside texts against the dataset's columns and what the model takes.

    Raises:
        TemplateError: a part names a column that holds other than its media.
        ConfigError: the model does not take them.
    """
    columns = {column.name: column for column in content.columns}
    addressed = set[str]()
    for part in media_parts(template):
        column = columns.get(part.column)
        if column is None or column.media != part.modality:
            raise TemplateError(
                f"Prompt template {template.name!r}: column {part.column!r} is no {part.modality} of the "
                f"dataset. "
                f"Create the dataset with media: {{{part.column}: {part.modality}}}."
            )
        if content.addresses if column.by_address is None else column.by_address:
            addressed.add(part.modality)
    if model is None:
        return
    needs = compiled.needs | ({"uri"} if addressed else set())
    why = lacking(model, needs) or not_by_address(model, addressed)
    if not why and not model.forces_tools and template.tool_choice not in (None, "auto", "none"):
        why = f"model {model.name} takes no tool_choice {template.tool_choice!r}; leave it out, or say auto."
    if why:
        raise ConfigError(f"Prompt template {template.name!r}: {why}")


async def check_models(models: Iterable[Model | None]) -> None:
    """Find out, without a paid call, whether the models can be called.

    Raises:
        MissingKeyError: a key is needed and there is none.
        EndpointUnreachableError: nothing answers at an endpoint.
        ConfigError: batch mode is asked for where there is none.
    """
    for model in models:
        if model is not None:
            if model.config.batch:
                batches_of(model)
            await model.check()


async def unlock(models: Iterable[Model | None], secrets: Secrets, outbound: Outbound) -> None:
    """Give the models the rules for where calls may go, and the key of the secret that their
    configuration names.

    Raises:
        MissingKeyError: there is no such secret.
        ConfigError: a model cannot be had under these rules.
    """
    for model in models:
        if not isinstance(model, ProviderModel):
            continue
        model.guard(outbound)
        if name := model.config.api_key_secret:
            secret = await secrets.get(name)
            if secret is None:
                missing = name if outbound.hosted else secret_variable(name, os.environ)
                raise MissingKeyError(model.name, missing, secret=outbound.hosted)
            model.use_secret(secret)


def _mapped(metric: Metric, evaluator: Evaluator, content: DatasetContent, has_prompt: bool) -> Metric:
    """Complete the metric's column_mapping, and check it against the dataset."""
    names = [c.name for c in content.columns]
    _check_when(metric, content)
    renamed = getattr(evaluator, "renamed_inputs", {}) if metric.code is None else {}
    mapping = {renamed.get(name, name): source for name, source in metric.column_mapping.items()}
    inputs: Mapping[str, str | None] = getattr(evaluator, "inputs", {})
    for name, default in inputs.items():
        source = mapping.setdefault(name, default or (name if name in names else ""))
        if not source:
            raise ConfigError(
                f"metric {metric.name!r} needs {name!r}: map it to a column, as in column_mapping: "
                f"{{{name}: {names[0]}}}. Columns: {_list(names)}."
            )
    for name, source in mapping.items():
        if inputs and name not in inputs and metric.code is None and not _takes_any(evaluator):
            raise ConfigError(
                f"metric {metric.name!r} has no input {name!r}; its inputs are {_list(list(inputs))}."
            )
        if isinstance(metric, RunMetricSpec) and score_source(source):
            continue
        if source.startswith("$") and not is_special(source):
            raise ConfigError(
                f"metric {metric.name!r}: {source!r} is not a value of the answer; "
                f"these are {_list([*SPECIAL, '$metadata.<key>'])}."
            )
        if source == PROMPT and isinstance(metric, RunMetricSpec):
            raise ConfigError(
                f"metric {metric.name!r} is of the run as a whole, which reads answers and rows: {PROMPT} is "
                "not kept with them. Map a column of the dataset."
            )
        if source == PROMPT and not has_prompt:
            raise ConfigError(
                f"metric {metric.name!r}: {name!r} is to be {PROMPT}, but an agent has no prompt: "
                "map it to a column of the dataset."
            )
        if not source.startswith("$") and source not in names:
            hint = _nearest(source, names)
            raise ConfigError(
                f"metric {metric.name!r}: column_mapping {name!r} names the column {clip(source)!r}, which "
                f"the dataset does not have.{hint} Columns: {_list(names)}."
            )
    judged = getattr(evaluator, "judged_input", "response")
    for field, name in (("extract", judged), ("extract_reference", "reference")):
        if getattr(metric, field) and name not in mapping:
            raise ConfigError(
                f"metric {metric.name!r} reads no {name}, so that {field} would change nothing."
            )
    return metric.model_copy(update={"column_mapping": mapping})


def _check_made_of(metrics: Sequence[Metric], live: Live, known: Sequence[Metric]) -> None:
    """Refuse metrics that are made of what is not there, or of each other."""
    given = {m.evaluator_name for m in metrics}
    there = [m for m in known if m.evaluator_name not in given and m.kept is None]
    in_order(
        [
            *((m, live.evaluators[m.evaluator_name]) for m in metrics),
            *((m, build(m.metric, m.params) if _is_combined(m) else Evaluator()) for m in there),
        ]
    )


def _is_combined(metric: Metric) -> bool:
    return metric.code is None and metric.metric == "combined"


def _check_sources(metrics: Sequence[RunMetricSpec], known: Collection[str]) -> None:
    """Refuse a metric of the run that reads the scores of one that is not there."""
    for metric in metrics:
        for source in metric.column_mapping.values():
            found = score_source(source)
            if found is not None and found[1] not in known:
                raise UnknownNameError(f"metric of {source}, which {metric.name!r} reads", found[1], known)


def _takes_any(evaluator: Evaluator) -> bool:
    return bool(getattr(evaluator, "any_inputs", False))


def _check_names(metrics: Sequence[Metric]) -> None:
    """Refuse a metric that is called as another one's score."""
    names = [name for m in metrics for name in m.result_names]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"{twice!r} is a metric, and a score of another one: give the metric another `name`."
        )


def _check_when(metric: Metric, content: DatasetContent) -> None:
    """Refuse a condition on a column that is not there, or on a value that no row of the column can have."""
    if metric.when is None:
        return
    types = {c.name: c.type for c in content.columns}
    name = metric.when.column
    if name not in types:
        hint = _nearest(name, list(types))
        raise ConfigError(
            f"metric {metric.name!r}: when names the column {clip(name)!r}, which the dataset does not "
            f"have.{hint} "
            f"Columns: {_list(list(types))}."
        )
    possible = _POSSIBLE.get(types[name])
    for value in metric.when.values:
        if possible and value is not None and type(value) not in possible:
            raise ConfigError(
                f"metric {metric.name!r}: when compares the column {name!r} with {value!r}, "
                f"but its values are of the type {types[name]}: no row can be equal. "
                f"Write {'the value in quotes' if types[name] == 'string' else 'a value of that type'}."
            )


def _nearest(name: str, names: Sequence[str]) -> str:
    """Suggest the nearest of the columns; of the first ones, by their beginnings: each
    comparison is quadratic."""
    near = difflib.get_close_matches(name[:100], [other[:100] for other in names[:1000]], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _list(names: list[str]) -> str:
    shown = ", ".join(map(clip, names[:20]))
    return shown if len(names) <= 20 else f"{shown}, … ({len(names)} in all)"


def _check_batch(live: Live, cases: int, case_deadline_s: float | None, batches: BatchModes) -> None:
    """Refuse batch mode where there is none, and a batch that is too small for its provider."""
    if live.embedding_model is not None and live.embedding_model.config.batch:
        raise ConfigError("embedding_model: texts are embedded directly; leave its batch out")
    for name, judges in live.judges.items():
        own = not type(live.evaluators.get(name)).__module__.startswith("promptlab.evaluators.")
        if own and any(judge.batch for judge, _ in judges):
            raise ConfigError(
                f"metric {name!r}: code of your own asks its judge directly, for it would have to be run "
                "twice to ask in batches: leave out the judge's batch"
            )
    if live.model is None or not live.model.config.batch:
        return
    if case_deadline_s is not None:
        raise ConfigError(
            f"case_deadline_s: {case_deadline_s:g}: a provider answers a batch within a day, and no case by "
            "itself. Leave it out in batch mode, or say run_deadline_s"
        )
    least = batches.of(live.model).limits.least
    if cases < least:
        raise ConfigError(
            f"Model {live.model.name!r}: a batch there has at least {least} requests, and this run has "
            f"{cases}: leave batch out, or run more rows or trials"
        )


def _check_embedding(metrics: tuple[Metric, ...], live: Live) -> None:
    needing = [m.name for m in metrics if m.needs_embedding]
    if needing and live.embedding_model is None:
        raise ConfigError(
            f"metric {needing[0]!r} needs an embedding model: add embedding_model: "
            "openai/text-embedding-3-small (or another) to the experiment"
        )
