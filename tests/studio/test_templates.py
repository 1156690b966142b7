"""The templates' source: what a review of them needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from promptlab_studio.templating import FOLDER, environment

TEMPLATES = sorted((FOLDER / "templates").rglob("*.html"))
MOST_CHARACTERS = 160
_BLOCKS = re.compile(r"<(tr|td|th|li|section|article|p|dt|dd)\b")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_can_be_read(path: Path) -> None:
    """No line above 160 characters, and the parts of an element under each other."""
    text = path.read_text()
    lines = text.splitlines()
    assert [n for n, line in enumerate(lines, 1) if len(line) > MOST_CHARACTERS] == []
    crowded = [n for n, line in enumerate(lines, 1) if len(_BLOCKS.findall(line)) > 3]
    assert crowded == []


def test_what_is_sent_has_no_indentation() -> None:
    """The indentation is for readers of the source."""
    source, *_ = environment().loader.get_source(environment(), "runs.html")  # type: ignore[union-attr]
    assert not re.search(r"\n +<", source)
