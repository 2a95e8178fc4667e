//! Fault F37: values of each type of PostgreSQL, through the worker and the sync API.

mod cases;
mod nested;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use serde_json::{Value as Json, json};
use tidewater_functions::{Authenticator, Settings, router};
use tidewater_ingest_worker::{Config, Database, OnError, Progress, RunError, run};
use tidewater_storage::Embedded;
use tidewater_tests::{AUDIENCE, Postgres, SigningKey, eventually};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use cases::{Value, value};

/// Timeout of each wait: long, since other tests run at the same time.
const SOON: Duration = Duration::from_secs(60);

/// The difference between the id of a row of the stream and that of the equal row of the copy.
const STREAMED: usize = 1_000;

/// A worker in this process, and its store.
struct Worker {
    store: Embedded,
    task: JoinHandle<Result<(), RunError>>,
    shutdown: CancellationToken,
}

impl Worker {
    /// Starts a worker and waits until its first checkpoint is visible.
    async fn ready(postgres: &Postgres, sync_config: &str, slot: &str) -> Result<Self> {
        let store = Embedded::temporary()?;
        let config = Config {
            database: Database::new(postgres.url("postgres")),
            sync_config: sync_config.to_owned(),
            publication: "tidewater".to_owned(),
            slot: slot.to_owned(),
            snapshot_threshold: 1_000_000,
            receiver_timeout: Duration::from_secs(30),
            wal_budget_bytes: 10 << 30,
            rollback_grace: Duration::from_secs(3_600),
            on_error: OnError::Stop,
            until_caught_up: false,
        };

        let ready = Arc::new(Notify::new());
        let shutdown = CancellationToken::new();
        let task = {
            let ready = ready.clone();
            let shutdown = shutdown.clone();
            let store = store.clone();
            async move {
                let on_progress = |progress| {
                    if progress == Progress::Ready {
                        ready.notify_one();
                    }
                };
                run(&config, store, &on_progress, &shutdown).await
            }
        };
        let mut task = tokio::spawn(task);

        tokio::select! {
            () = ready.notified() => Ok(Self { store, task, shutdown }),
            result = &mut task => bail!("the worker has ended: {result:?}"),
        }
    }

    /// Returns the data of each synced row, by its id.
    async fn rows(&self) -> Result<BTreeMap<usize, String>> {
        let key = SigningKey::random("k");
        let folder = tempfile::tempdir()?;
        let key_set = std::fs::read_to_string(key.write_jwk_set(folder.path())?)?;
        let auth = Authenticator::new(&[&key_set], vec![AUDIENCE.to_owned()])?;
        let settings = Settings { keep_open: Some(Duration::ZERO), ..Settings::new(auth) };

        let body = json!({"buckets": [], "raw_data": true, "client_id": "c"});
        let request = Request::post("/sync/stream")
            .header("Authorization", format!("Token {}", key.token("u1").sign()?))
            .header("Content-Type", "application/json")
            .body(Body::from(body.to_string()))?;
        let response = router(self.store.clone(), settings).oneshot(request).await?;
        let lines = to_bytes(response.into_body(), 100 << 20).await?;

        let mut rows = BTreeMap::new();
        for line in String::from_utf8(lines.to_vec())?.lines() {
            let line: Json = serde_json::from_str(line)?;
            for operation in line["data"]["data"].as_array().into_iter().flatten() {
                let id = operation["object_id"].as_str().unwrap_or_default();
                let data = operation["data"].as_str().unwrap_or_default();
                rows.insert(id.parse()?, data.to_owned());
            }
        }
        Ok(rows)
    }

    /// Waits until `count` rows are synced, and returns them.
    async fn wait_for_rows(&self, count: usize) -> Result<BTreeMap<usize, String>> {
        eventually("all rows", SOON, async || {
            let rows = self.rows().await?;
            Ok((rows.len() == count).then_some(rows))
        })
        .await
    }

    async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        Ok(self.task.await??)
    }
}

/// Returns the types of this PostgreSQL and their values, in the order of the table's columns.
async fn columns(postgres: &Postgres) -> Result<Vec<(&'static str, &'static [Value])>> {
    postgres.execute(cases::CREATE).await?;
    let groups = [cases::SCALARS, cases::ARRAYS, cases::COMPOSITES, cases::RANGES];
    let mut columns: Vec<_> = groups.concat();

    for (extension, name, values) in cases::OF_EXTENSIONS {
        let query =
            format!("SELECT count(*) FROM pg_available_extensions WHERE name = '{extension}'");
        if postgres.value(&query).await? == "0" {
            eprintln!("{name} is left out: this PostgreSQL has no extension {extension}");
            continue;
        }
        postgres.execute(&format!("CREATE EXTENSION IF NOT EXISTS {extension}")).await?;
        columns.push((name, values));
    }
    Ok(columns)
}

