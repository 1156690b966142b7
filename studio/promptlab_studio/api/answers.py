"""The answers of the API."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from promptlab.adapters.http.problems import MEDIA_TYPE
from promptlab.domain.assets import AssetVersion
from promptlab.domain.experiment import Missing
from promptlab.domain.results import Progress, RunRecord, RunStatus
from promptlab.domain.summary import Summary
from promptlab.report import brief
from promptlab.statistics import Verdict
from promptlab.store_lab import StoreLab


class FieldError(BaseModel):
    """The error of one field."""

    model_config = ConfigDict(extra="allow")

    field: str = Field(
        description="Its path in the body, or the parameter's name.", examples=["evaluation.0.metric"]
    )
    message: str
    line: int | None = Field(default=None, description="The line or row of an uploaded file, from 1.")


class Problem(BaseModel):
    """An error: problem details as RFC 9457 has them."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:promptlab:run-not-found",
                    "title": "No such run",
                    "status": 404,
                    "detail": "No run 'x' in this store. `promptlab runs` lists them.",
                    "instance": "/api/v1/runs/x",
                }
            ]
        },
    )

    type: str = Field(
        description="What went wrong, for programs: `urn:promptlab:…`, or about:blank where the status "
        "says it all."
    )
    title: str
    status: int
    detail: str = Field(description="What went wrong this time and what to do, for people.")
    instance: str = Field(description="The path that was asked for.")
    errors: list[FieldError] | None = None


