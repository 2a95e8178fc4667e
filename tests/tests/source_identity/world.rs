//! Tables in a source, a worker, and a reader that is compared with the source.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use tidewater_tests::{DevOptions, LineEffect, Postgres, SyncReader, Tidewater, eventually};

/// Timeout of a wait. It is long because other tests run beside this one, and because the worker
/// reads the catalog every ten seconds.
pub(super) const SOON: Duration = Duration::from_secs(120);

/// Statements on one table, whose name stands for `$t`.
pub(super) struct Alteration {
    pub(super) table: &'static str,
    pub(super) sql: &'static [&'static str],
}

/// The state of the worker while something happens to the source.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Running,
    Stopped,
}

/// The rows of a table by their ids, without the ids.
type TableRows = BTreeMap<String, Map<String, Value>>;

/// A source, a worker and a reader that stays connected only for as long as it waits.
pub(super) struct World {
    pub(super) postgres: Postgres,
    tidewater: Option<Tidewater>,
    reader: SyncReader,
    tables: Vec<String>,
    /// True after [`World::end_worker`].
    is_stopped: bool,
}

impl World {
    /// Starts a source with these tables, each with 50 rows, in publication `powersync`.
    pub(super) async fn with_tables(tables: &[&str]) -> Result<Self> {
        Self::in_source(Postgres::start().await?, tables).await
    }

    /// Does what [`World::with_tables`] does, in a new source that runs already.
    pub(super) async fn in_source(postgres: Postgres, tables: &[&str]) -> Result<Self> {
        for table in tables {
            postgres.execute(&create(table)).await?;
        }
        let list = tables.join(", ");
        postgres.execute(&format!("CREATE PUBLICATION powersync FOR TABLE {list}")).await?;
        let tables = tables.iter().map(|&table| table.to_owned()).collect();
        Ok(Self { postgres, tidewater: None, reader: SyncReader::new(), tables, is_stopped: false })
    }

    /// Adds a table to what is synced and compared.
    pub(super) fn also_read(&mut self, table: &str) {
        self.tables.push(table.to_owned());
    }

    /// Runs statements one after another, each in a transaction of its own, in one session.
    pub(super) async fn execute_each(&self, statements: &str) -> Result<()> {
        let client = self.postgres.connect().await?;
        for statement in statements.split(';') {
            client.batch_execute(statement).await.with_context(|| statement.to_owned())?;
        }
        Ok(())
    }

    /// Starts the worker for the first time, and waits for the first checkpoint.
    pub(super) async fn start(&mut self) -> Result<()> {
        let mut config = "config: { edition: 3 }\nstreams:\n".to_owned();
        for table in &self.tables {
            let stream =
                format!("  {table}: {{ auto_subscribe: true, query: SELECT * FROM {table} }}\n");
            config.push_str(&stream);
        }
        let options = DevOptions::new(&self.postgres.url("postgres"), &config);
        self.tidewater = Some(Tidewater::dev_ready(options).await?);
        Ok(())
    }

    pub(super) fn tidewater(&mut self) -> Result<&mut Tidewater> {
        self.tidewater.as_mut().context("not started")
    }

    pub(super) async fn stop_if(&mut self, moment: Moment) -> Result<()> {
        if moment == Moment::Stopped {
            self.tidewater()?.terminate().await?;
        }
        Ok(())
    }

    pub(super) async fn start_if(&mut self, moment: Moment) -> Result<()> {
        if moment == Moment::Stopped {
            self.tidewater()?.start().await?;
        }
        Ok(())
    }

