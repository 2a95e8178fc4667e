-- All of our tables in the app's database. `LAYOUT.md` explains each.
CREATE TABLE IF NOT EXISTS _tw_state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    format INTEGER NOT NULL,
    client_id TEXT NOT NULL,
    schema_generation INTEGER NOT NULL DEFAULT 0,
    tx_id INTEGER NOT NULL DEFAULT 1,
    applying INTEGER NOT NULL DEFAULT 0,
    gate INTEGER NOT NULL DEFAULT 0,
    checkpoint INTEGER,
    synced_at_ms INTEGER,
    user_id TEXT,
    is_unit INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS _tw_schema (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    sql TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS _tw_types (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS _tw_buckets (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    position INTEGER NOT NULL DEFAULT 0,
    sum INTEGER NOT NULL DEFAULT 0,
    count_at_checkpoint INTEGER NOT NULL DEFAULT 0,
    count_since INTEGER NOT NULL DEFAULT 0,
    is_cleared INTEGER NOT NULL DEFAULT 0,
    has_staged INTEGER NOT NULL DEFAULT 0,
    has_rows INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS _tw_rows (
    type INTEGER NOT NULL,
    id TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    subkey TEXT NOT NULL,
    op_id INTEGER NOT NULL,
    payload TEXT,
    PRIMARY KEY (type, id, bucket, subkey)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _tw_packs (
    id INTEGER PRIMARY KEY,
    type INTEGER NOT NULL,
    first TEXT NOT NULL,
    last TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    copies BLOB NOT NULL,
    UNIQUE (type, first)
);
CREATE TABLE IF NOT EXISTS _tw_staged (
    seq INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    type INTEGER NOT NULL,
    id TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    subkey TEXT NOT NULL,
    op_id INTEGER NOT NULL,
    data TEXT
);
CREATE TABLE IF NOT EXISTS _tw_snapshots (
    bucket INTEGER PRIMARY KEY,
    line TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS _tw_touched (
    type INTEGER NOT NULL,
    id TEXT NOT NULL,
    base TEXT,
    PRIMARY KEY (type, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _tw_queue (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    tx_id INTEGER NOT NULL,
    op TEXT NOT NULL,
    type INTEGER NOT NULL,
    id TEXT NOT NULL,
    data TEXT,
    is_unit INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS _tw_queue_tx ON _tw_queue (tx_id);
CREATE TABLE IF NOT EXISTS _tw_rejected (
    tx_id INTEGER PRIMARY KEY,
    reason TEXT NOT NULL,
    body TEXT,
    operations TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    user_id TEXT
);
CREATE TABLE IF NOT EXISTS _tw_replaced (
    type INTEGER NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (type, id)
) WITHOUT ROWID;
