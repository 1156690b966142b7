"""When the calls of one model may start: a rate, learned from answers 429 or given.

A bound of calls in flight cannot keep to a rate: with answers in 200 ms, 100 calls in flight are 500 a
second, and where the provider takes 60 a second, 440 answers 429. docs/decisions/0080-a-rate-is-learned.md
has the law and what was measured.
"""

from __future__ import annotations

import math
from collections import deque

from promptlab.engine.heard import Heard
from promptlab.engine.start import Start

FILL_S, AT_ONCE = 0.2, 10
"""Seconds in which the first calls of a run are started, and how many of them at once: what comes back 429
meanwhile stops the others."""
FEWEST = 3
"""Answers 429, beyond those that come by chance, before the rate is cut."""
FEWEST_CALLS, MORE_CALLS = 8, 20
"""Calls since the first of them whose outcome is known: fewer say nothing about the rate that is taken; and
where fewer than three quarters of them are refused."""
LEAST_SHARE = 0.02
"""The share of answers 429 that is worth a cut."""
MOST_BY_CHANCE = 0.6
"""A larger share of answers 429 is never one that has nothing to do with the rate."""
MOST_REFUSED = 0.75
"""A larger share of answers 429 comes of a rate far too high: what was taken before is no guide."""
TELLING, TELLS = 0.2, 0.85
"""Where more than such a share is refused, a cut that left more than so much of the rate does not say whether
that comes by chance."""
TRIAL_CALLS = 30
"""Calls after a cut from which it is told whether the cut helped."""
WINDOW_S, WINDOW_CALLS = 5.0, 100
"""Seconds and calls after which half of what was counted is forgotten."""
BELOW = 0.97
"""The share of the measured rate that a cut leaves: a bucket that is empty fills again."""
FASTEST, SLOWEST, FINEST = 2.3, 0.003, 0.0005
"""Growth of the rate, as a share a second: after the first cut (twice the rate in 0.3 s, for little is known
then); after many, each of which takes three quarters of it; and where each 429 makes all calls wait."""
CALM_S, LONG_CALM_S = 4.0, 16.0
"""Seconds without a cut after which the growth doubles; the same where each 429 makes all calls wait."""
LEAST_RATE = 1 / 30
"""Calls a second that are always tried."""
LONGEST_HOLD_S = 300.0
"""A provider that asks for a longer wait ends the case instead (`RetryPolicy.max_wait_s`)."""
CONTRADICTED = 3
"""Calls that started after a refused one and were accepted, before the wait that it asks of all is ended."""
REMEMBERED = 0.9
"""What is left of the memory of such calls when the next wait begins."""
SHORT_HOLDS = 6
"""Waits for all, one after another with fewer than ten calls between, after which they are taken for
chance."""
SLACK_S, FAST = 0.01, 100
"""How late a start may be and still be made up for at so many a second or more, for a busy event loop is. At
less nothing is: a bucket of one call takes no two at once, and the rate that is learned makes up for it."""

WIDE, NARROW = 0.04, 0.004
"""What an answer 429 takes of the rate where the limit is known closely: at first, and after some of them."""
NEAR = 0.15
"""A share of answers 429, beyond those by chance, that says that the limit is near."""
STILL = 0.7
"""What is left of the rate when answers 429 that did not get fewer are taken for chance."""
AIM = 0.04
"""The share of answers 429 at which the rate stays there: what each accepted call adds follows from both
(Kaernbach, "Simple adaptive testing with the weighted up-down method", 1991)."""
LOST = 0.25
"""A share of answers 429 that says that the limit is not known closely any more …"""
LATELY = 32
"""… of so many calls."""


