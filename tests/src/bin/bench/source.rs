//! The source database: the to-do table, and a marker row that is updated after all other changes.

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

/// The division of the rows into buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BucketLayout {
    /// One bucket with all rows.
    Global,
    /// One bucket for each of 1,000 owners.
    PerOwner,
}

impl BucketLayout {
    pub(crate) const ALL: [Self; 2] = [Self::Global, Self::PerOwner];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::PerOwner => "per owner",
        }
    }

    /// Returns the sync config.
    ///
    /// A client that only waits for the marker must not spend time on the to-dos, so they may need
    /// an explicit subscription.
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

/// A PostgreSQL cluster with the tables and a publication of them.
pub(crate) struct SourceDatabase {
    pub(crate) postgres: Postgres,
}

impl SourceDatabase {
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

    /// Returns the current end of the WAL.
    pub(crate) async fn position(&self) -> Result<String> {
        self.postgres.value("SELECT pg_current_wal_lsn()::text").await
    }

    /// Sets the text of the marker row, which every client receives.
    pub(crate) async fn set_marker(&self, text: &str) -> Result<()> {
        self.postgres.execute(&format!("UPDATE marker SET text = '{text}'")).await
    }
}

/// Returns SQL that inserts rows in one transaction.
///
/// A row has about 265 bytes as JSON. Each owner has the same number of rows.
pub(crate) fn insert(rows: u64) -> String {
    format!("INSERT INTO todos SELECT {ROW} FROM generate_series(1, {rows}) AS n")
}

/// Returns SQL that inserts each row in a transaction of its own.
pub(crate) fn insert_one_by_one(rows: u64) -> String {
    format!(
        "DO $$ BEGIN FOR n IN 1..{rows} LOOP INSERT INTO todos SELECT {ROW}; COMMIT; END LOOP; \
         END $$"
    )
}

/// Values of row `n`.
const ROW: &str = "gen_random_uuid(), now(), n % 3 = 0, \
    'Buy milk, bread and more: ' || md5(n::text), gen_random_uuid(), \
    ('00000000-0000-4000-8000-' || lpad((n % 1000)::text, 12, '0'))::uuid";
