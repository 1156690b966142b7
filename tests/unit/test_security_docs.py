"""docs/security.md proves what it says: each threat has its control and a test, and its numbers are those of
the tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.studio.test_hostile import REQUESTS
from tests.unit.hostile import HOSTILE
from tests.unit.test_outbound import ELSEWHERE

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/security.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
TEST = re.compile(r"\b(?:tests/(\w+)/)?(test_\w+\.py)\b")
WORDS = ("hostile bundles", "as above", "the template's test")
"""What stands in a table for a test that the section names."""
SHOWS = "What crosses which boundary"
"""The section that is a picture, and proves nothing."""


def threats() -> Iterator[tuple[str, list[str]]]:
    """The rows of tables whose last column is headed *proven by*."""
    for name, text in SECTIONS.items():
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            head, _, *rows = (
                [cell.strip() for cell in line.strip("|\n ").split(" | ")] for line in table.splitlines()
            )
            if head[-1].endswith("proven by"):
                yield from ((name, row) for row in rows)


def test_every_threat_has_a_control_and_a_test() -> None:
    """In the tables of people and of code; there is no row without."""
    found = [*threats()]
    assert len(found) > 20
    for section, row in found:
        assert len(row) == 3 and row[1], (section, row)
        assert TEST.search(row[2]) or any(word in row[2] for word in WORDS), (section, row)


@pytest.mark.parametrize("section", sorted(SECTIONS.keys() - {SHOWS}))
def test_every_section_names_a_test_that_has_tests(section: str) -> None:
    """A file alone proves nothing. One without a folder is of tests/studio or tests/unit."""
    named = TEST.findall(SECTIONS[section])
    assert named, section
    for folder, name in named:
        places = [folder] if folder else ["studio", "unit"]
        found = [ROOT / "tests" / place / name for place in places]
        texts = [path.read_text("utf-8") for path in found if path.is_file()]
        assert texts and re.search(r"^(async )?def test_", texts[0], re.MULTILINE), (section, name)


def test_numbers_are_those_of_the_tests() -> None:
    """Rounded down, as people say them."""
    requests = int(re.findall(r"test_hostile\.py`: ([\d,]+) requests", TEXT)[0].replace(",", ""))
    assert requests <= len(REQUESTS) < requests + 100
    bundles = int(re.findall(r"more than (\d+) of them", TEXT)[0])
    assert bundles < len(HOSTILE) <= bundles + 10
    assert "thirty-eight ways to write an address" in TEXT and len(ELSEWHERE) == 38


def test_what_could_not_be_proven_is_said() -> None:
    """Where something is AWS's own: the stack, addresses, people, code; each section says what."""
    for section in ("The stack in AWS", "Addresses", "People", "Code of users"):
        assert re.search(r"not\s+(be )?proven\s+(here|without)", SECTIONS[section], re.IGNORECASE), section
