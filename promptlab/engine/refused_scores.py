"""Evaluations whose judge or embedding model refuses every call: a run stops for them as for its own."""

from __future__ import annotations

from collections.abc import Callable

from promptlab.domain.results import Score
from promptlab.domain.summary import SCORE_REFUSED
from promptlab.engine.halting import Halt, Refusals, refused
from promptlab.engine.limits import models_of
from promptlab.errors import ConfigError, ModelError
from promptlab.evaluators.base import Evaluator
from promptlab.evaluators.outcomes import REFUSED
from promptlab.models.failures import Hopeless, hopeless


class RefusedScores:
    """Counts, for each model or group of models that metrics ask, the evaluations that it refused one after
    another, and halts the run once all further ones would be refused, too."""

    def __init__(
        self, halt: Callable[[Halt], None], *, by_request: bool, on_proven: Callable[[], None] = lambda: None
    ) -> None:
        """Watch the evaluations of a pass.

        Args:
            halt: ends the run.
            by_request: whether refusals of requests count, if they are the first and all say the same.
            on_proven: called when a model of a metric has answered for the first time.
        """
        self._halt, self._by_request, self._on_proven = halt, by_request, on_proven
        self._of: dict[tuple[str, ...], tuple[str, Refusals]] = {}
        self.is_proven = False
        """Whether a model of a metric answered in this pass."""

    def scored(self, metric: str, evaluator: Evaluator, score: Score, error: BaseException | None) -> None:
        """Take note of an evaluation.

        Args:
            metric: its metric's name.
            evaluator: what made it.
            score: its score.
            error: what it raised, where that is known: an evaluation in another process tells its score only.
        """
        is_refused = score.error is not None and (
            score.error.type == SCORE_REFUSED or _refused_as(score) is not None
        )
        if not is_refused and not isinstance(error, ModelError):
            if score.usage is not None:
                self._answered(metric, evaluator)
            return
        _, refusals = self._of.setdefault(
            _key(metric, evaluator), (metric, Refusals(by_request=self._by_request, is_proven=self.is_proven))
        )
        refusals.failed(_as_model_error(error, score))
        if refusals.is_sure:
            self._give_up(metric, refusals)

    def _answered(self, metric: str, evaluator: Evaluator) -> None:
        if not self.is_proven:
            self.is_proven = True
            self._on_proven()
        if self._of and (found := self._of.get(_key(metric, evaluator))):
            found[1].answered()

    @property
    def all_refused(self) -> bool:
        """Whether a metric's model was asked, refused every call for what has nothing to do with their cases,
        and none was answered."""
        return any(refusals.all_refused for _, refusals in self._of.values())

    def give_up(self) -> None:
        """Halt the run for the models that refused every call."""
        for metric, refusals in self._of.values():
            if refusals.all_refused:
                self._give_up(metric, refusals)

    def _give_up(self, metric: str, refusals: Refusals) -> None:
        assert refusals.last is not None
        many = refusals.count
        what = (
            f"{many} evaluations by {metric}, one after another, were"
            if many > 1
            else f"A call of {metric} was"
        )
        account = hopeless(refusals.last) is Hopeless.ACCOUNT
        kinds = (SCORE_REFUSED,) if account else ("evaluator_error",)
        self._halt(refused(f"{what} refused", refusals.last, kinds))


def _key(metric: str, evaluator: Evaluator) -> tuple[str, ...]:
    """Return what refusals are counted by: the models of the evaluator, of one that shows none the metric."""
    return tuple(sorted(model.counted_by for model in models_of(evaluator))) or (metric,)


def _as_model_error(error: BaseException | None, score: Score) -> ModelError:
    if isinstance(error, ModelError):
        return error
    words = str(error) if error is not None else score.error.message if score.error else ""
    return ModelError(words, type=_refused_as(score) or ConfigError.__name__, sent=False)


def _refused_as(score: Score) -> str | None:
    """The type of the refusal of a request, as an evaluation in another process tells it."""
    kind = score.metadata.get(REFUSED) if score.error is not None else None
    return kind if isinstance(kind, str) else None
