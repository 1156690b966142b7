"""The totals of each run in the ledger's file, kept by triggers with every completion that is written.

Counting a run's completions took 44 ms at 280,000 cases, and every open page asks once a second. The
triggers cost what the index cost from which they were counted: 14.5 µs a completion, either way.
As triggers they also hold for a process of an older version that has the file open.
"""

from __future__ import annotations

import sqlite3

from promptlab.domain.results import Progress
from promptlab.domain.spending import Sums, summed
from promptlab.errors import RunNotFoundError

SINCE = 3
"""The schema version that brought the table."""
_UNPRICED = "{0}cost_usd IS NULL AND {0}error_type IS NULL"
_COLUMNS = {
    "done": "1",
    "failed": "{0}error_type IS NOT NULL",
    "prompt_tokens": "ifnull({0}prompt_tokens, 0)",
    "completion_tokens": "ifnull({0}completion_tokens, 0)",
    "cost_usd": "ifnull({0}cost_usd, 0.0)",
    "unknown_tokens": "({0}prompt_tokens IS NULL OR {0}completion_tokens IS NULL) "
    "AND ({0}error_type IS NULL OR {0}cost_usd IS NULL)",
    "unknown_cost": "{0}cost_usd IS NULL",
    "unpriced": _UNPRICED,
}
"""What one completion adds to each total: the rules of `domain.spending.spent`, in SQL."""
_CANCELLED = 1_000
"""How many times as large as what is left an amount may be that is subtracted. Beyond that, too few of a
number's 16 digits are left: the costs are added up anew."""


def _each(text: str, joined: str = ", ") -> str:
    return joined.join(text.format(name=name) for name in _COLUMNS)


def _of(row: str) -> dict[str, str]:
    return {name: f"({amount.format(row)})" for name, amount in _COLUMNS.items()}


def _schema() -> str:
    new, old = _of("NEW."), _of("OLD.")
    changed = {name: f"{name} - {old[name]} + {new[name]}" for name in _COLUMNS}
    again = "(SELECT total(cost_usd) FROM completion WHERE run_id = NEW.run_id)"
    changed["cost_usd"] = (
        f"iif({old['cost_usd']} = 0 OR abs({old['cost_usd']}) <= {_CANCELLED} * "
        f"abs(cost_usd - {old['cost_usd']}), {changed['cost_usd']}, {again})"
    )
    sets = ", ".join(f"{name} = {value}" for name, value in changed.items())
    less = ", ".join(f"{name} = ifnull({name} - {old[name]}, 0)" for name in _COLUMNS)
    # REAL: sums of whole numbers that leave 64 bits would be refused, and the completion with them.
    return f"""
CREATE TABLE IF NOT EXISTS tally (run_id TEXT NOT NULL PRIMARY KEY, {_each("{name} REAL NOT NULL")})
STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS tally_added AFTER INSERT ON completion BEGIN
    INSERT INTO tally VALUES (NEW.run_id, {", ".join(new.values())})
    ON CONFLICT DO UPDATE SET {_each("{name} = {name} + excluded.{name}")};
END;
CREATE TRIGGER IF NOT EXISTS tally_replaced AFTER UPDATE ON completion BEGIN
    UPDATE tally SET {sets} WHERE run_id = NEW.run_id;
END;
CREATE TRIGGER IF NOT EXISTS tally_removed AFTER DELETE ON completion BEGIN
    UPDATE tally SET {less} WHERE run_id = OLD.run_id;
END;
"""


SCHEMA = _schema()
_COUNTED = ", ".join(f"total{amount}" for amount in _of("").values())
MIGRATE = f"""
INSERT OR REPLACE INTO tally SELECT run_id, {_COUNTED} FROM completion GROUP BY run_id;
DROP INDEX IF EXISTS completion_progress;
"""
"""Brings the totals into a file of an older version, which counted them from an index."""
COUNT = f"SELECT {_COUNTED} FROM completion WHERE run_id = ?"
_READ = f"SELECT {_each('{name}')} FROM tally WHERE run_id = ?"


def progress(connection: sqlite3.Connection, run_id: str) -> Progress:
    """How far a run is: one row, however long the run.

    Raises:
        RunNotFoundError: there is no such run.
    """
    run = connection.execute("SELECT cases FROM run WHERE run_id = ?", (run_id,)).fetchone()
    if run is None:
        raise RunNotFoundError(run_id)
    # A file of an older version gets its totals with the next write.
    kept = connection.execute("PRAGMA user_version").fetchone()[0] >= SINCE
    found = connection.execute(_READ if kept else COUNT, (run_id,)).fetchone()
    amounts = dict(zip(_COLUMNS, found or (0,) * len(_COLUMNS), strict=True))
    cost_usd = amounts.pop("cost_usd")
    done, failed, *counts = (int(amount) for amount in amounts.values())
    sums = Sums(cost_usd=cost_usd, **dict(zip(list(amounts)[2:], counts, strict=True)))
    return Progress(total=run[0], done=done, failed=failed, **summed(Sums(), sums))


def forget(connection: sqlite3.Connection, run_id: str) -> None:
    """Remove the totals of a run that is deleted."""
    connection.execute("DELETE FROM tally WHERE run_id = ?", (run_id,))