AS_PROBLEM: dict[str, Any] = {
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
"""What a response with an error has, for the document."""


class Health(BaseModel):
    """The answer of a Studio that is up."""

    status: str = Field(examples=["ok"])
    version: str


class BatchedOut(BaseModel):
    """How far the batches of a run are at its provider."""

    batches: int = Field(description="Batches of the run so far.")
    open: int = Field(description="Those of them whose results are not collected yet.")
    cases: int = Field(description="Cases in the open ones.")
    done: int = Field(description="Cases of the open ones that the provider has worked on.")
    failed: int = Field(description="Those of them that failed.")
    since: str | None = Field(description="When the oldest open one was submitted; null before that.")


class ProgressOut(BaseModel):
    """How far a run is. Counts are cases; a case counts once its call has ended."""

    status: RunStatus
    total: int
    done: int
    failed: int
    prompt_tokens: int | None = Field(description="Tokens read; null when nobody told them.")
    completion_tokens: int | None = Field(description="Tokens written; null when nobody told them.")
    cost_usd: float | None = Field(description="Dollars so far; null when a price is unknown.")
    unknown_tokens: int = Field(default=0, description="Cases whose tokens are unknown: not in the sums.")
    unknown_cost: int = Field(default=0, description="Cases whose cost is unknown: not in the dollars.")
    unpriced: int = Field(default=0, description="How many of those were answered.")
    waiting: str | None = Field(
        default=None, description="Why no call is made now, in words: nothing answers (docs/reliability.md)."
    )
    batched: BatchedOut | None = Field(
        default=None, description="Of a run in batch mode that waits for its provider."
    )


class ShareOut(BaseModel):
    """A share, or another mean from 0 to 1, with its 95% interval; over rows."""

    n: float = Field(
        description="Rows: with the label; of trials those whose mean it is. With trials a row "
        "may have a part of a label."
    )
    share: float | None = Field(default=None, description="Of a label.")
    mean: float | None = Field(default=None, description="Of trials.")
    ci_low: float | None
    ci_high: float | None


class TrialsOut(BaseModel):
    """Several answers to a row, of pass/fail; each a mean over rows, of unbiased values of a row."""

    trials: int = Field(description="Answers of a row at most.")
    pass_at: dict[str, ShareOut] = Field(description="k → the probability that one of k answers passes.")
    pass_hat: dict[str, ShareOut] = Field(description="k → the probability that all of k answers pass.")
    at_least: dict[str, ShareOut] = Field(description="k → rows of which at least k answers passed.")
    flake_rate: ShareOut = Field(description="The probability that two answers to a row differ.")


class ClustersOut(BaseModel):
    """Rows that belong together."""

    column: str
    groups: int
    stderr: float = Field(description="Cluster-robust, of the mean.")
    method: str = Field(description="CR1, or CR3 where sizes differ by more than 2:1.")
    df: float | None = Field(default=None, description="Degrees of freedom of its t; older runs: groups − 1.")


class MetricBrief(BaseModel):
    """A metric over dataset rows; with trials a row's value is their mean."""

    n: int = Field(description="Rows that the mean is of.")
    rows: int | None = Field(default=None, description="Rows to score; null for runs of older versions.")
    mean: float | None
    stderr: float | None
    ci_low: float | None = Field(description="The 95% interval.")
    ci_high: float | None
    method: str | None = Field(
        default=None, description="wilson, wilson_t, t, hall_t, or with clusters CR1 t, …."
    )
    missing: Missing | None = Field(
        default=None, description="How cases without a score count; null where all have one."
    )
    failures: int = Field(default=0, description="Cases that the model failed: no usable answer.")
    lost: int = Field(default=0, description="Cases without a score for any other reason.")
    missing_rows: int = Field(default=0, description="Rows that the mean is not of.")
    partial_rows: int = Field(default=0, description="Rows of which some trials have no score.")
    worst_low: float | None = Field(
        default=None, description="The mean of all rows at least, whatever the missing scores are."
    )
    worst_high: float | None = Field(default=None, description="At most.")
    skewed: bool = Field(default=False, description="The mean's interval is corrected for it.")
    median: float | None = Field(default=None, description="Of skewed values, within 1%.")
    median_low: float | None = Field(default=None, description="Its 95% interval.")
    median_high: float | None = None
    labels: dict[str, ShareOut] = Field(default={}, description="Label → its share of rows.")
    trials: TrialsOut | None = Field(default=None, description="Null for one trial, and for no pass/fail.")
    clusters: ClustersOut | None = Field(default=None, description="Of a finished run with cluster_by.")
    failed: int = Field(default=0, description="Scores that failed.")
    not_applicable: int = Field(default=0, description="Cases of rows that the metric's `when` leaves out.")
    unlabelled: int = Field(default=0, description="Cases of rows whose reference is empty: not scored.")


class RunValueOut(BaseModel):
    """One score of a run as a whole."""

    value: float | None
    label: str | None = None
    ci_low: float | None = Field(description="The 95% interval; null where there is none.")
    ci_high: float | None
    stderr: float | None
    higher_is_better: bool
    reason: str | None = None
    error: str | None = Field(default=None, description="Why there is no score.")


class RunMetricOut(BaseModel):
    """A metric of the run as a whole."""

    metric: str
    values: dict[str, RunValueOut] = Field(description="By name: the metric's, or metric.score.")
    cases: int = Field(description="Cases that count.")
    rows: int = Field(description="Dataset rows that these are of.")
    lost: int = Field(default=0, description="Cases that could not be counted.")
    lost_why: str | None = None
    method: str | None = Field(default=None, description="How the intervals are made.")
    detail: dict[str, Any] = Field(
        default={}, description="kind confusion: labels, answers, matrix; kind reliability: bins."
    )


class MessageCount(BaseModel):
    """One message of an error."""

    message: str = Field(description="At most 300 characters.")
    cases: int


class StopOut(BaseModel):
    """When a run ends early: once it is known how it compares with another."""

    against: str = Field(description="The id of the run that it is compared with.")
    label: str | None = Field(description="The label that named that run, at the start.")
    metric: str
    margin: float | None = Field(description="δ: it ends also once the two are the same within it.")
    looks: int = Field(description="Waves of the cases' random order.")
    seed: int = Field(description="What that order is made of.")


class DecidedOut(BaseModel):
    """What was decided before all cases of a run were done."""

    verdict: str = Field(description="better, worse or the same within δ.")
    by: Literal["waves", "e-process"] = Field(
        description="waves: O'Brien and Fleming's boundary at the end of one; e-process: between them."
    )
    rows: int = Field(description="Dataset rows of the random order that it took.")
    of_rows: int = Field(description="Rows of the dataset.")
    missing: int = Field(
        description="How many of `rows` lack a score in one of the runs; they count against "
        "the run that is ahead."
    )
    against: str
    label: str | None
    metric: str
    margin: float | None
    estimate: float = Field(description="The mean difference over these rows; above 0 is better.")
    low: float | None = Field(description="Its interval at that look; null where the e-process decided.")
    high: float | None
    z: float | None
    boundary: float | None = Field(description="What |z| had to reach at that look.")
    e: float | None = Field(description="The e-process, of pass and fail; 100 decides.")
    went_on: bool = Field(description="Whether the other cases were done all the same, by a resume.")
    cases_done: int | None = Field(description="Cases that were done; null before they are summed up.")
    cases_saved: int | None
    usd_saved: float | None = Field(
        description="About what the other cases would have cost; null where nobody knows."
    )


class RunBrief(BaseModel):
    """A run in numbers."""

    run_id: str
    name: str = Field(description="The experiment's name.")
    status: RunStatus
    cases: int
    succeeded: int
    failed: int
    wall_s: float
    prompt_tokens: int | None = Field(description="Tokens read; null when nobody told them.")
    completion_tokens: int | None = Field(description="Tokens written; null when nobody told them.")
    cost_usd: float | None = Field(description="Dollars so far; null when a price is unknown.")
    unknown_tokens: int = Field(default=0, description="Cases whose tokens are unknown: not in the sums.")
    unknown_cost: int = Field(default=0, description="Cases whose cost is unknown: not in the dollars.")
    unpriced: int = Field(default=0, description="How many of those were answered.")
    metrics: dict[str, MetricBrief] = Field(
        description="By name; while the run goes on, over its finished shards."
    )
    run_metrics: dict[str, RunMetricOut] = Field(
        default={}, description="Metrics of the run as a whole, by name, once it is summarised."
    )
    errors: dict[str, int] = Field(description="Failed cases by the type of their first error.")
    messages: dict[str, list[MessageCount]] = Field(
        description="The most frequent messages of each type of error."
    )
    cut: int = Field(description="Answers that the model stopped at its limit of tokens.")
    finish_reasons: dict[str, int] = Field(
        default={}, description="Answers by why the model stopped; beyond 20 different reasons, `other`."
    )
    filtered: int = Field(default=0, description="Answers that a filter held back, wholly or in part.")
    simulated_user: dict[str, Any] = Field(
        default={},
        description="What the simulated users of conversations used: calls, prompt_tokens, "
        "completion_tokens, cost_usd, …. Their dollars are in cost_usd, their tokens are not in the model's.",
    )
    tags: list[str]
    created_at: str = Field(description="ISO 8601, UTC.")
    started_at: str | None = Field(description="When the newest pass began.")
    finished_at: str | None
    generation: int = Field(description="How often it was resumed.")
    error: str | None = Field(description="Why the run itself failed (not its cases).")
    cached: int = Field(default=0, description="Cases that were answered from the cache.")
    max_cost_usd: float | None = Field(
        default=None, description="Dollars that its calls may cost, over all passes; null for no bound."
    )
    limited_by: str | None = Field(
        default=None, description="What held the run back, in words; of runs on one machine."
    )
    unreadable: str | None = Field(
        default=None,
        description="Why the run's record cannot be read in full; then what is missing has its default.",
    )
    warnings: list[str] = Field(
        default=[],
        description="What was probably not meant in the experiment, as said before the first call.",
    )
    archived: bool = Field(description="Whether lists leave it out.")
    labels: list[str] = Field(default=[], description="Labels that point at it, such as production.")
    commit: str | None = Field(default=None, description="The commit that it was made at.")
    sweep: str | None = Field(default=None, description="The sweep that it is a cell of.")
    stop: StopOut | None = Field(default=None, description="When it ends early; null: with its last case.")
    decided: DecidedOut | None = Field(
        default=None, description="What was decided before all cases were done; null while nothing is."
    )
    title: str = Field(default="", description="What people call it; empty: as its experiment.")
    description: str = Field(default="", description="What people say of it.")
    started_by: str = Field(
        default="",
        description="Who started it, such as person:ada@example.com or token:5d1c; empty: nobody knows.",
    )


class RunOut(RunBrief):
    """A run."""

    done: int = Field(description="Cases whose call has ended.")
    configuration: dict[str, Any] = Field(
        description="The exact experiment: versions, hashes, parameters, prices. No keys."
    )
    summary: dict[str, Any] | None = Field(
        description=(
            "The whole aggregate with distributions; of a run that is not summarized, that of its "
            "finished shards. "
            "Null if the store is damaged, so that they cannot be summed."
        )
    )
    summarized: bool = Field(description="Whether that is the end of it, with a results file.")


class DeliveryOut(BaseModel):
    """One attempt to tell the end of a run."""

    at: str
    attempt: int
    status: int | None = Field(description="The status of the answer; null where there was none.")
    error: str | None


class WebhookOut(BaseModel):
    """Where the end of a run is told, and what became of it."""

    url: str = Field(description="Its host only for viewers, labellers and links: the rest may be a key.")
    secret: str | None = Field(
        default=None, description="The key of the signature: in the answer that starts the run only."
    )
    deliveries: list[DeliveryOut]


class RunWithWebhook(RunOut):
    """A run, with its webhook."""

    webhook: WebhookOut | None = Field(default=None, description="Null where the run has none.")


class RunPage(BaseModel):
    """Runs, newest first."""

    items: list[RunOut | RunBrief]
    next_cursor: str | None = Field(
        description="Go on with ?cursor=…; null at the end. With a filter a page may hold fewer runs than "
        "asked for, or none."
    )


class CutText(BaseModel):
    """A text of an item that is too long for a list: the item has its beginning."""

    item: int = Field(description="The item's place in `items`, from 0.")
    path: list[str | int] = Field(
        description="Where in the item: names of fields and places of lists. Empty: the item lacks fields "
        "with very long names."
    )
    characters: int | None = Field(
        description="Characters of the whole text; null for what is no text: the item has null in its place."
    )
    url: str | None = Field(description="Where the whole item is: GET it, and follow a redirect.")


_CUT: Any = Field(
    default=[],
    description="What of the items was cut: those of more than 1 MB have the beginnings of their long texts.",
)


class CasePage(BaseModel):
    """Rows of the results table, by case and trial."""

    items: list[dict[str, Any]] = Field(
        description="case, trial, id, input.<column>, response, error_type, error_message, tokens, "
        "latency_ms, cost_usd, score.<metric>, …"
    )
    cut: list[CutText] = _CUT
    next_cursor: str | None = Field(description="Go on with ?cursor=…; null at the end.")


class MetricComparisonOut(BaseModel):
    """One metric of the base and one other run, over the dataset rows that both have a value for."""

    n: int = Field(description="Dataset rows with a value in both.")
    missing_base: int = Field(description="Rows without a value in the base.")
    missing_other: int
    higher_is_better: bool
    base_mean: float | None
    other_mean: float | None
    difference: float | None = Field(description="other − base.")
    stderr: float | None = Field(description="Of the difference; null below two rows.")
    ci_low: float | None = Field(description="The 95% interval of the difference, of this metric alone.")
    ci_high: float | None
    method: str | None = Field(description="How the interval is made: tango, bp_t or t.")
    p: float | None = Field(description="Two-sided p of no difference; of pass/fail McNemar's mid-p.")
    p_exact: float | None = Field(description="McNemar's exact p, of pass/fail only.")
    p_adjusted: float | None = Field(description="Holm's, over all metrics and runs of the comparison.")
    wins: int = Field(description="Dataset rows in which the other run is better.")
    losses: int
    ties: int
    verdict: Verdict | None = Field(description="The verdict; null of a metric that only measures.")
    margin: float | None = Field(description="The δ of the verdict.")
    minimum_detectable: float | None = Field(
        description="The smallest difference that so many rows show with 80% power."
    )
    rows_needed: int | None = Field(description="Rows that show a difference of δ with 80% power.")
    worst_low: float | None = Field(
        description="The least difference, whatever the missing scores are; null where none are missing."
    )
    worst_high: float | None
    improved: int = Field(description="Cases that change=improved selects.")
    regressed: int
    same: int
    different: int = Field(
        description="Cases that are not tied: won, lost, another label, scored in one only."
    )
    fact: bool = Field(description="It only measures: no case is better or worse by it.")
    not_comparable: str | None = Field(description="Why the runs' values are not of the same metric.")


class RunComparisonOut(BaseModel):
    """One score of the base run as a whole, and the other's."""

    higher_is_better: bool
    base_value: float | None
    other_value: float | None
    difference: float | None = Field(description="other − base.")
    ci_low: float | None = Field(description="The 95% interval of the difference, by a paired bootstrap.")
    ci_high: float | None
    stderr: float | None
    p: float | None = Field(
        default=None,
        description="Two-sided, of no difference, by the same bootstrap; null without an interval.",
    )
    p_adjusted: float | None = Field(
        default=None, description="Holm's, over all metrics, scores of the whole run and runs."
    )
    margin: float | None = Field(default=None, description="The δ of the verdict; null for none.")
    verdict: str | None = Field(
        description="better, worse, the same within δ, not worse by more than δ, or no evidence of a "
        "difference; null without an interval."
    )
    why: str | None = Field(description="Why there is no interval.")
    not_comparable: str | None = Field(description="Why the two values are not of the same metric.")


class ComparedWith(BaseModel):
    """One other run against the base."""

    run_id: str
    joined_on: str = Field(
        description="case: the runs are of the same rows; id: of two versions, joined by id."
    )
    only_base: int = Field(description="Cases that only the base has.")
    only_other: int
    metrics: dict[str, MetricComparisonOut]
    run_metrics: dict[str, RunComparisonOut] = Field(
        default={}, description="Scores of the runs as a whole that both have, by name."
    )


class CompareOut(BaseModel):
    """A comparison: the metrics over all cases, and one page of the pairs."""

    base: str = Field(description="The base run's id.")
    others: list[ComparedWith]
    notes: list[str] = Field(
        default=[], description="What has to be known of the runs: those that ended early, decided."
    )
    total: int = Field(description="Cases that all runs have.")
    counts: dict[str, int] = Field(description="Cases by change: all, different, regressed, improved, same.")
    total_matching: int = Field(description="Pairs that the filter lets through.")
    offset: int
    limit: int
    items: list[dict[str, Any]] = Field(
        description="Pairs: case, trial, id, inputs, base, others (answers and scores), changes (by metric)."
    )
    cut: list[CutText] = Field(
        default=[],
        description="What of the pairs was cut beyond `text_chars`: those of more than 1 MB. The address is "
        "that of the base's case.",
    )
    next_offset: int | None = Field(description="Go on with ?offset=…; null at the end.")


class AssetOut(BaseModel):
    """One version of an asset."""

    kind: str
    name: str
    version: int
    description: str
    content: dict[str, Any] = Field(
        description="A prompt's text; a dataset's columns and how many rows it has; the files, packages, "
        "classes and functions of code."
    )
    hash: str = Field(description="SHA-256 (hex) of the content.")
    created_at: str
    labels: list[str]
    cut: list[CutText] = Field(
        default=[], description="In the answer to a change: what of the version is too long for it."
    )


class AssetPage(BaseModel):
    """The latest version of every asset, by name."""

    items: list[AssetOut]
    cut: list[CutText] = _CUT
    next_cursor: str | None


class AssetVersions(BaseModel):
    """Every version of one asset, oldest first."""

    name: str
    versions: list[AssetOut]
    cut: list[CutText] = _CUT
    next_cursor: str | None = Field(default=None, description="Go on with ?cursor=…; null at the end.")


class SandboxOut(BaseModel):
    """What code of one's own finds in this lab."""

    refusal: str | None = Field(description="Why the caller can send no code; null where code is taken.")
    python: str = Field(description="The Python that runs it.", examples=["3.13"])
    machine: str = Field(description="The processor that wheels must be for: x86_64 or arm64.")
    modules: dict[str, str] = Field(description="Packages that are there, by the name that is imported.")
    packages: dict[str, str] = Field(description="The same by the name that is installed.")


class SourceOut(BaseModel):
    """The source text of a version of code."""

    name: str
    version: int
    hash: str
    files: dict[str, str] = Field(description="Text by path.")


class RowPage(BaseModel):
    """Rows of a dataset."""

    items: list[dict[str, Any]]
    cut: list[CutText] = _CUT
    offset: int
    total: int


class UploadOut(BaseModel):
    """An address for a file: send its bytes there with this method and these headers, then POST
    /datasets with the key."""

    upload_url: str
    method: str = Field(examples=["PUT"])
    headers: dict[str, str]
    key: str


class JobOut(BaseModel):
    """A job: work that takes longer than a request may."""

    id: str
    kind: str = Field(description="ingest or export.")
    status: Literal["queued", "running", "done", "failed", "cancelled", "interrupted"] = Field(
        description="interrupted: its worker died. That, failed and cancelled ones can be tried again."
    )
    stage: str = Field(description="What it does just now, in words.")
    done: int = Field(description="Rows read (ingest), or bytes written (export), so far.")
    total: int | None = Field(description="Of how many, once that is known.")
    attempts: int
    error: dict[str, Any] | None = Field(description="Why it failed, as problem details.")
    created_at: str
    started_at: str | None
    finished_at: str | None
    result: dict[str, Any] = Field(
        description="What it made: `name`, `version` and `rows` of a dataset; `file_name` and `size_bytes`."
    )
    file: str | None = Field(description="Where its file is: GET it, and follow a redirect.")


class MetricOut(BaseModel):
    """A metric, built in or of an installed package."""

    name: str
    aliases: list[str]
    description: str
    inputs: dict[str, str | None] = Field(description="Input → its default mapping; null: it must be mapped.")
    params: dict[str, dict[str, Any]] = Field(description="Parameter → JSON Schema of its value.")
    required: list[str]
    value_range: tuple[float | None, float | None]
    higher_is_better: bool
    needs_embedding: bool
    needs_judge: bool = Field(description="Whether it asks models of its own: those of `judge`.")
    of_run: bool = Field(description="Whether it scores the run as a whole, and not each case.")
    any_inputs: bool = Field(description="Whether further inputs may be mapped, under any names.")
    scores: list[str] = Field(
        default_factory=list,
        description="The names of its scores, where it gives several: each is a metric, NAME.score.",
    )
    extra: str | None


class ProviderOut(BaseModel):
    """A provider of models."""

    name: str = Field(description="The part of a model's name before the slash.")
    key_variable: str | None = Field(description="The environment variable that holds the key by default.")
    endpoint: str | None = Field(description="Where it is by default.")


class PreviewRow(BaseModel):
    """One row, rendered."""

    row: dict[str, Any]
    messages: list[dict[str, str]] | None
    error: str | None


class SqlColumn(BaseModel):
    """A column of an answer."""

    name: str
    type: str = Field(description="DuckDB's type.")


class SqlOut(BaseModel):
    """The rows that a question in SQL gave."""

    columns: list[SqlColumn]
    rows: list[list[Any]] = Field(
        description="JSON values in the order of `columns`. Dates, decimals and the like are texts; lists "
        "and structs are JSON's text."
    )
    more: bool = Field(description="Whether rows were left out: 1,000 are given at most.")


class PreviewOut(BaseModel):
    """The first rows, as the model would see them."""

    placeholders: list[str]
    columns: list[str]
    errors: list[str] = Field(description="Why no run could begin with these: placeholders without a column.")
    warnings: list[str] = Field(description="What is probably not meant, and keeps no run from beginning.")
    rows: list[PreviewRow]
    cut: list[CutText] = Field(
        default=[],
        description="What of the rows was cut: send the same with `whole` and `limit` 1 to have a row whole.",
    )


SAID = ("title", "description", "started_by")
"""What people say of a run, and who started it."""


def run_brief(run: RunRecord, progress: Progress | None, partial: Summary | None = None) -> dict[str, Any]:
    """A run in numbers; `partial` is the summary of the finished shards of one that goes on."""
    more = ("name", "created_at", "started_at", "finished_at", "generation", "error", "archived", *SAID)
    return {
        **brief(run, progress, partial),
        **{field: getattr(run, field) for field in more},
        "tags": list(run.tags),
    }


async def run_object(lab: StoreLab, run: RunRecord) -> dict[str, Any]:
    """A run as `GET /runs/{id}` has it."""
    progress, partial = await lab.so_far(run)
    summary = partial.to_json() if partial else run.summary
    more = {
        "done": progress.done if progress else (run.summary or {}).get("cases", run.cases),
        "configuration": dict(run.experiment),
        "summary": summary,
        "summarized": bool(run.summary),
    }
    return {**run_brief(run, progress, partial), **more}


def asset_object(asset: AssetVersion) -> dict[str, Any]:
    """A version as the API has it."""
    return {**asdict(asset), "content": dict(asset.content), "labels": list(asset.labels)}