class Pacer:
    """Learns how many calls a second a provider takes, and says when the next one may start.

    It is told of each start, and of how each ended; it waits for nothing itself.
    """

    def __init__(self, in_flight: int, *, now: float) -> None:
        """Begin with as many calls as may be in flight, spread over FILL_S."""
        self.rate: float | None = None
        """Starts a second that were learned, or None while no limit is known."""
        self.by_chance = 0.0
        """The share of answers 429 that has nothing to do with the rate."""
        self.doubted = False
        """Whether the provider accepts calls while it asks all to wait: then only those that it refuses
        obey that."""
        self.held_until = -math.inf
        self.starts = 0
        self.heard = Heard()
        """What the provider's answers say of its limits."""
        self._filling = in_flight if in_flight > AT_ONCE else 0
        self._fill_rate = in_flight / FILL_S
        self._grown_at = self._changed_at = now
        self._due = now - AT_ONCE / max(1.0, self._fill_rate)
        self._growth, self._calm_s = FASTEST * 4, CALM_S
        self._ceiling: float | None = None
        self._known = 0.0
        """Calls a second that were taken of late."""
        self._delay_s = 0.0
        self._seen_429 = False
        self._marks: deque[Start] = deque(maxlen=64)
        self._refusals: deque[Start] = deque(maxlen=400)
        self._begun = Start(0, now)
        self._before: float | None = None
        self._trial: tuple[float, float] | None = None
        self._asked = Start(0, -math.inf)
        self._asked_until = self._judge_at = -math.inf
        self._accepted_then = self._refused_then = 0.0
        self._resumed = Start(0, now)
        self._held_pace, self._short_holds = 0.0, 0
        self._is_limit = False
        """Whether a cut lowered the share of answers 429."""
        self._close = False
        """Whether the limit is known so closely that each call's outcome moves the rate a little."""
        self._step, self._since, self._entered = WIDE, 0, 0.0
        self._lately = 0.0
        """The share of answers 429 of the last LATELY calls, about."""
        self._refunded = 0
        """The last refused call whose place another one got."""
        self._undo: float | None = None
        self._undone = True

    def begin_at(self, rate: float, now: float) -> None:
        """Go on with a rate that others learned, or with another part of it; it grows slowly at first."""
        self._filling, self._trial, self._is_limit, self._close = 0, None, True, False
        self._set(rate, now)
        self._growth = 4 * SLOWEST

    # -- what the limiter asks and tells

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next call may start; 0 or less for now."""
        if self.held_until > now:
            if now >= self._judge_at:
                self._judge_at = math.inf
                self._judge(now)
            return min(self.held_until, self._judge_at) - now
        heard_s = self.heard.wait_s(now)
        if self.rate is not None or self._filling:
            return max(heard_s, self._due - now)
        return heard_s

    def pace(self, now: float) -> float:
        """Return how many calls start a second: the rate, or what was seen of late."""
        if self.rate is not None:
            return min(self.rate, self.heard.rate)
        return (self.starts - self._begun.number) / max(now - self._begun.at, FILL_S)

    def start(self, now: float) -> Start:
        """Take note of a start."""
        self.starts += 1
        started = Start(self.starts, now)
        self.heard.start(self.starts, now)
        if self._seen_429 and now - self._marks[-1].at > self._delay_s / 8:
            self._marks.append(started)
        if self.rate is not None:
            self._grow(now)
            slack_s = SLACK_S if self.rate >= FAST else 0.0
            self._due = max(self._due, now - slack_s) + 1 / self.rate
        elif self._filling:
            self._filling -= 1
            self._marks.append(started)
            self._due = max(self._due, now - AT_ONCE / self._fill_rate) + 1 / self._fill_rate
        return started

    def accepted(self, start: Start, now: float) -> None:
        """Take note of an answer that is no 429."""
        self._filling = 0  # whoever answers so soon is not flooded
        if not self._seen_429:
            return
        if self._close:
            self._outcome(start, now, refused=False)
        if self._trial is not None:
            self._confirm(now)
        if now - self._begun.at > WINDOW_S and self.starts - self._begun.number > WINDOW_CALLS:
            self._forget(now)

    def refused(self, start: Start, now: float, wait_s: float | None = None) -> None:
        """Take note of an answer 429, which asks for a wait of so many seconds."""
        if not self._seen_429:
            self._seen_429, self._delay_s = True, now - start.at
            if not self._marks:
                self._marks.append(start)
        if self._filling:
            self._filling, self.rate, self._grown_at = 0, self._fill_rate, now
        self._delay_s += 0.2 * (now - start.at - self._delay_s)
        self._refusals.append(start)
        if wait_s is not None and 0 < wait_s <= LONGEST_HOLD_S:
            self._ask(start, now, wait_s)
        if start.number > self._begun.number and now >= self.held_until:
            if self._close:
                self._outcome(start, now, refused=True)
            else:
                self._weigh(now)

    # -- what is known of the calls that started

    def _settled(self, now: float) -> Start:
        """Return the last start that has had the time to be refused; one that was not is accepted, whenever
        its answer comes."""
        before = now - 1.5 * self._delay_s
        return next((mark for mark in reversed(self._marks) if mark.at <= before), self._begun)

    def _outcomes(self, since: Start, until: Start) -> tuple[int, int]:
        """Return how many calls after one start, up to another, were accepted and refused."""
        refused = sum(since.number < one.number <= until.number for one in self._refusals)
        return max(0, until.number - since.number - refused), refused

    def _first_refused(self) -> Start | None:
        return next((one for one in self._refusals if one.number > self._begun.number), None)

    def _forget(self, now: float) -> None:
        """Forget half of a window, and learn from it what comes by chance."""
        last = self._settled(now)
        accepted, refused = self._outcomes(self._begun, last)
        if accepted + refused >= WINDOW_CALLS / 2:
            share = refused / (accepted + refused)
            if share < self.by_chance:
                self.by_chance = (self.by_chance + share) / 2 if share > self.by_chance / 2 else share
        half = self._begun.number + (self.starts - self._begun.number) // 2
        self._begun = Start(half, (self._begun.at + now) / 2)

    # -- a limit that is known closely

    def _come_close(self, share: float, now: float) -> None:
        """Begin to move the rate by each outcome, from where few are refused."""
        assert self.rate is not None
        self._close, self._step, self._lately = True, WIDE, share
        self._entered, self._since, self._changed_at = self.rate, self.starts, now
        self._begun = Start(self.starts, now)
        if self.by_chance < NEAR:
            self.by_chance = 0.0  # near a limit one is easily taken for the other: see below

    def _outcome(self, start: Start, now: float, *, refused: bool) -> None:
        """Move the rate a little, so that a share of AIM is refused beyond what is by chance."""
        if start.number <= self._begun.number or self.rate is None:
            return
        self._lately += (refused - self._lately) / LATELY
        aim = self.by_chance + AIM
        if self._lately > self.by_chance + LOST or now - self._changed_at > LONG_CALM_S:
            self._close = False
            self._changed_at = self._grown_at = now
            self._begun = Start(self.starts, now)
            return
        if not refused:
            self.rate *= 1 + self._step * aim / (1 - aim)
            if start.number - self._since > 3 / aim:
                self._since, self._step = start.number, min(WIDE, self._step * 1.5)
            return
        self.rate = max(LEAST_RATE, self.rate * (1 - self._step))
        self._changed_at = now
        self._since, self._step = start.number, max(NARROW, self._step * 0.7)
        if self.rate < STILL * self._entered and self._lately > aim:
            self.by_chance, self.rate = self._lately, self._entered
        if self._refunded < start.number - 1:
            # It took nothing of the provider's bucket: the next one has its place.
            self._refunded = start.number
            self._due = max(now, self._due - 1 / self.rate)

    # -- a rate that is too high

    def _weigh(self, now: float) -> None:
        """Cut the rate where more is refused than by chance: to what was accepted since the first 429.

        Where cuts do not lower the share of answers 429, it does not come from the rate: they are undone.
        """
        last, first = self._settled(now), self._first_refused()
        if first is None or last.number - first.number < FEWEST_CALLS:
            return
        accepted, refused = self._outcomes(self._begun, last)
        calls = accepted + refused
        beyond = refused - self.by_chance * calls
        if beyond < FEWEST + 2 * math.sqrt(self.by_chance * calls) or beyond < LEAST_SHARE * calls:
            return
        if self._is_limit and self._trial is None and refused < (self.by_chance + NEAR) * calls:
            self._come_close(refused / calls, now)
            return
        accepted, refused = self._outcomes(first, last)
        share, pace = refused / (accepted + refused), self.pace(now)
        # At little more than a bucket of one call takes, it refuses every other call, and not more.
        good = self._good(first) if share < MOST_REFUSED else 0.0
        if accepted + refused < MORE_CALLS and share < MOST_REFUSED and not good:
            return
        taken = (accepted + 0.5) / max(last.at - first.at, 1e-3)
        if self._trial is not None and self._trial[0] < MOST_BY_CHANCE and calls < TRIAL_CALLS:
            return
        if self._trial is not None and share > TELLING and pace > TELLS * self._trial[1]:
            good = 0.0  # so small a cut told nothing: now to what was taken
        elif self._is_by_chance(share, pace):
            self.by_chance = (share + self._trial[0]) / 2 if self._trial else share
            self.rate, self._trial = self._before, None
            self._begun = Start(self.starts, now)
            return
        self._cut(good, taken, share, pace, now, sure=accepted >= 4 and last.at - first.at >= 0.1)

    def _is_by_chance(self, share: float, pace: float) -> bool:
        """Whether the cut before did not lower the share of answers 429."""
        if self._trial is None:
            self._before, self._trial = self.rate, (share, pace)
            return False
        before, pace_before = self._trial
        if before >= MOST_BY_CHANCE:
            return False
        if share > 1.5 * before:
            self._trial = (share, pace)
            return False
        return (1 - share) * math.sqrt(min(1.0, pace / pace_before)) < 1 - before

    def _cut(self, good: float, taken: float, share: float, pace: float, now: float, *, sure: bool) -> None:
        calm_s = CALM_S
        if good:
            same = self._ceiling is not None and abs(good - self._ceiling) < 0.03 * good
            calm_s = min(LONG_CALM_S, self._calm_s * 2) if same else CALM_S
            self._known = good
        elif self._known < pace and share < MOST_REFUSED:
            good = self._known = self._known * 0.95  # it was taken before, and may not be any more
        if sure:
            self._known = max(self._known, taken)
        self._set(min(max(taken / (1 - self.by_chance), good), pace) * BELOW, now, calm_s=calm_s)
        if good:
            self._ceiling = min(good, pace) * 0.99

    def _good(self, first: Start) -> float:
        """Return the calls a second that were taken shortly before the first 429; 0 if those were few."""
        for mark in self._marks:
            if self._begun.number < mark.number <= first.number - 20:
                return (first.number - mark.number) / max(first.at - mark.at, 1e-3)
        return 0.0

    def _set(self, rate: float, at: float, *, least_growth: float = SLOWEST, calm_s: float = CALM_S) -> None:
        self._growth, self._calm_s = max(least_growth, self._growth / 4), calm_s
        self.rate = max(LEAST_RATE, rate)
        self._ceiling = self.rate / BELOW
        self._changed_at = self._grown_at = at
        self._due = max(self._due, at)
        self._begun = Start(self.starts, at)

    def _confirm(self, now: float) -> None:
        """End a trial whose cut lowered the share of answers 429: there is a limit."""
        assert self._trial is not None
        last = self._settled(now)
        expected = self._trial[0] * (last.number - self._begun.number)
        if expected < 10 and last.number - self._begun.number < WINDOW_CALLS:
            return
        accepted, refused = self._outcomes(self._begun, last)
        if refused < expected / 2:
            self._trial, self._is_limit = None, True
            self.by_chance = min(self.by_chance, refused / max(1, accepted + refused))

    def _grow(self, now: float) -> None:
        assert self.rate is not None
        if self._close:
            return
        seconds = now - self._grown_at
        if seconds <= 0:
            return
        self._grown_at = now
        if now - self._due > 1 / self.rate + SLACK_S:
            return  # nobody waited for this start: more would not be used
        if self._trial is not None and 0.1 <= self._trial[0] < MOST_BY_CHANCE:
            return  # first it is found out whether the cut helped
        growth = min(FASTEST, self._growth * 2.0 ** ((now - self._changed_at) / self._calm_s))
        up = self.rate * growth * min(seconds, 1.0)
        if self._ceiling is not None and self.rate < self._ceiling:
            up = max(up, (self._ceiling - self.rate) * min(1.0, seconds))
        self.rate += up

    # -- a wait that is asked of all

    def _ask(self, start: Start, now: float, wait_s: float) -> None:
        """Hold all calls for the wait, unless the provider is known not to keep to what it asks."""
        new = start.at >= self._asked_until
        if new:
            self._remember(now)
            self._asked = start
        self._asked_until = max(self._asked_until, now + wait_s)
        if not new and not self.doubted:
            self._judge(now)
        if self.doubted:
            return
        until = max(self.held_until, now + wait_s)
        if new or self.held_until <= now:
            self._begin_hold(start, now, until)
        self.held_until = until
        self._due, self._grown_at = max(self._due, until), until
        self._begun = Start(self.starts, until)

    def _remember(self, now: float) -> None:
        if self._asked.number:
            accepted, refused = self._outcomes(self._asked, self._last_asked(now))
            self._accepted_then = REMEMBERED * self._accepted_then + accepted
            self._refused_then = REMEMBERED * self._refused_then + refused
            if self.doubted and refused >= FEWEST and refused > accepted:
                self.doubted = False  # now it keeps to it

    def _last_asked(self, now: float) -> Start:
        last = self._settled(now)
        if last.at > self._asked_until:
            last = next((m for m in reversed(self._marks) if m.at <= self._asked_until), self._asked)
        return last

    def _begin_hold(self, start: Start, now: float, until: float) -> None:
        """Slow down a little: near a bucket's rate one call too many is refused now and then."""
        calls = start.number - 1 - self._resumed.number
        self._short_holds = self._short_holds + 1 if calls < 10 else 0
        if self._short_holds <= 1 or self._undone:
            self._undo, self._undone = self.rate, False
        self._held_pace = self.pace(now)
        self._held_from, self._held_calls = self._resumed.at, max(0, calls)
        self._judge_at = now + 2 * self._delay_s
        self._resumed = Start(self.starts, until)
        if self._short_holds >= SHORT_HOLDS:
            self._doubt(now)
            return
        growth = self._growth
        if calls >= 20:
            self._known = calls / max(start.at - self._held_from, 1e-3)
        self._set(
            self._held_pace * (BELOW if calls >= 3 else 0.5), until, least_growth=FINEST, calm_s=LONG_CALM_S
        )
        if calls < 3:
            self._growth = growth
        self._ceiling = self.rate

    def _judge(self, now: float) -> None:
        """Decide whether all obey: not if more of those that started meanwhile were accepted than refused.

        If they were refused, cut the rate to the middle between what was accepted, with the wait, and what
        was tried.
        """
        accepted, refused = self._outcomes(self._asked, self._last_asked(now))
        if refused >= 2 and refused > accepted:
            lower = max(1.0, self._held_calls + accepted) / max(self.held_until - self._held_from, 1e-3)
            rate = math.sqrt(lower * self._held_pace)
            if self.rate is None or rate < self.rate:
                growth = self._growth
                self._set(rate, max(now, self.held_until))
                if growth < FASTEST:
                    self._growth = growth
            return
        all_accepted, all_refused = self._accepted_then + accepted, self._refused_then + refused
        if all_accepted >= 2 and all_accepted > 1.5 * all_refused:
            self._doubt(now)
            if accepted >= CONTRADICTED:
                self.held_until = -math.inf
                self._due = now

    def _doubt(self, now: float) -> None:
        self.doubted, self._short_holds = True, 0
        if not self._undone:
            self.rate, self._undone = self._undo, True
            self._begun = Start(self.starts, now)
