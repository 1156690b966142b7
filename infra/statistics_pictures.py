"""Draws the pictures of docs/statistics from the formulas that are shipped.

.venv/bin/python infra/statistics_pictures.py
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

from promptlab.statistics import (
    Judgement,
    binomial_pmf,
    judge,
    obrien_fleming,
    paired_data,
    tango,
    wilson,
)
from promptlab.statistics.sequential import Sequential

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDTH = 760
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .note { font-size: 11px; fill: #59636e }
.head { font-weight: 600 } .axis { stroke: #8c959f } .zone { fill: #dbe4ff }
.good { fill: #17693d; stroke: #17693d } .bad { fill: #ad1f14; stroke: #ad1f14 }
.even { fill: #3147b8; stroke: #3147b8 }
.tie { fill: #d0d7de; stroke: none } text.good, text.bad, text.even { stroke: none; font-weight: 600 }
.line { fill: none; stroke-width: 2 } .back { fill: #ffffff }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .note { fill: #9198a1 } .axis { stroke: #6e7681 } .zone { fill: #1c2b59 }
.tie { fill: #3d444d } .good { fill: #56d18a; stroke: #56d18a } .bad { fill: #ff8177; stroke: #ff8177 }
.even { fill: #8ea2ff; stroke: #8ea2ff }
.line { fill: none } .back { fill: #0d1117 }
}"""
"""For light and for dark pages."""
Scale = Callable[[float], float]


def drawn() -> dict[str, str]:
    """Give every picture as SVG, by the name of its file."""
    return {
        "verdicts.svg": _verdicts(),
        "verdict-anatomy.svg": _anatomy(),
        "missing-scores.svg": _missing(),
        "coverage-wilson.svg": _wilson(),
        "stopping.svg": _stopping(),
    }


