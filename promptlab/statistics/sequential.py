"""Whether a comparison is decided before all cases are done: group-sequential looks and an e-process."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from promptlab.statistics.intervals import Interval
from promptlab.statistics.stopping import e_value, obrien_fleming

WAVES_ALPHA, PEEKS_ALPHA = 0.04, 0.01
"""How the error of 5% is split: between the looks at the ends of waves, and the e-process, which may be
looked at any time."""
LOOKS = 10
FEWEST = 15
"""Cases below which nothing is decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What was decided, and by what."""

    verdict: Literal["better", "worse", "the same within δ"]
    by: Literal["waves", "e-process"]
    n: int
    """Cases that it took."""
    total: int
    estimate: float
    """The mean difference so far, other − base, oriented so that above 0 is better."""
    low: float
    """Its interval at this look: estimate ± z_k·se; wider than that of a test that looks once."""
    high: float
    z: float | None
    boundary: float | None
    e: float | None
    """The e-process, of pass/fail."""

    @property
    def saved(self) -> int:
        """Cases that need not be run."""
        return self.total - self.n


class Sequential:
    """Judges differences in the order of a seeded random permutation of the cases, and in no other.

    Only a completed prefix of that order may be given: of the cases that merely finished first, hard ones are
    left out, and 9.6% of nulls were decided (STATISTICS §4f). At the ends of waves it looks at z against
    O'Brien & Fleming's boundaries by Lan & DeMets' spending (4%); between them, of pass/fail, at the
    e-process against 100 (1%). Together 4.0–4.7% of nulls are decided.

    A case without a score counts against whichever run is ahead, so that no decision rests on what is
    missing.
    """

    def __init__(
        self, total: int, *, looks: int = LOOKS, margin: float | None = None, span: float | None = None
    ) -> None:
        """Begin.

        Args:
            total: cases of the whole set.
            looks: waves, 1 to 100; with fewer cases than that, one a case.
            margin: δ, above 0: then the set is also decided once the runs are the same within it.
            span: the greatest difference that a case can have, by which missing ones count; 1 of pass/fail.
                None of numbers without a range: missing ones then count for nobody.

        Raises:
            ValueError: a number is out of its range.
        """
        if total < 1 or not 1 <= looks <= 100 or (margin is not None and not margin > 0):
            raise ValueError(
                f"a sequential comparison needs cases, 1 to 100 looks and a margin above 0, got {total} "
                f"cases, {looks} looks, margin {margin}"
            )
        looks = min(looks, total)
        self.total, self.margin, self._span = total, margin, span
        self.ends = [-(-total * (k + 1) // looks) for k in range(looks)]
        """Cases at the end of each wave."""
        self._bounds = obrien_fleming([end / total for end in self.ends], WAVES_ALPHA)
        self.n = self.missing = self.skipped = self.improved = self.regressed = 0
        self._sum = self._squares = 0.0
        self._binary = True
        self._wave = 0
        self.decided: Decided | None = None

    def add(self, differences: Iterable[float | None]) -> Decided | None:
        """Take the differences of the next cases of the order, and look wherever that is due.

        Args:
            differences: other − base of each, above 0 where the other run is better; None where one of the
                two has no score (which a metric's `missing` did not turn into a value).

        Returns:
            What is decided, from then on; None while nothing is.
        """
        for difference in differences:
            if self.decided is not None or self._seen >= self.total:
                break
            self._take(difference)
            self._look()
        return self.decided

    def skip(self) -> Decided | None:
        """Pass over the next case of the order, which has nothing to compare: the metric is not of it."""
        if self.decided is None and self._seen < self.total:
            self.skipped += 1
            self._look()
        return self.decided

    @property
    def _seen(self) -> int:
        return self.n + self.missing + self.skipped

    def _take(self, difference: float | None) -> None:
        if difference is None:
            self.missing += 1
            return
        self.n += 1
        self._binary = self._binary and difference in (-1.0, 0.0, 1.0)
        self._sum += difference
        self._squares += difference * difference
        self.improved += difference > 0
        self.regressed += difference < 0

    def _look(self) -> None:
        seen = self._seen
        at_end = self._wave < len(self.ends) and seen >= self.ends[self._wave]
        e = self._e() if self._binary else None
        # An end of the last wave is the end of the set: then it is judged as any other.
        if e is not None and e >= 1 / PEEKS_ALPHA and self.n >= FEWEST and seen < self.total:
            self._decide("e-process", self._bounds[min(self._wave, len(self._bounds) - 1)], e)
        if at_end:
            bound = self._bounds[self._wave]
            self._wave += 1
            if self.decided is None and self.n >= FEWEST and seen < self.total:
                self._decide("waves", bound, e)

    def _decide(self, by: Literal["waves", "e-process"], bound: float, e: float | None) -> None:
        mean, z, stderr = self._statistic()
        low, high = Interval(mean - bound * stderr, mean + bound * stderr)
        verdict: Literal["better", "worse", "the same within δ"] | None = None
        if (by == "e-process" and mean) or (z is not None and abs(z) >= bound):
            verdict = "better" if mean > 0 else "worse"
        elif by == "waves" and self.margin is not None and -self.margin < low and high < self.margin:
            verdict = None if self.missing or self.improved + self.regressed < 5 else "the same within δ"
        if verdict is not None:
            self.decided = Decided(
                verdict=verdict,
                by=by,
                n=self._seen,
                total=self.total,
                estimate=mean,
                low=low,
                high=high,
                z=z,
                boundary=bound,
                e=e,
            )

    def _filled(self) -> tuple[int, float, float]:
        """Cases, the sum and the sum of squares of differences, with missing ones against who is ahead; of a
        lead that is turned by them nothing is left."""
        span = 1.0 if self._binary else self._span
        if not self.missing or span is None or not self._sum:
            return self.n, self._sum, self._squares
        against = -math.copysign(span, self._sum) * self.missing
        total = self._sum + against
        kept = total if total * self._sum > 0 else 0.0
        return self.n + self.missing, kept, self._squares + span * span * self.missing

    def _e(self) -> float:
        ahead, behind = sorted((self.improved, self.regressed), reverse=True)
        behind += self.missing
        return e_value(ahead, behind) if ahead > behind else 1.0

    def _statistic(self) -> tuple[float, float | None, float]:
        """The mean, z, and the standard error: of pass/fail z = (b − c)/√(b + c)."""
        n, total, squares = self._filled()
        mean = total / n
        stderr = math.sqrt(max(0.0, squares - n * mean * mean) / max(1, n - 1) / n)
        if self._binary:
            discordant = self.improved + self.regressed + self.missing
            return mean, total / math.sqrt(discordant) if discordant else None, stderr
        return mean, mean / stderr if stderr else None, stderr
