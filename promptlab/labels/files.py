"""Labels out of a CSV file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import Any

from promptlab.domain.labels import CaseLabel
from promptlab.errors import ConfigError

COLUMNS = ("case", "trial", "id", "passed", "score", "tag", "note", "metric", "rater")
MOST_LABELS = 100_000
"""Labels of one file."""
MOST_BYTES = 50_000_000
_YES = {"1", "true", "yes", "y", "pass", "passed", "good"}
_NO = {"0", "false", "no", "n", "fail", "failed", "bad"}
_CASE = re.compile(r"(\d{1,9})(?:\.(\d{1,6}))?")
_OTHER_NAMES = {"pass": "passed", "category": "tag", "label": "tag", "comment": "note", "row": "case"}


def labels_in(data: bytes) -> list[CaseLabel]:
    """Read labels: a line each, by a header with some of COLUMNS, of which `case` or `id` names the case.

    A case is its row, from 0, and after a dot the trial, as in `12.1`. `passed` is true or false, pass or
    fail, yes or no, 1 or 0. Commas, semicolons and tabs divide; further columns are left out.

    Raises:
        ConfigError: the file is too large, or a line is wrong; the message names the line.
    """
    if len(data) > MOST_BYTES:
        raise ConfigError(f"The file has {len(data):,} bytes; {MOST_BYTES:,} at most.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"The file is not UTF-8: byte {error.start:,} cannot be read.") from None
    header = text[: text.find("\n")] if "\n" in text else text
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        names = {name: _name(name) for name in reader.fieldnames or ()}
        known = set(names.values())
        if not known & {"case", "id"} or not known & {"passed", "score", "tag", "note"}:
            raise ConfigError(
                "The first line names the columns: `case` or `id`, and at least one of passed, score, tag "
                f"and note. It has {', '.join(map(repr, names)) or 'nothing'}."
            )
        found: list[CaseLabel] = []
        for line in reader:
            if len(found) == MOST_LABELS:
                raise ConfigError(f"The file has more than {MOST_LABELS:,} labels: divide it.")
            given = {names[name]: (value or "").strip() for name, value in line.items() if name is not None}
            found.append(_label(given, reader.line_num))
    except csv.Error as error:
        raise ConfigError(f"Line {reader.line_num:,} is no CSV: {error}.") from None
    return found


def _name(name: str) -> str:
    plain = name.strip().lower()
    return _OTHER_NAMES.get(plain, plain)


def _label(given: Mapping[str, str], line: int) -> CaseLabel:
    fields: dict[str, Any] = {
        name: given[name] for name in ("tag", "note", "metric", "rater", "id") if given.get(name)
    }
    if place := given.get("case"):
        found = _CASE.fullmatch(place)
        if not found:
            raise ConfigError(f"Line {line:,}: {place[:50]!r} is no case: a row, from 0, as in 12 or 12.1.")
        fields |= {"case": int(found[1]), "trial": int(found[2] or 0)}
    elif not given.get("id"):
        raise ConfigError(f"Line {line:,} names no case: give `case` or `id`.")
    if trial := given.get("trial"):
        if not trial.isdecimal() or len(trial) > 6:
            raise ConfigError(f"Line {line:,}: {trial[:50]!r} is no trial: a number, from 0.")
        fields["trial"] = int(trial)
    if passed := given.get("passed", "").lower():
        if passed not in _YES | _NO:
            raise ConfigError(f"Line {line:,}: passed is {passed[:50]!r}: give true or false.")
        fields["passed"] = passed in _YES
    if score := given.get("score"):
        try:
            fields["score"] = float(score)
        except ValueError:
            raise ConfigError(f"Line {line:,}: the score {score[:50]!r} is no number.") from None
    if not fields.keys() & {"passed", "score", "tag", "note"}:
        raise ConfigError(f"Line {line:,} says nothing: give passed, a score, a tag or a note.")
    return CaseLabel(**fields)
