//! The source database: the to-do table, and a marker that says when all before it has arrived.

use anyhow::Result;
use tidewater_tests::Postgres;

/// A user to whom one row in a thousand belongs.
pub(crate) const OWNER: &str = "00000000-0000-4000-8000-000000000001";

const TABLES: &str = "
    CREATE TABLE todos (
        id uuid PRIMARY KEY, created_at timestamptz NOT NULL, completed boolean NOT NULL,
        description text NOT NULL, list_id uuid NOT NULL, owner_id uuid NOT NULL);
    CREATE TABLE marker (id text PRIMARY KEY, text text NOT NULL);
    INSERT INTO marker VALUES ('1', 'before');
    CREATE PUBLICATION powersync FOR TABLE todos, marker;";

/// How the rows are cut into buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One bucket with all of them.
    Global,
    /// One for each of 1,000 owners.
    PerOwner,
}

impl Layout {
    pub(crate) const ALL: [Self; 2] = [Self::Global, Self::PerOwner];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::PerOwner => "per owner",
        }
    }

    /// The sync config. Whether clients get the to-dos by default is the measurement's to say: one
    /// that waits for the marker alone must not be busy with the rest.
    pub(crate) fn sync_config(self, todos_by_default: bool) -> String {
        let filter = match self {
            Self::Global => "",
            Self::PerOwner => " WHERE owner_id = auth.user_id()",
        };
        format!(
            "config:\n  edition: 3\nstreams:\n  todos:\n    auto_subscribe: {todos_by_default}\n    \
             query: SELECT * FROM todos{filter}\n  marker:\n    auto_subscribe: true\n    \
             query: SELECT * FROM marker\n"
        )
    }
}

/// A PostgreSQL with the tables and a publication of them.
pub(crate) struct Source {
    pub(crate) postgres: Postgres,
}

impl Source {
    pub(crate) async fn with_rows(rows: u64) -> Result<Self> {
        let postgres = Postgres::start().await?;
        postgres.execute(TABLES).await?;
        postgres.execute(&insert(rows)).await?;
        postgres.execute("ANALYZE todos").await?;
        postgres.execute("CHECKPOINT").await?;
        Ok(Self { postgres })
    }

    pub(crate) fn url(&self) -> String {
        self.postgres.url("postgres")
    }

    /// Where the log ends now.
    pub(crate) async fn position(&self) -> Result<String> {
        self.postgres.value("SELECT pg_current_wal_lsn()::text").await
    }

    /// A transaction of one row that everybody gets.
    pub(crate) async fn mark(&self, text: &str) -> Result<()> {
        self.postgres.execute(&format!("UPDATE marker SET text = '{text}'")).await
    }
}

/// New rows in one transaction: about 265 bytes each as JSON, evenly over the owners.
pub(crate) fn insert(rows: u64) -> String {
    format!("INSERT INTO todos SELECT {ROW} FROM generate_series(1, {rows}) AS n")
}

/// New rows in a transaction each.
pub(crate) fn insert_one_by_one(rows: u64) -> String {
    format!(
        "DO $$ BEGIN FOR n IN 1..{rows} LOOP INSERT INTO todos SELECT {ROW}; COMMIT; END LOOP; \
         END $$"
    )
}

const ROW: &str = "gen_random_uuid(), now(), n % 3 = 0, \
    'Buy milk, bread and more: ' || md5(n::text), gen_random_uuid(), \
    ('00000000-0000-4000-8000-' || lpad((n % 1000)::text, 12, '0'))::uuid";