/// Returns the JSON of an expected value, in which a text is in single quotes.
fn expected_json(expected: &str) -> Result<String> {
    let text = expected.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    Ok(text.map_or(Ok(expected.to_owned()), serde_json::to_string)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_type_has_the_same_values_in_the_copy_and_in_the_stream() -> Result<()> {
    let postgres = Postgres::start().await?;
    let columns = columns(&postgres).await?;

    let definitions = columns.iter().enumerate().map(|(at, (name, _))| format!(", c{at} {name}"));
    let definitions: String = definitions.collect();
    postgres
        .execute(&format!(
            "CREATE TABLE kinds (id int PRIMARY KEY{definitions});
             CREATE PUBLICATION tidewater FOR TABLE kinds"
        ))
        .await?;
    // One more row than values, so that each column is NULL at least once.
    let row_count = columns.iter().map(|(_, values)| values.len()).max().context("no column")? + 1;
    for row in 0..row_count {
        let mut names = String::new();
        let mut values = String::new();
        for (at, (_, column_values)) in columns.iter().enumerate() {
            if let Some(value) = column_values.get(row) {
                names.push_str(&format!(", c{at}"));
                values.push_str(&format!(", {}", value.sql));
            }
        }
        postgres.execute(&format!("INSERT INTO kinds (id{names}) VALUES ({row}{values})")).await?;
    }

    let edition_3 = "config: { edition: 3 }\n\
                     streams: { all: { auto_subscribe: true, query: SELECT * FROM kinds } }";
    let edition_1 = "bucket_definitions: { all: { data: [SELECT * FROM kinds] } }";
    let workers = [
        (Worker::ready(&postgres, edition_3, "edition_3").await?, Edition::Three),
        (Worker::ready(&postgres, edition_1, "edition_1").await?, Edition::One),
    ];

    // The workers have copied the rows, so they receive the new ones from the stream.
    let names: String = (0..columns.len()).map(|at| format!(", c{at}")).collect();
    let insert = format!("INSERT INTO kinds SELECT id + {STREAMED}{names} FROM kinds");
    postgres.execute(&insert).await?;

    for (worker, edition) in workers {
        let rows = worker.wait_for_rows(2 * row_count).await?;
        for row in (0..row_count).flat_map(|row| [row, row + STREAMED]) {
            verify_row(&columns, edition, row, &rows[&row])?;
        }
        worker.stop().await?;
    }
    Ok(())
}

/// The edition of a sync config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edition {
    One,
    Three,
}

/// Verifies the data of a row of the table with all types.
fn verify_row(
    columns: &[(&str, &[Value])],
    edition: Edition,
    row: usize,
    data: &str,
) -> Result<()> {
    const NULL: Value = value("NULL", "null", "=");

    let id = format!("{{\"id\":{row}");
    let mut rest = data.strip_prefix(&id).with_context(|| format!("{data} has another id"))?;
    for (at, (name, values)) in columns.iter().enumerate() {
        let value = values.get(row % STREAMED).unwrap_or(&NULL);
        let expected = format!(",\"c{at}\":{}", expected_json(value.expected(edition))?);
        let found: String = rest.chars().take(expected.chars().count() + 40).collect();
        rest = rest.strip_prefix(&expected).with_context(|| {
            format!("{name} {}, edition {edition:?}: {found}\nnot {expected}", value.sql)
        })?;
    }
    ensure!(rest == "}", "row {row} has more columns: {rest}");
    Ok(())
}

/// An altered type keeps its OID, and the stream has no message about it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_attribute_of_a_composite_type_is_synced() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres
        .execute(
            "CREATE TYPE inner_pair AS (x int4, y text); CREATE TYPE outer_pair AS (p inner_pair);
             CREATE TABLE t (id int PRIMARY KEY, v outer_pair[]);
             CREATE PUBLICATION tidewater FOR TABLE t;
             INSERT INTO t VALUES (1, ARRAY[ROW(ROW(1, 'a'))]::outer_pair[])",
        )
        .await?;

    let config = "config: { edition: 3 }\n\
                  streams: { all: { auto_subscribe: true, query: SELECT * FROM t } }";
    let worker = Worker::ready(&postgres, config, "types").await?;
    let json = r#"[{"p":{"x":1,"y":"a"}}]"#;
    let expected = format!("{{\"id\":1,\"v\":{}}}", serde_json::to_string(json)?);
    assert_eq!(worker.wait_for_rows(1).await?[&1], expected);

    postgres.execute("ALTER TYPE inner_pair ADD ATTRIBUTE z int4").await?;
    postgres.execute("UPDATE t SET v[2] = ROW(ROW(2, 'b', 3))::outer_pair").await?;
    let json = r#"[{"p":{"x":1,"y":"a","z":null}},{"p":{"x":2,"y":"b","z":3}}]"#;
    let expected = format!("{{\"id\":1,\"v\":{}}}", serde_json::to_string(json)?);
    eventually("the new attribute", SOON, async || {
        let rows = worker.rows().await?;
        ensure!(rows.get(&1) == Some(&expected), "the rows are {rows:?}");
        Ok(Some(()))
    })
    .await?;
    worker.stop().await
}
