"""The records that a run produces: completions, scores, shard summaries, runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from promptlab.domain.masking import hide_text
from promptlab.domain.messages import Message, Text, answer_text, read_messages
from promptlab.domain.spending import Spending, Sums, counts_of, spent, summed
from promptlab.domain.texts import storable
from promptlab.domain.trace import Trace
from promptlab.errors import ModelError

RunStatus = Literal[
    "running", "completed", "decided", "failed", "stopped", "budget_reached", "interrupted", "cancelled"
]
FINAL: frozenset[str] = frozenset(get_args(RunStatus)) - {"running"}
"""Statuses of runs that nobody works on."""
DONE: frozenset[str] = frozenset({"completed", "decided"})
"""Statuses of runs that came to their end: all cases were done, or it was known before how they compare."""
HALTED: frozenset[str] = FINAL - {"completed", "failed"}
"""Statuses of runs that ended before all of their cases were done: no step of theirs does anything more."""


CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"})
"""Finish reasons, as providers put them, of answers that end where the tokens did."""


FILTERED = frozenset(
    {"content_filter", "content_filtered", "guardrail_intervened", "refusal", "safety", "prohibited_content"}
)
"""Finish reasons of answers that a provider's filter, or the model itself, held back."""


MODELS_DOING = frozenset({"content_filter", "refusal", "invalid_answer", "empty_answer"}) | CUT
"""Types of failed cases' errors that are the model's doing: it refused, or gave no usable answer. All others
(connections, timeouts, limits) say nothing of the model."""


def described(error: BaseException) -> str:
    """An error's class and message, also of one whose message cannot be shown."""
    try:
        said = str(error)
    except BaseException as broken:  # noqa: BLE001 - a user's own class may raise anything
        said = f"(its message cannot be shown: {type(broken).__name__})"
    # The bound before is for time only: what it may leave of a key is hidden as a part of one.
    words = f"{_class_of(error)}: {said}" if said else _class_of(error)
    return storable(hide_text(words[:20_000])[:2000])


def _class_of(error: BaseException) -> str:
    """Name an error's class; of a model's error that stands for what the model's code raised, that one's."""
    if isinstance(error, ModelError) and error.type == type(error.__cause__).__name__:
        return error.type
    return type(error).__name__


def without_class(words: str, error: BaseException) -> str:
    """Take the class out of what `described` says, where it is to stand beside: as a failure's type."""
    return words.removeprefix(_class_of(error)).removeprefix(":").strip() or "(no message)"


