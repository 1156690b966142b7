-- The ledger's tables. A body is the whole record as JSON; the columns beside it are what is searched, ordered or counted.
-- Bodies run from 200 bytes to megabytes: such tables keep their rowid, so that the keys' index stays small.

CREATE TABLE IF NOT EXISTS asset (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, name, version)
) STRICT;

CREATE TABLE IF NOT EXISTS label (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (kind, name, label)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS run (
    run_id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_at TEXT NOT NULL,
    status TEXT NOT NULL,
    cases INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS run_by_time ON run (created_at, run_id);
CREATE INDEX IF NOT EXISTS run_by_name ON run (name, created_at, run_id);

CREATE TABLE IF NOT EXISTS completion (
    run_id TEXT NOT NULL,
    shard INTEGER NOT NULL,
    case_number INTEGER NOT NULL,
    trial INTEGER NOT NULL,
    error_type TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cost_usd REAL,
    latency_ms REAL,
    body BLOB NOT NULL,
    PRIMARY KEY (run_id, shard, case_number, trial)
) STRICT;
-- Since version 3: what progress counts is in the table tally, which triggers keep (sqlite_tally.py).

CREATE TABLE IF NOT EXISTS score_set (
    run_id TEXT NOT NULL,
    shard INTEGER NOT NULL,
    case_number INTEGER NOT NULL,
    trial INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (run_id, shard, case_number, trial)
) STRICT;

-- Since version 4: the turns of conversations under way.
CREATE TABLE IF NOT EXISTS turn (
    run_id TEXT NOT NULL,
    shard INTEGER NOT NULL,
    case_number INTEGER NOT NULL,
    trial INTEGER NOT NULL,
    number INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (run_id, shard, case_number, trial, number)
) STRICT;

CREATE TABLE IF NOT EXISTS shard (
    run_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (run_id, number)
) STRICT;

-- Since version 2: sessions, tokens and the like.
CREATE TABLE IF NOT EXISTS record (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    expires_at REAL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS record_by_expiry ON record (expires_at);
