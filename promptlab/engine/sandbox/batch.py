"""The cases of one invocation, and what a child said of them: believed of the case that is being done, once,
and only if it is a score or an answer."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson

from promptlab.domain.media_in import MOST_MEDIUM
from promptlab.domain.results import Score
from promptlab.engine.frames import ANSWER, BEGUN, ENDED, PRINTED
from promptlab.engine.sandbox.answers import (
    AnswerError,
    call_failed,
    failure_body,
    response_body,
    response_of,
    score_of,
    usage_of,
)
from promptlab.engine.sandbox.child import Child, GoneError
from promptlab.engine.sandbox.request import CODE, Request
from promptlab.evaluators.code_tests import LOST, OVERDUE
from promptlab.evaluators.outcomes import failed, overdue

BEGIN_S = 20.0
"""How long a child may take to begin, on a busy machine."""
MOST_PRINTED = 10 * 1024
"""Bytes of what a case prints that are kept."""
MOST_DESCRIBED = 100_000
MOST_ANSWERS = 5 << 20
"""Bytes of answers that leave in one payload, which holds 6 MB."""
_FIT = f"{MOST_ANSWERS / 2**20:.1f}"
MOST_MEDIA = 24 << 20
"""Bytes of media that a process is given at once, unless one case has more."""
MOST_OF = 0.9
"""The share of an invocation from which on a case has had all of it."""
TRIES = 3
"""How often a case is given to a child that is gone before it has begun with it."""

Case = tuple[int, Any]
_FIELDS = ("value", "label", "passed", "reason", "metadata", "error", "usage", "judged")


class StrangeError(GoneError):
    """A child said what it was not asked, and is not asked again; the message says what."""


class Batch:
    """The cases of an invocation."""

    def __init__(self, request: Request) -> None:
        self.role, self.metric, self.limit_s = request.role, request.metric, request.limit_s
        self.left = deque(request.cases)
        self._media = request.media
        self.answers: dict[int, dict[str, Any]] = {}
        self.whole_s = request.limit_s
        """How long an invocation may be."""
        self.strange = False
        """Whether a child said what it was not asked. From then on cases are done one at a time."""
        self.bytes = 0
        """How long the answers are so far."""
        self.largest = 1_000
        """The longest one, from which the number of the next cases follows."""
        self.cpu_s = 0.0
        self._printed: dict[int, bytearray] = {}
        self._tries: dict[int, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether no further answer fits into one payload."""
        return self.bytes >= MOST_ANSWERS

    def take(self, many: int) -> list[Case]:
        """Take the next cases: as many whose answers will fit, as far as can be told, and whose media a
        process may have at once."""
        fit = max(1, (MOST_ANSWERS - self.bytes) // self.largest)
        taken: list[Case] = []
        room = MOST_MEDIA
        while self.left and len(taken) < min(many, fit):
            room -= sum(size or MOST_MEDIUM for size in self.media_of(self.left[0]).values())
            if taken and room < 0:
                break
            taken.append(self.left.popleft())
        return taken

    def media_of(self, case: Case) -> Mapping[str, int]:
        """The sizes of the media that a case refers to, by their SHA-256; 0 of one that is not known."""
        return self._media.get(case[0], {})

    def given(self) -> list[dict[str, Any]]:
        """Give the answers in order, as many as fit into one payload; the others are asked for again."""
        found, size = [], 0
        for n, answer in sorted(self.answers.items()):
            printed = self._printed.get(n)
            text = {"printed": printed.decode("utf-8", "replace")} if printed else {}
            one = {"n": n, **answer, **text}
            if self.bytes > MOST_ANSWERS and (size := size + len(orjson.dumps(one))) > MOST_ANSWERS:
                break
            found.append(one)
        return found

    def run(
        self, child: Child, key: int, sent: list[Case], hard: float, media: Mapping[str, bytes | str]
    ) -> None:
        """Have cases answered; those that were not begun are left again.

        Args:
            child: who answers them.
            key: what it answers with.
            sent: the cases.
            hard: when the invocation ends.
            media: what `GivenMedia` takes.

        Raises:
            GoneError: the child is gone, or is of no use any more.
        """
        child.send("cases", key, self.limit_s, [data for _, data in sent], media)
        told = _Told(self, sent)
        until = time.monotonic() + BEGIN_S
        try:
            while not told.ended:
                kind, payload = child.next(min(until, hard))
                if told.take(kind, payload):
                    until = time.monotonic() + self.limit_s
        except TimeoutError:
            self._late(told, waited_s=self.limit_s - max(0.0, until - time.monotonic()))
            raise GoneError("it was ended") from None
        except StrangeError as error:
            self._distrust(told, str(error))
            raise
        except GoneError as error:
            if told.begun and not told.done:
                self._put(told.now, self.ended(str(error)))
                told.at += 1
            raise
        finally:
            self._give_back(sent[told.at :], begun=told.begun)

    def _late(self, told: _Told, *, waited_s: float) -> None:
        """Take that a case takes too long; where only the invocation ends, and another one would have more
        time for it, it is left."""
        if told.begun and not told.done and waited_s >= min(self.limit_s, MOST_OF * self.whole_s):
            self._put(told.now, self._overdue())
            told.at += 1

    def _distrust(self, told: _Told, why: str) -> None:
        """Believe nothing of what a child said of several cases: they are done again, one at a time, so that
        it is known whose doing it was. One that was alone has failed."""
        self.strange = True
        if len(told.sent) == 1:
            self._put(told.sent[0][0], self.ended(why))
            told.at = 1
            return
        for n, _ in told.sent:
            self.answers.pop(n, None)
            self._printed.pop(n, None)
        told.at = 0

    def _give_back(self, sent: list[Case], *, begun: bool) -> None:
        for n, data in reversed(sent):
            if not begun:
                self._tries[n] = self._tries.get(n, 0) + 1
            if self._tries.get(n, 0) >= TRIES:
                self._put(n, self.failed("its process ended before it began"))
            else:
                self.left.appendleft((n, data))

    def answered(self, n: int, given: Any, size: int) -> None:
        """Take what a child answered for a case.

        Raises:
            StrangeError: that is no answer.
        """
        self.bytes += size
        self.largest = max(self.largest, size)
        if size > MOST_ANSWERS:
            self._put(n, self.failed(f"its answer has {size / 2**20:.1f} MB; at most {_FIT} MB fit"))
            return
        try:
            self.answers[n] = self._read(given)
        except AnswerError as error:
            raise StrangeError(f"what it answered is none: {error}") from None

    def printed(self, n: int, payload: bytes) -> None:
        """Keep the beginning of what a case prints."""
        with contextlib.suppress(ValueError, TypeError, LookupError):
            kept = self._printed.setdefault(n, bytearray())
            if room := MOST_PRINTED - len(kept):
                text = str(orjson.loads(payload)[1]).encode("utf-8", "replace")[:room]
                kept += text
                self.bytes += 2 * len(text)
                self.largest = max(self.largest, 2 * len(kept))

    def ended(self, why: str) -> dict[str, Any]:
        """The answer for a case that has none by the doing of its own code."""
        return {"score": {"passed": False, "reason": LOST}} if self.role == CODE else self.failed(why)

    def failed(self, why: str) -> dict[str, Any]:
        """The answer for a case that has none."""
        if self.role == "infer":
            return {"error": {"type": "sandbox", "message": why}}
        return {"score": _plain(failed(self.metric, why))}

    def _overdue(self) -> dict[str, Any]:
        if self.role == "infer":
            return {"error": {"type": "timeout", "message": f"no answer within timeout_s={self.limit_s:g} s"}}
        if self.role == CODE:
            return {"score": {"passed": False, "reason": OVERDUE.format(timeout_s=self.limit_s)}}
        return {"score": _plain(overdue(self.metric, self.limit_s))}

    def _put(self, n: int, answer: dict[str, Any]) -> None:
        self.answers[n] = answer
        self.bytes += 500

    def _read(self, given: Any) -> dict[str, Any]:
        """Look at an answer.

        Raises:
            AnswerError: it is none.
        """
        if self.role in ("evaluate", CODE):
            return {"score": _plain(score_of(given))}
        if not isinstance(given, dict):
            raise AnswerError(f"it is a {type(given).__name__}, not an object")
        if self.role == "check":
            if len(orjson.dumps(given)) > MOST_DESCRIBED:
                raise AnswerError("it is too long")
            return {"said": given}
        usage = {} if usage_of(given.get("usage")) is None else {"usage": given["usage"]}
        if "error" in given:
            return {"error": failure_body(call_failed(given["error"])), **usage}
        return {"response": response_body(response_of(given.get("response"))), **usage}


class _Told:
    """What a child tells of the cases that it was sent."""

    def __init__(self, batch: Batch, sent: list[Case]) -> None:
        self._batch, self.sent = batch, sent
        self.at = 0
        """How many are answered."""
        self.begun = self.ended = False

    @property
    def done(self) -> bool:
        return self.at >= len(self.sent)

    @property
    def now(self) -> int:
        """The number of the case that is being done."""
        return self.sent[self.at][0]

    def take(self, kind: bytes, payload: bytes) -> bool:
        """Take a frame; give whether another case has begun with it.

        Raises:
            GoneError: it is none that was waited for.
        """
        if kind == PRINTED:
            if self.begun:
                self._batch.printed(self.sent[min(self.at, len(self.sent) - 1)][0], payload)
            return False
        if kind == BEGUN and not self.begun:
            self.begun = True
            return True
        if kind == ANSWER and self.begun:
            return self._answer(payload)
        if kind == ENDED and self.begun:
            self._end(payload)
            return False
        raise StrangeError(f"its process said what was not asked ({kind!r})")

    def _answer(self, payload: bytes) -> bool:
        try:
            position, given = orjson.loads(payload)
        except (ValueError, TypeError):
            raise StrangeError("its process answered with what is no JSON") from None
        if type(position) is int and 0 <= position < self.at:
            raise StrangeError("it was answered twice")
        if type(position) is not int or position != self.at or self.done:
            raise StrangeError("its process answered for a case that was not its turn")
        self._batch.answered(self.now, given, len(payload))
        self.at += 1
        return True

    def _end(self, payload: bytes) -> None:
        if not self.done:
            raise StrangeError("its process said that it was done, and was not")
        self.ended = True
        with contextlib.suppress(ValueError, TypeError):
            cpu_s, _ = map(float, orjson.loads(payload))
            if 0 <= cpu_s < 1e6:
                self._batch.cpu_s += cpu_s


def _plain(score: Score) -> dict[str, Any]:
    """A score as JSON, without what it does not have."""
    found = {name: value for name in _FIELDS if (value := getattr(score, name)) is not None}
    if not score.metadata:
        del found["metadata"]
    for name in ("error", "usage"):
        if name in found:
            found[name] = asdict(found[name])
    return found
