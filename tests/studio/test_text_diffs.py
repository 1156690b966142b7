"""Differences between two texts, as pages show them."""

from __future__ import annotations

import pytest
from promptlab_studio.views.text import MOST_LINES, text_diff, word_diff


def shown(old: str, new: str) -> list[tuple[str, str]]:
    return [(line.kind, str(line.text)) for line in text_diff(old, new)]


def test_lines_that_stay_go_and_come() -> None:
    """Each line once, in order; within a line that changed, the words."""
    assert shown("one\ntwo red\nthree", "one\ntwo blue\nthree\nfour") == [
        ("same", "one"),
        ("gone", "two <del>red</del>"),
        ("new", "two <ins>blue</ins>"),
        ("same", "three"),
        ("new", "four"),
    ]


def test_equal_and_empty_texts() -> None:
    assert shown("a\nb", "a\nb") == [("same", "a"), ("same", "b")]
    assert shown("", "") == []
    assert shown("", "a") == [("new", "a")]
    assert shown("a", "") == [("gone", "a")]


def test_markup_in_a_text_stays_text() -> None:
    assert word_diff("<b>", "<i>") == ("&lt;<del>b</del>&gt;", "&lt;<ins>i</ins>&gt;")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x\n" * 100_000, "x\n" * 99_999 + "y\n"),
        ("x\n" * 9_000, "y\nx\n" * 9_000),
        ("\n".join(f"a b c {n}" for n in range(9_000)), "\n".join(f"a b c {n + 1}!" for n in range(9_000))),
        ("a " * 1_999, "b a " * 999),
        (" ".join(["x"] * 500_000), " ".join(["x"] * 499_999)),
    ],
    ids=["equal lines", "every other line", "every line changed", "equal words", "one long line"],
)
def test_long_texts_are_compared_in_bounded_time(old: str, new: str) -> None:
    """Ten thousand equal lines took 11.6 s once; these would take minutes."""
    lines = text_diff(old, new)
    more = max(len(old.splitlines()), len(new.splitlines())) - MOST_LINES
    if more > 0:
        assert str(lines.pop().text) == f"… {more:,} more lines are not compared"
    assert sum(line.kind in ("same", "gone") for line in lines) == min(MOST_LINES, len(old.splitlines()))
    assert sum(line.kind in ("same", "new") for line in lines) == min(MOST_LINES, len(new.splitlines()))
