"""How progress is shown."""

from __future__ import annotations

import re
from io import StringIO

from rich.console import Console

from promptlab.domain.results import Progress, RunRecord
from promptlab.sdk.progress import Lines, LiveBar, Pace, Plain, Silence, progress_view

RUN = RunRecord(
    run_id="20261123-091500-3f9a2c",
    name="gsm8k",
    status="running",
    experiment={"model": {"name": "simulated/echo"}, "dataset": {"name": "d", "version": 0}},
    cases=1000,
    created_at="2026-11-23T09:15:00.000000Z",
)


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def paced(*samples: tuple[float, int]) -> Pace:
    clock = Hands()
    pace = Pace(clock)
    for at, done in samples:
        clock.at = 100.0 + at
        pace.see(done)
    return pace


def test_the_rate_is_of_the_last_seconds() -> None:
    """A slow beginning is forgotten after fifteen seconds."""
    pace = paced((0, 0), (100, 10), (105, 510), (110, 1010))
    assert pace.rate == 100 and pace.elapsed_s == 110


def test_the_rate_of_a_slow_run_is_since_its_beginning() -> None:
    """A rate and a time left are shown even if the last seconds brought nothing."""
    pace = paced((0, 0), (60, 2), (110, 2), (120, 2))
    assert pace.rate == 2 / 120
    assert (
        pace.words(Progress(total=3, done=2, cost_usd=None))
        == "2 of 3 done, 0 failed, 1.0/min, 2 min 00 s, 1 min 00 s left"
    )


def test_what_was_done_before_a_resume_is_not_counted_as_pace() -> None:
    """The first sample is where this pass began."""
    assert paced((0, 900), (10, 950)).rate == 5


def test_words_before_anything_is_done_and_at_the_end() -> None:
    """No rate is invented, and an unknown cost is left out."""
    assert paced((0, 0)).words(Progress(total=10)) == "0 of 10 done, 0 failed, $0.00, 0.0 s"
    assert (
        paced((0, 0), (2, 1319)).words(Progress(total=1319, done=1319, failed=2, cost_usd=0.01234))
        == "1,319 of 1,319 done, 2 failed, 660/s, $0.01234, 2.0 s"
    )


def test_a_pipe_gets_a_first_and_a_last_line_without_control_codes() -> None:
    """However many cases there were in between."""
    out = StringIO()
    view = progress_view(Console(file=out, width=40), quiet=False)
    assert isinstance(view, Lines)
    with view:
        view.started(RUN)
        for done in range(1001):
            view(Progress(total=1000, done=done))
    first, last = out.getvalue().splitlines()
    assert first == "gsm8k: run 20261123-091500-3f9a2c, 1,000 cases of simulated/echo"
    assert last.startswith("1,000 of 1,000 done, 0 failed") and "\x1b" not in last


def test_a_pipe_gets_a_line_now_and_then_only_where_there_is_news() -> None:
    """Standing still adds no lines."""
    out = StringIO()
    view = Lines(Console(file=out, width=40))
    view(Progress(total=10, done=1))
    view._line()
    view._line()
    view(Progress(total=10, done=2))
    view._line()
    assert [line.split(",")[0] for line in out.getvalue().splitlines()] == ["1 of 10 done", "2 of 10 done"]


def test_a_plain_line_moves_no_cursor() -> None:
    """Lines of a file may be looked at in a terminal: what would go back in them is left out, as by rich."""
    out = StringIO()
    Plain(out).print("a\rb\ac", soft_wrap=True)
    assert out.getvalue() == "abc\n"


def test_a_terminal_gets_a_bar_that_stays() -> None:
    """The last frame has the counts, at any width."""
    for width in (30, 80):
        out = StringIO()
        console = Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False)
        view = progress_view(console, quiet=False)
        assert isinstance(view, LiveBar)
        with view:
            view.started(RUN)
            view(Progress(total=1000, done=250, failed=3))
        # On a busy machine one more frame stands between two of ours, which a control sequence wipes.
        lines = re.sub(r"(\x1b\[[0-9;?]*[a-zA-Z])+", "\n", out.getvalue()).splitlines()
        words = " ".join(" ".join(lines).split())
        assert "gsm8k: run" in words and " 25% " in words and "250 of 1,000 done, 3 failed" in words
        assert max(map(len, lines)) <= width


def test_a_run_that_never_began_leaves_no_bar() -> None:
    """An error stands alone on the terminal."""
    out = StringIO()
    with progress_view(Console(file=out, width=80, force_terminal=True, color_system=None), quiet=False):
        pass
    assert "done" not in out.getvalue() and out.getvalue().rstrip().endswith("\x1b[2K")


def test_quiet_shows_nothing() -> None:
    """Not even the first line."""
    out = StringIO()
    view = progress_view(Console(file=out, force_terminal=True), quiet=True)
    assert isinstance(view, Silence)
    with view:
        view.started(RUN)
        view(Progress(total=1, done=1))
    assert out.getvalue() == ""