class CaseKey(NamedTuple):
    """The key of a case: a dataset row (0-based) and a trial (0-based)."""

    case: int
    trial: int


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason of a failure, as recorded data."""

    type: str
    """A short, stable name (`rate_limit`, `timeout`, …, or an exception's class name)."""
    message: str

    @property
    def is_models_doing(self) -> bool:
        """Whether the model refused or gave no usable answer, and nothing else was in the way."""
        return self.type in MODELS_DOING


MAX_SAID = 500
"""Characters of what came back that an attempt keeps."""
MAX_TRIES = 20
"""Attempts that a case keeps: the first and the last ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One call that was made for a case, and what came of it."""

    number: int
    """1 for the first call of the pass, 2, …"""
    started_at: str
    """ISO 8601, UTC."""
    duration_ms: float
    status: int | None = None
    """The HTTP status, where a failed call had one."""
    type: str | None = None
    """As in `Failure`; None for an answer."""
    said: str = ""
    """The first MAX_SAID characters of what came back, without keys; the error's own words where nothing
    did. Empty for an answer, which the case has."""
    request_id: str | None = None
    """The provider's own name for the call."""
    prompt_tokens: int | None = None
    """Tokens read, where the provider says; those of a failed call were billed all the same."""
    completion_tokens: int | None = None
    """Tokens written, likewise."""
    cost_usd: float | None = None
    """Dollars; None where nobody knows what the call cost, or whether it did."""


@dataclass(slots=True)
class ModelResponse:
    """The answer of a model to one call: a text, or messages."""

    response: str = ""
    """The text; of messages that of the last one of the assistant, unless it is given."""
    prompt_tokens: int | None = None
    """Tokens read, or None where the provider does not say."""
    completion_tokens: int | None = None
    """Tokens written, or None where the provider does not say."""
    latency_ms: float | None = None
    """Milliseconds from the request to the whole answer; measured by the engine when None."""
    cost_usd: float | None = None
    """Dollars, where the provider or a custom model says; else computed from the price table."""
    finish_reason: str | None = None
    """The reason why the model stopped: stop, length, content_filter, tool_calls, …
    as the provider puts it."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Anything else worth keeping, JSON (the model version that answered, …)."""
    messages: Sequence[Message] = ()
    """What was said, at least one message: made of `response` where none is given. Objects in the form of
    OpenTelemetry or OpenAI are read, too."""
    cached_tokens: int | None = None
    """How many of `prompt_tokens` were read from the provider's cache; None where it does not say."""
    cache_write_tokens: int | None = None
    """How many of `prompt_tokens` were written to the provider's cache; None where it does not say."""
    reasoning_tokens: int | None = None
    """How many of `completion_tokens` were thought and not said; None where the provider does not say."""
    trace: Trace | None = None
    """What happened beside the messages: of agents and conversations."""

    def __post_init__(self) -> None:
        if not self.messages:
            self.messages = (Message("assistant", (Text(self.response),), self.finish_reason),)
            return
        if any(type(message) is not Message for message in self.messages):
            self.messages = read_messages(self.messages)
        if self.response == "":
            self.response = answer_text(self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The model's answer for one case, or why there is none."""

    shard: int
    case: int
    trial: int
    generation: int = 0
    """0 for the first pass over the run, one more for each resume."""
    response: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float | None = None
    cost_usd: float | None = None
    """Dollars; None when the model's price is unknown."""
    attempts: int = 1
    """Calls made for this case, retries included."""
    tries: tuple[Attempt, ...] = ()
    """These calls, the first and the last MAX_TRIES / 2 where there were more; none of a case that was
    answered at the first."""
    finish_reason: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error: Failure | None = None
    cached: bool = False
    """Whether it is the answer to an equal request of before: no call was made, and it cost nothing."""
    created_at: str = ""
    """ISO 8601, UTC."""
    messages: tuple[Message, ...] = ()
    """All that was said, where that is more than the one text in `response`: tool calls and their results,
    reasoning, media, several messages."""
    cached_tokens: int | None = None
    """How many of `prompt_tokens` the provider read from its cache; None where it does not say."""
    cache_write_tokens: int | None = None
    """How many of `prompt_tokens` it wrote to its cache, likewise."""
    reasoning_tokens: int | None = None
    """How many of `completion_tokens` were thought and not said, likewise."""
    trace: Trace | None = None
    """What was retrieved, the spans and the turns; None where there are none."""

    @property
    def key(self) -> CaseKey:
        return CaseKey(self.case, self.trial)

    @property
    def was_cut(self) -> bool:
        """Whether the model stopped because its tokens were used up."""
        return (self.finish_reason or "").lower() in CUT

    @property
    def spent(self) -> Sums:
        """The usage of the case."""
        return spent(self.prompt_tokens, self.completion_tokens, self.cost_usd, failed=self.error is not None)


@dataclass(slots=True)
class Usage:
    """Tokens, calls and dollars that model calls used."""

    calls: int = 0
    prompt_tokens: int | None = 0
    """Tokens read, of the calls whose tokens are known; None when nothing is known."""
    completion_tokens: int | None = 0
    """Tokens written, likewise."""
    cost_usd: float | None = 0.0
    """Dollars; None when the price of a call is unknown."""
    unknown_tokens: int = 0
    """Calls whose tokens are unknown."""
    unknown_cost: int = 0
    """Calls whose cost is unknown."""
    unpriced: int = 0
    """How many of them were answered."""

    def add(self, other: Usage) -> None:
        """Add all that `other` has counted."""
        self.add_calls(other.calls, other)

    def add_calls(self, calls: int, used: Spending) -> None:
        """Add what so many calls used."""
        self.calls += calls
        for name, value in summed(self, used).items():
            setattr(self, name, value)

    def to_json(self) -> dict[str, Any]:
        sums = {name: getattr(self, name) for name in ("prompt_tokens", "completion_tokens", "cost_usd")}
        return {"calls": self.calls, **sums, **counts_of(self)}


@dataclass(frozen=True, slots=True)
class Score:
    """One metric's result for one case: a value, a label or pass/fail, with a reason, or its error."""

    value: float | None = None
    """A number. For pass/fail: 1.0 or 0.0."""
    label: str | None = None
    """A category, for metrics that do not measure but sort."""
    passed: bool | None = None
    """Whether it is good enough, for metrics that decide."""
    reason: str | None = None
    """The reason, in words."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error: Failure | None = None
    usage: Usage | None = None
    """The usage of the metric's own calls to models (a judge, embeddings); None where it made none."""
    judged: str | None = None
    """What of the answer was judged, where that is a part of it: the letter of a choice, a number."""

    def __post_init__(self) -> None:
        if self.value is None and self.passed is not None:
            object.__setattr__(self, "value", 1.0 if self.passed else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSet:
    """All scores of one case."""

    shard: int
    case: int
    trial: int
    generation: int = 0
    """The pass in which it was scored."""
    scores: Mapping[str, Score]
    """Per metric name."""

    @property
    def key(self) -> CaseKey:
        return CaseKey(self.case, self.trial)

    @property
    def error(self) -> Failure | None:
        """The first failed score's error, or None."""
        return next((s.error for s in self.scores.values() if s.error), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batched:
    """How far the batches of a run are at its provider."""

    batches: int
    """Batches of the run so far."""
    open: int
    """Those of them whose results are not collected yet."""
    cases: int
    """Cases in the open ones."""
    done: int = 0
    """Cases of the open ones that the provider has worked on, as far as it says."""
    failed: int = 0
    """Those of them that failed."""
    since: str | None = None
    """When the oldest open one was submitted, ISO 8601, UTC; None before that."""

    @property
    def words(self) -> str:
        """`waiting for 2 batches: 120 of 1,000 answered there, submitted 2026-11-26 10:32 UTC`."""
        many = "1 batch" if self.open == 1 else f"{self.open:,} batches"
        if self.since is None:
            return f"submitting {many} of {self.cases:,} cases"
        failed = f", {self.failed:,} failed" if self.failed else ""
        at = f"{self.since[:10]} {self.since[11:16]} UTC"
        return f"waiting for {many}: {self.done:,} of {self.cases:,} answered there{failed}, submitted {at}"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Batched:
        """Read it from the run's record."""
        numbers = {name: int(value.get(name) or 0) for name in ("batches", "open", "cases", "done", "failed")}
        return cls(**numbers, since=value.get("since"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is. Counts are cases; a case counts once its call has ended."""

    total: int
    done: int = 0
    failed: int = 0
    prompt_tokens: int | None = 0
    """Tokens read, of the cases whose tokens are known; None when nothing is known."""
    completion_tokens: int | None = 0
    """Tokens written, likewise."""
    cost_usd: float | None = 0.0
    """Dollars so far; None when a price is unknown."""
    unknown_tokens: int = 0
    """Cases whose tokens are unknown: nobody told them."""
    unknown_cost: int = 0
    """Cases whose cost is unknown: an answer without a price, or a failed call that
    may have been paid for."""
    unpriced: int = 0
    """How many of `unknown_cost` were answered."""
    scored: int | None = None
    """Answered cases that are scored; None where nobody counts, or there are no metrics. Told of a run in
    this process."""
    waiting: str | None = None
    """Why no call is made now, in words: nothing answers. Told of a run in this process."""
    batched: Batched | None = None
    """How far the provider's batches are, of a run in batch mode that waits for some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSummary:
    """The aggregate of one finished shard. Written whole, once per pass; runs are summed from these."""

    number: int
    generation: int
    """The pass in which it was written."""
    summary: Mapping[str, Any]
    """A `Summary`, as JSON."""
    part: str
    """Key of the blob with the shard's rows, gzipped JSON lines."""
    largest_row_bytes: int = 0
    """The longest line of the part."""
    partial: bool = False
    """Whether cases or scores are missing: the budget was reached before them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One execution of an experiment, as the ledger keeps it."""

    run_id: str
    name: str
    """The experiment's name."""
    status: RunStatus
    experiment: Mapping[str, Any]
    """The resolved `Experiment`, as JSON: hashes, versions, parameters, prices. No keys."""
    cases: int
    """How many cases the run has."""
    created_at: str
    """ISO 8601, UTC."""
    started_at: str | None = None
    """When the newest pass began."""
    finished_at: str | None = None
    generation: int = 0
    """How often it was resumed."""
    redo_before: int = 0
    """Failures recorded in a generation lower than this are done again."""
    redo_errors: tuple[str, ...] = ()
    """The types of the failures that are done again; all where none is named."""
    outage: Mapping[str, Any] | None = None
    """While nothing answers: `since` (ISO 8601, UTC), `words`, `ask_at` (seconds since 1970), `pause_s`."""
    proven: int = -1
    """The newest pass of which a call was answered; kept in the cloud only, where several workers begin."""
    failed_before: int = 0
    """The failed cases when the newest pass began; counted where `max_failures` bounds those of a pass."""
    beat_at: str | None = None
    """When a worker was last seen at work on it, ISO 8601, UTC; kept in the cloud only."""
    wall_s: float = 0.0
    """Seconds of work over all passes."""
    summary: Mapping[str, Any] | None = None
    """A `Summary`, as JSON, once summarized."""
    error: str | None = None
    """The reason why the run itself failed (not its cases)."""
    limited_by: str | None = None
    """What held its newest pass back, in words; None where too little was measured, and of runs in the
    cloud."""
    tags: tuple[str, ...] = ()
    manifest: str | None = None
    """Key of the manifest, once planned."""
    results: str | None = None
    """Key of results.parquet, once summarized."""
    score_before: int = 0
    """Shards that were finished in an earlier pass are scored again: metrics were added or replaced."""
    cache_days: float | None = None
    """For how many days its answers are kept for equal requests; None: not, unless its model says so."""
    max_cost_usd: float | None = None
    """The dollars that its calls may cost, over all passes; None: as many as they do."""
    archived: bool = False
    """Left out of lists, unless they ask for it."""
    deleting_since: str | None = None
    """When its deletion began, ISO 8601, UTC: it is in no list, and only the rest of it is removed."""
    unreadable: str | None = None
    """The reason why the record cannot be read in full; found while reading, null in every store. What could
    not be read has its default."""
    labels: tuple[str, ...] = ()
    """Labels that point at it, such as production; found while reading (`run_labels`), none in any store."""
    commit: str | None = None
    """The commit of the code that it was made at."""
    title: str = ""
    """What people call it; empty: as its experiment is called."""
    description: str = ""
    """What people say of it, up to 2,000 characters."""
    started_by: str = ""
    """Who started it: `user:NAME` on a laptop; `person:ADDRESS`, `token:ID` or `admin-token` in a hosted lab;
    empty: nobody knows."""
    gates: Mapping[str, Any] | None = None
    """What it must keep to (`promptlab.gates.Gates`, as JSON); None: nobody said."""
    sweep: str | None = None
    """The id of the sweep that it is a cell of; its `max_cost_usd` is then that of all its runs together."""
    stop: Mapping[str, Any] | None = None
    """When it may end early (`domain.stopping.StopRule`, as JSON); None: only with its last case."""
    reach: Mapping[str, Any] | None = None
    """Of a run that may end early: the cases that may be done by now (`domain.stopping.Reach`, as JSON)."""
    decided: Mapping[str, Any] | None = None
    """What was decided before all cases were done: `verdict`, `by`, `n` (rows that it took), `total`,
    `missing`, `estimate`, `low`, `high`, `z`, `boundary`, `e`; and `went_on`, the pass that did the other
    cases all the same."""

    @property
    def called(self) -> str:
        """What lists call it: its title, or else its experiment's name."""
        return self.title or self.name

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it, unless it is resumed."""
        return self.status in FINAL

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about what was probably not meant in the experiment, as said before the first call."""
        return tuple(self.experiment.get("warnings", ()))


def waits_for(run: RunRecord) -> str | None:
    """Say why no call of a run is made now; None while calls are made."""
    if run.status in FINAL or run.outage is None:
        return None
    return f"waiting: {run.outage.get('words', '')}"
