"""Model output as HTML that cannot do anything: markdown without HTML in it, JSON, or plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup, escape
from rapidfuzz.distance import LCSseq

from promptlab_studio.views.json_text import indented

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

Form = Literal["markdown", "json", "plain"]
FORMS: tuple[Form, ...] = ("markdown", "json", "plain")
_MOST_MARKDOWN = 20_000
"""Characters; a longer answer is shown as it is, so that a page never has more
elements than a browser likes."""
_MOST_TOKENS = 800
_MARKS = re.compile(
    r"^#{1,6} |\*\*\S|^```|^\s{0,3}([-*+]|\d+\.) |^\|.*\|\s*$|\[[^\]\n]+\]\(|`[^`\n]+`|^> ", re.MULTILINE
)
_ALIGN = re.compile(r"text-align:(left|center|right)")
_CLASSES = {"left": "", "center": "middle", "right": "right"}


@lru_cache(maxsize=1)
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # An image would be fetched from wherever a model says; as text it is only read.
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def form_of(text: str, asked: str = "") -> Form:
    """How to show a text: as asked, or as what it looks like."""
    if asked in FORMS:
        return asked
    if text.lstrip()[:1] in ("{", "[") and indented(text) is not None:
        return "json"
    return "markdown" if len(text) <= _MOST_MARKDOWN and _MARKS.search(text) else "plain"


def shown(text: str, form: Form) -> Markup:
    """The text as HTML; what is not JSON, or too long for markdown, as it is."""
    if form == "json" and (pretty := indented(text)) is not None:
        return Markup("<pre tabindex=0 dir=auto>{}</pre>").format(pretty)
    if form == "markdown" and len(text) <= _MOST_MARKDOWN:
        tokens = _markdown().parse(text)
        if sum(1 + len(t.children or ()) for t in tokens) <= _MOST_TOKENS:
            return _prose(tokens)
    return Markup("<pre tabindex=0 dir=auto>{}</pre>").format(text)


def _prose(tokens: Sequence[Token]) -> Markup:
    for token in tokens:
        _without_style(token.attrs)
        for child in token.children or ():
            if child.type == "link_open":
                child.attrs |= {"rel": "noopener noreferrer nofollow", "target": "_blank"}
    md = _markdown()
    rendered = md.renderer.render(tokens, md.options, {})
    return Markup('<div class="prose" tabindex="0" dir="auto">') + Markup(rendered) + Markup("</div>")


def _without_style(attrs: MutableMapping[str, Any]) -> None:
    """The page's policy forbids inline styles; a column's alignment becomes a class."""
    found = _ALIGN.search(str(attrs.pop("style", "")))
    if found and _CLASSES[found[1]]:
        attrs["class"] = _CLASSES[found[1]]


_WORD = re.compile(r"\s+|\w+|[^\w\s]")
_MOST_WORDS = 4_000
_MOST_MARKED = 200_000
"""Characters of changed lines within which words are marked."""
MOST_LINES = 5_000
"""Lines of a text that are compared, and shown: 10,000 × 10,000 took 0.1 s."""

MOST_COMPARED = 80_000
"""Characters of a text that are compared, and shown: a page has 4 MB, and two of these, escaped, 0.8."""

Change = tuple[list[str], list[str]]
"""A part of the old text and the part of the new one in its place: the same, or another."""


def changes(old: list[str], new: list[str]) -> Iterator[Change]:
    """Align two lists of words or lines by their longest common subsequence."""
    gone, came = list[str](), list[str]()
    for step in LCSseq.opcodes(old, new):
        here, there = old[step.src_start : step.src_end], new[step.dest_start : step.dest_end]
        if step.tag == "equal":
            if gone or came:
                yield gone, came
                gone, came = [], []
            yield here, there
        else:
            gone += here
            came += there
    if gone or came:
        yield gone, came


def word_diff(old: str, new: str) -> tuple[Markup, Markup]:
    """Mark what differs between two texts: with `del` in the one, with `ins` in the other."""
    a, b = _WORD.findall(old), _WORD.findall(new)
    if len(a) + len(b) > _MOST_WORDS or old == new:
        return escape(old), escape(new)
    left, right = [], []
    for gone, came in _joined(list(changes(a, b))):
        before, after = "".join(gone), "".join(came)
        same = before == after
        left.append(escape(before) if same or not before else Markup("<del>{}</del>").format(before))
        right.append(escape(after) if same or not after else Markup("<ins>{}</ins>").format(after))
    return Markup().join(left), Markup().join(right)


_ALIKE = 0.5
"""The share of words that two texts have in common, in order, from which on a diff of them says something."""


def alike(one: str, other: str) -> bool:
    """Whether two texts are much the same, but not the same."""
    a, b = _WORD.findall(one), _WORD.findall(other)
    if one == other or not a or not b or len(a) + len(b) > _MOST_WORDS:
        return False
    return LCSseq.normalized_similarity(a, b) >= _ALIKE


def _joined(found: list[Change]) -> list[Change]:
    """Join changes with nothing but space between them: words in a row are one mark."""
    made = list[Change]()
    for n, (gone, came) in enumerate(found):
        between = gone == came and made and n + 1 < len(found) and not "".join(gone).strip(" ")
        changed = gone != came and made and made[-1][0] != made[-1][1]
        if between or changed:
            made[-1] = (made[-1][0] + gone, made[-1][1] + came)
        else:
            made.append((gone, came))
    return made


@dataclass(frozen=True, slots=True)
class DiffLine:
    """A line of a text diff."""

    kind: str
    """same, gone or new."""
    text: Markup


def text_diff(old: str, new: str, most: int = MOST_LINES) -> list[DiffLine]:
    """Compare two texts line by line, and within changed lines word by word; of long ones the first `most`
    lines, and MOST_COMPARED characters."""
    lines, left, a, b = list[DiffLine](), _MOST_MARKED, old.splitlines(), new.splitlines()
    length = max(len(a), len(b))
    a, b = _beginning(a, most), _beginning(b, most)
    more = length - max(len(a), len(b))
    for gone, came in changes(a, b):
        if gone == came:
            lines += [DiffLine("same", escape(line)) for line in gone]
            continue
        left -= sum(map(len, gone)) + sum(map(len, came))
        if len(gone) == len(came) and left >= 0:
            pairs = [word_diff(x, y) for x, y in zip(gone, came, strict=True)]
        else:
            pairs = []
        before = [p[0] for p in pairs] or [escape(line) for line in gone]
        after = [p[1] for p in pairs] or [escape(line) for line in came]
        lines += [DiffLine("gone", line) for line in before] + [DiffLine("new", line) for line in after]
    if more > 0:
        lines.append(DiffLine("same", escape(f"… {more:,} more lines are not compared")))
    return lines


def _beginning(lines: list[str], most: int) -> list[str]:
    """The first lines of a text; a line that is too long itself says how much of it is left out."""
    found, left = list[str](), MOST_COMPARED
    for line in lines[:most]:
        if left <= 0:
            break
        more = len(line) - left
        found.append(line if more <= 0 else f"{line[:left]} … {more:,} more characters are not compared")
        left -= len(line)
    return found