    /// Ends the worker if it runs, by a kill or gracefully.
    pub(super) async fn end_worker(&mut self, is_kill: bool) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        let tidewater = self.tidewater()?;
        if is_kill {
            tidewater.kill_9()?;
        } else {
            tidewater.terminate().await?;
        }
        self.is_stopped = true;
        Ok(())
    }

    /// Starts the worker if it has ended, or was ended.
    pub(super) async fn revive(&mut self) -> Result<()> {
        if self.ended()?.is_some() {
            self.is_stopped = false;
            // What it finds may end it at once; then nothing listens.
            if let Err(error) = self.tidewater()?.start().await {
                ensure!(format!("{error:#}").contains("is not ready for replication"), "{error:#}");
                self.is_stopped = true;
            }
        }
        Ok(())
    }

    /// Returns what the worker logged if it has ended.
    pub(super) fn ended(&mut self) -> Result<Option<String>> {
        if self.is_stopped {
            return Ok(Some(String::new()));
        }
        Ok(self.tidewater()?.exited()?.map(|output| output.stderr))
    }

    /// Waits until the reader has exactly the rows of the source, and names the tables of which it
    /// has not.
    pub(super) async fn settle(&mut self) -> Result<()> {
        self.operations_until_settled().await.map(drop)
    }

    /// Does what [`World::settle`] does, and returns the number of operations that the reader has
    /// received meanwhile.
    pub(super) async fn operations_until_settled(&mut self) -> Result<usize> {
        let mut expected = BTreeMap::new();
        for table in &self.tables {
            expected.insert(table.clone(), self.source_rows(table).await?);
        }

        let Self { tidewater, reader, .. } = self;
        let tidewater = tidewater.as_mut().context("not started")?;
        let mut operations = 0;
        eventually("the rows of the source", SOON, async || {
            tidewater.must_run()?;
            let token = tidewater.token("u1")?;
            let mut connection = reader.connect(tidewater.url(), &token).await?;
            let completed = loop {
                match connection.next().await?.context("the stream ended too early")? {
                    LineEffect::Stored { operations: stored } => operations += stored,
                    LineEffect::Complete(completed) => break completed,
                    LineEffect::Announced
                    | LineEffect::Partial(_)
                    | LineEffect::TokenExpiresIn(_)
                    | LineEffect::Ignored => {}
                }
            };
            let rows = completed.rows;
            let mut found: BTreeMap<String, TableRows> =
                expected.keys().map(|table| (table.clone(), TableRows::new())).collect();
            for ((table, id), row) in rows.iter() {
                let rows = found.get_mut(table).context("a table that nobody reads")?;
                rows.insert(id.clone(), comparable(row.clone()));
            }
            let wrong: Vec<_> = expected
                .iter()
                .filter_map(|(table, rows)| wrong(table, &found[table], rows))
                .collect();
            ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
            Ok(Some(()))
        })
        .await?;
        Ok(operations)
    }

    async fn source_rows(&self, table: &str) -> Result<TableRows> {
        let query = format!("SELECT COALESCE(jsonb_agg(t), '[]')::text FROM {table} AS t");
        let rows: Vec<Map<String, Value>> =
            serde_json::from_str(&self.postgres.value(&query).await?)?;
        let id = |row: &Map<String, Value>| {
            let id = &row["id"];
            id.as_str().map_or_else(|| id.to_string(), str::to_owned)
        };
        let row = |row: Map<String, Value>| (id(&row), comparable(row));
        Ok(rows.into_iter().map(row).collect())
    }
}

/// Says what is wrong with a table.
fn wrong(table: &str, found: &TableRows, expected: &TableRows) -> Option<String> {
    let ids = || found.keys().chain(expected.keys());
    let id = ids().find(|id| found.get(*id) != expected.get(*id))?;
    let count = ids().filter(|id| found.get(*id) != expected.get(*id)).count();
    let found = found.get(id);
    let expected = expected.get(id);
    Some(format!("{table}: {count} rows differ; row {id} is {found:?} and must be {expected:?}"))
}

/// A row without its id, which is a text in one place and a number in the other. A composite is JSON
/// in a text here and JSON there, and so is a `numeric`, of which the tables have a column `n`.
fn comparable(mut row: Map<String, Value>) -> Map<String, Value> {
    row.remove("id");
    if let Some(number) = row.get_mut("n") {
        let text = number.as_str().map_or_else(|| number.to_string(), str::to_owned);
        *number = text.parse::<f64>().map_or(Value::Null, Value::from);
    }
    for value in row.values_mut() {
        if let Some(text) = value.as_str().filter(|text| text.starts_with('{')) {
            *value = serde_json::from_str(text).unwrap_or_else(|_| value.clone());
        }
    }
    row
}

/// A table with an enum of its own, and 50 rows.
fn create(table: &str) -> String {
    format!(
        "CREATE TYPE mood_{table} AS ENUM ('ok', 'sad');
         CREATE TABLE {table} (id int PRIMARY KEY, note text, m mood_{table});
         INSERT INTO {table} SELECT i, 'note ' || i, 'sad' FROM generate_series(1, 50) AS i"
    )
}
