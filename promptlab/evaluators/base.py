"""The base class of evaluators, and how their answers become scores."""

from __future__ import annotations

import copy
import math
from collections.abc import Awaitable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from promptlab.deprecated import PAGE
from promptlab.domain.results import Failure, Score, Usage
from promptlab.domain.texts import cut

MAX_VALUE = 1e150
"""Squares of larger numbers overflow, and with them every variance."""

MAX_LABEL = 500
MAX_REASON = 20_000
"""Characters of a label and of a reason that are kept; a note says how long a longer one was."""
MAX_JUDGED = 2_000
"""Characters of what was judged that are kept beside the score."""
MAX_METADATA = 100_000
"""Bytes of a score's metadata, as JSON."""

_GONE = {
    "completion": "give the evaluator a model of its own, self.model = get_model('provider/model') in "
    "__init__, "
    "and await self.model.ainvoke(system_prompt, user_prompt) in an async evaluate",
    "embedding": "set needs_embedding = True in the class, and await self.embedding_model.aembed([text]) "
    "in an "
    "async evaluate",
}
"""The attributes that promptlab 0.1 gave every evaluator, and what to write instead."""

Returned = float | int | bool | str | Score | Mapping[str, Any] | Sequence[Any]


class Evaluator:
    """Scores one case. Subclass it and write `evaluate`, sync or async.

    Sync evaluators run in threads or, given by name or found to compute for long, in processes (`isolated` of
    the metric); async ones run concurrently on an event loop. Each evaluation has a time limit (`timeout_s`
    of its metric). One object serves all cases of a run, or one in each process.
    """

    higher_is_better: bool | Mapping[str, bool] = True
    """Whether a higher value is a better one; by name where there are several scores."""
    inputs: Mapping[str, str | None] = {}
    """The inputs that `evaluate` reads from `data`: input → its default mapping ("$inference", a
    column, …), or None when the user must map it. May depend on the parameters, so read it from the
    object, not from its class."""
    scores: Sequence[str] = ()
    """The names of the scores that `evaluate` gives, where there are several: each is then a metric of its
    own, `<metric>.<name>`, with a mean and an interval. Without names the first score counts."""
    decides: ClassVar[bool] = False
    """Whether every score of it passes or fails: an answer in which nothing is found to judge then fails."""
    needs_embedding: ClassVar[bool] = False
    """Whether it is to be given the experiment's embedding model, as `embedding_model`."""
    embedding_model: Any = None
    """The experiment's embedding model, where `needs_embedding`."""
    needs_judge: ClassVar[bool] = False
    """Whether it asks models of its own, which its metric names in `judge`."""
    runs_code: ClassVar[bool] = False
    """Whether it runs code of answers, elsewhere and for as long as that takes."""
    any_inputs: ClassVar[bool] = False
    """Whether it takes inputs beyond `inputs`, under whatever names its column_mapping has."""
    renamed_inputs: ClassVar[Mapping[str, str]] = {}
    """Further names of inputs, as other libraries have them → ours."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in _GONE:
                raise AttributeError(f"self.{name} is of promptlab 0.1: {_GONE[name]} ({PAGE})")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def with_models(self, models: Mapping[str, Any]) -> Evaluator:
        """Make a copy that has its models, by role (`embedding`); this object stays as it is."""
        bound = copy.copy(self)
        bound.embedding_model = models.get("embedding")
        return bound

    def evaluate(self, data: dict[str, Any]) -> Returned | Awaitable[Returned]:
        """Score one case.

        Args:
            data: input → value, as the column_mapping says.

        Returns:
            A number, a bool (passed or not), a string (a label, or a number written out), or a `Score`;
            also another library's score, a dict such as {"score": 0.5, "comment": "…"}, or several of
            them, of which the first counts.

        Raises:
            AssertionError: the case does not pass; the message is the reason.
            Exception: anything else: it becomes a failed score of this case, and the run goes on.
        """
        raise TypeError(f"{type(self).__name__} has no evaluate(self, data)")


def to_score(verdict: Any) -> Score:
    """Turn what an evaluator returned into a `Score` that every store can hold.

    Raises:
        TypeError: it is none of a number, a bool, a string or a score.
        ValueError: it is a number that is not finite, or larger than MAX_VALUE; or a score without any value.
    """
    if hasattr(verdict, "item") and getattr(verdict, "shape", None) == ():
        verdict = verdict.item()  # a NumPy scalar
    if isinstance(verdict, Score):
        return _checked(verdict)
    if isinstance(verdict, bool):
        return Score(passed=verdict)
    if isinstance(verdict, int | float):
        return _checked(Score(value=verdict))
    if isinstance(verdict, str):
        number = _number(verdict)
        return _checked(Score(value=number) if number is not None else Score(label=verdict))
    from promptlab.evaluators.foreign import score_of

    return _checked(score_of(verdict))


def _checked(score: Score) -> Score:
    value = None if score.value is None else float(score.value)
    if value is not None and not abs(value) <= MAX_VALUE:
        raise ValueError(f"a score must be a finite number of at most {MAX_VALUE:g}, not {value}")
    return Score(
        value=value,
        passed=None if score.passed is None else bool(score.passed),
        label=None if score.label is None else cut(str(score.label), MAX_LABEL),
        reason=None if score.reason is None else cut(str(score.reason), MAX_REASON),
        metadata=_metadata(score.metadata),
        error=_error(score.error),
        usage=score.usage if isinstance(score.usage, Usage) else None,
        judged=None if score.judged is None else cut(str(score.judged), MAX_JUDGED),
    )


def _metadata(given: Any) -> Mapping[str, Any]:
    if not given:
        return {}
    kept = dict(islice(given.items(), MAX_METADATA)) if isinstance(given, Mapping) else {"metadata": given}
    data = orjson.dumps(kept, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    if len(data) > MAX_METADATA:
        return {"left_out": f"metadata of {len(data):,} bytes; at most {MAX_METADATA:,} are kept"}
    found: dict[str, Any] = orjson.loads(data)
    return found


def _error(given: Any) -> Failure | None:
    if given is None or isinstance(given, Failure):
        return given and Failure(cut(str(given.type), MAX_LABEL), cut(str(given.message), MAX_REASON))
    return Failure("evaluator_error", cut(str(given), MAX_REASON))


def plain_verdict(verdict: Any) -> bool:
    """Whether a verdict can be read without running code of a user's own classes."""
    if type(verdict) is not Score:
        return type(verdict) in (bool, int, float, str)
    return (
        all(
            type(value) in (bool, int, float, str, type(None))
            for value in (
                verdict.value,
                verdict.passed,
                verdict.label,
                verdict.reason,
                verdict.error,
                verdict.judged,
            )
        )
        and type(verdict.metadata) is dict
        and type(verdict.usage) in (Usage, type(None))
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