def _picture(height: int, title: str, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-label="{escape(title)}">\n<style>{STYLE}\n</style>\n'
        f'<rect class="back" width="{WIDTH}" height="{height}"/>\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, words: str, css: str = "", anchor: str = "start") -> str:
    shown = f' class="{css}"' if css else ""
    return f'<text{shown} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, css: str = "axis", width: float = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line class="{css}" {ends} stroke-width="{width:g}"/>'


def _rect(x1: float, x2: float, y: float, height: float, css: str) -> str:
    return f'<rect class="{css}" x="{x1:.1f}" y="{y:.1f}" width="{x2 - x1:.1f}" height="{height:.1f}"/>'


def _interval(at: Scale, y: float, low: float, mean: float, high: float, css: str) -> Iterable[str]:
    yield _line(at(low), y, at(high), y, css, 3)
    for end in (low, high):
        yield _line(at(end), y - 6, at(end), y + 6, css, 2)
    yield f'<circle class="{css}" cx="{at(mean):.1f}" cy="{y:.1f}" r="5"/>'


def _signed(value: float, digits: int = 2) -> str:
    """`+.02`, as tables of statistics write it."""
    return f"{value:+.{digits}f}".replace("0.", ".").replace("-", "−") if value else "0"


def _scale(low: float, high: float, left: float = 190.0, right: float = WIDTH - 20.0) -> Scale:
    return lambda value: left + (value - low) / (high - low) * (right - left)


def _compared(wins: int, losses: int, rows: int, gone: int = 0) -> Judgement:
    """The judgement of two pass/fail runs with so many rows won and lost; of `gone` more the other run has no
    score."""
    ties = rows - wins - losses
    base = [0.0] * wins + [1.0] * losses + [1.0] * ties + [1.0] * gone
    other: list[float | None] = [*([1.0] * wins), *([0.0] * losses), *([1.0] * ties), *([None] * gone)]
    (found,) = judge([paired_data(base, other)])
    return found


CASES = (
    (_compared(110, 70, 1_000), "p, adjusted for all metrics and runs, is at most .05"),
    (_compared(152, 209, 1_319), "6b_verification → 175b_finetuning on GSM8K"),
    (_compared(10, 8, 1_319), "the whole interval lies within ±δ"),
    (_compared(60, 44, 1_000), "only its lower end has to lie above −δ"),
    (_compared(30, 33, 300), "it reaches beyond −δ: more rows are needed"),
    (_compared(60, 20, 400, gone=60), "60 rows have no score: as failures they would turn the sign"),
    (_compared(2, 1, 60), "fewer than five rows differ"),
)
"""One comparison for each verdict, and what decides it."""


def _verdicts() -> str:
    at, parts = _scale(-0.09, 0.16), list[str]()
    bottom = 46 + 46 * len(CASES)
    parts.append(_rect(at(-0.02), at(0.02), 36, bottom - 36, "zone"))
    parts.append(_text(at(0), 26, "±δ, .02: a difference that does not matter", "note", "middle"))
    parts.append(_line(at(0), 36, at(0), bottom))
    for tick in range(-8, 17, 4):
        parts.append(_text(at(tick / 100), bottom + 16, _signed(tick / 100), "note", "middle"))
    for place, (found, why) in enumerate(CASES):
        y = 60 + 46 * place
        assert found.ci_low is not None and found.ci_high is not None and found.difference is not None
        css = {"better": "good", "worse": "bad"}.get(str(found.verdict), "even")
        parts.append(_text(12, y + 4, str(found.verdict).replace("δ", ".02"), css))
        parts += _interval(at, y, found.ci_low, found.difference, found.ci_high, css)
        parts.append(_text(at(0.035), y + 21, why, "note", "middle"))
    title = "An interval for each verdict, around 0 and a margin of .02, with what decides it"
    return _picture(bottom + 28, title, parts)


def _anatomy() -> str:
    wins, losses, rows = 152, 209, 1_319
    found, at = _compared(wins, losses, rows), _scale(-0.08, 0.02)
    assert found.ci_low is not None and found.ci_high is not None and found.difference is not None
    row = _scale(0, rows)
    parts = [
        _text(12, 54, "1,319 rows", "head"),
        _rect(row(0), row(wins), 40, 22, "good"),
        _rect(row(wins), row(rows - losses), 40, 22, "tie"),
        _rect(row(rows - losses), row(rows), 40, 22, "bad"),
        _text(row(wins / 2), 30, f"{wins} won", "good", "middle"),
        _text(row(rows / 2), 30, f"{rows - wins - losses} the same in both", "note", "middle"),
        _text(row(rows - losses / 2), 30, f"{losses} lost", "bad", "middle"),
        _text(row(rows / 2), 80, "only the rows that differ tell the runs apart", "note", "middle"),
        _text(12, 134, "difference", "head"),
        _line(at(-0.08), 130, at(0.02), 130),
        *_interval(at, 130, found.ci_low, found.difference, found.ci_high, "bad"),
        _line(at(0), 112, at(0), 148),
        _text(at(0), 106, "0: no difference", "note", "middle"),
        _text(at(found.difference), 116, _signed(found.difference, 4), "bad", "middle"),
        _text(at(found.ci_low), 156, _signed(found.ci_low, 4), "note", "middle"),
        _text(at(found.ci_high), 156, _signed(found.ci_high, 4), "note", "middle"),
        _text(at((found.ci_low + found.ci_high) / 2), 172, "95% interval (Tango)", "note", "middle"),
        _text(12, 206, "p .0027", "head"),
        _text(190, 206, "of two equal runs so uneven a split of 361 rows comes in 1 of 372 comparisons"),
        _text(12, 234, "verdict", "head"),
        _text(190, 234, str(found.verdict), "bad"),
        _text(242, 234, "p is at most .05, and 209 lost are more than 152 won"),
    ]
    return _picture(252, "How the verdict of one metric comes about, of two runs over 1,319 rows", parts)


def _missing() -> str:
    at = _scale(-0.02, 0.42)
    low, high = tango(360, 76, 1_319)  # 175b_finetuning → 175b_verification, refusals as wrong answers
    lines = (
        ("exclude", 0.251, 0.2831, 0.315, "the rows that both runs have a score of"),
        ("fail", low, (360 - 76) / 1_319, high, "the 217 refusals count as wrong answers"),
    )
    parts = [_line(at(0), 30, at(0), 190), _text(at(0), 22, "0", "note", "middle")]
    for tick in (0.1, 0.2, 0.3, 0.4):
        parts.append(_text(at(tick), 22, _signed(tick, 1), "note", "middle"))
    for place, (name, low, mean, high, why) in enumerate(lines):
        y = 54 + 50 * place
        parts += [_text(12, y + 4, name, "head"), *_interval(at, y, low, mean, high, "even")]
        parts.append(_text(at(0.2), y + 22, why, "note", "middle"))
    parts += [
        _text(12, 158, "worst case", "head"),
        _rect(at(0.2153), at(0.3798), 148, 12, "zone"),
        _line(at(0.2153), 144, at(0.2153), 164, "even", 2),
        _line(at(0.3798), 144, at(0.3798), 164, "even", 2),
        _text(
            at(0.2),
            182,
            "whatever the missing scores are, the mean difference lies in here",
            "note",
            "middle",
        ),
    ]
    return _picture(196, "One comparison with 217 refusals, as missing says, and its worst case range", parts)


def _wilson() -> str:
    top, bottom, x = 30.0, 230.0, _scale(0.0, 1.0, 60.0)

    def y(covered: float) -> float:
        return bottom - (covered - 0.88) / 0.12 * (bottom - top)

    parts = [_line(60, y(0.95), WIDTH - 20, y(0.95)), _text(54, y(0.95) + 4, "95%", "note", "end")]
    parts += [_text(54, y(one) + 4, f"{one:.0%}", "note", "end") for one in (0.9, 1.0)]
    parts += [
        _text(x(p), bottom + 18, f"{p:g}".lstrip("0"), "note", "middle") for p in (0.1, 0.3, 0.5, 0.7, 0.9)
    ]
    for n, css in ((20, "bad"), (100, "even")):
        ends = [wilson(k, n) for k in range(n + 1)]
        points = []
        for step in range(10, 991, 5):
            p = step / 1_000
            covered = sum(binomial_pmf(k, n, p) for k, e in enumerate(ends) if e.low <= p <= e.high)
            points.append(f"{x(p):.1f},{y(max(covered, 0.88)):.1f}")
        parts.append(f'<polyline class="line {css}" points="{" ".join(points)}"/>')
        parts.append(_text(x(0.5) + (n - 60) * 4, 20, f"n = {n}", css, "middle"))
    parts.append(_text(x(0.5), bottom + 36, "the true share", "note", "middle"))
    return _picture(280, "How often Wilson's interval holds the true share, by that share", parts)


ORDER = 3
"""The seed of the order that the picture shows."""


def _stopping() -> str:
    rows, looks = 1_319, 10
    draw, rule = random.Random(ORDER), Sequential(rows, looks=looks)
    zs, up, down = [(0, 0.0)], 0, 0
    while rule.decided is None and len(zs) <= rows:
        u = draw.random()
        d = 1.0 if u < 0.17 else -1.0 if u < 0.27 else 0.0
        up, down = up + (d > 0), down + (d < 0)
        rule.add([d])
        zs.append((len(zs), (up - down) / math.sqrt(up + down) if up + down else 0.0))
    assert rule.decided is not None
    x, middle = _scale(0, rows, 60.0, WIDTH - 40.0), 150.0

    def y(z: float) -> float:
        return middle - z * 18

    parts = [_line(60, middle, WIDTH - 20, middle), _text(54, middle + 4, "z = 0", "note", "end")]
    for end, bound in zip(rule.ends, obrien_fleming(looks, 0.04), strict=True):
        for side in (bound, -bound):
            parts.append(_line(x(end) - 16, y(side), x(end) + 16, y(side), "even", 3))
        parts.append(_text(x(end), 290, f"{end:,}", "note", "middle"))
    points = " ".join(f"{x(n):.1f},{y(z):.1f}" for n, z in zs)
    parts.append(f'<polyline class="line good" points="{points}"/>')
    n, z = zs[-1]
    parts.append(f'<circle class="good" cx="{x(n):.1f}" cy="{y(z):.1f}" r="5"/>')
    words = f"{rule.decided.verdict} after {rule.decided.n:,} of {rows:,} cases ({rule.decided.by})"
    parts.append(_text(x(n) + 10, y(z) - 8, words, "good"))
    parts.append(
        _text(
            x(rows / 2), 308, "cases in their random order; a bar is the boundary of a look", "note", "middle"
        )
    )
    return _picture(320, "A comparison that is decided before all cases are done", parts)


if __name__ == "__main__":
    for name, picture in drawn().items():
        (FOLDER / name).write_text(picture, "utf-8")
