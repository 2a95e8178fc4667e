//! Values of each type of PostgreSQL, from the real one through the worker and the sync API.

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
use tidewater_ingest_worker::{Config, Progress, RunError, run};
use tidewater_storage::Embedded;
use tidewater_tests::{AUDIENCE, Postgres, SigningKey, eventually};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use cases::Value;

/// For whatever comes by itself: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);
/// Rows of the stream are those of the copy, with so much added to their ids.
const STREAMED: usize = 1_000;

/// A worker in this process, on a store of its own, and what the sync API has of it.
struct Worker {
    store: Embedded,
    task: JoinHandle<Result<(), RunError>>,
    shutdown: CancellationToken,
}

impl Worker {
    /// Starts one and waits until its first checkpoint is visible.
    async fn ready(postgres: &Postgres, sync_config: &str, slot: &str) -> Result<Self> {
        let store = Embedded::temporary()?;
        let config = Config {
            database_url: postgres.url("postgres"),
            sync_config: sync_config.to_owned(),
            publication: "tidewater".to_owned(),
            slot: slot.to_owned(),
            snapshot_threshold: 1_000_000,
        };
        let (is_ready, shutdown) = (Arc::new(Notify::new()), CancellationToken::new());
        let (ready, until, filled) = (is_ready.clone(), shutdown.clone(), store.clone());
        let mut task = tokio::spawn(async move {
            let on_progress = |progress| {
                if progress == Progress::Ready {
                    ready.notify_one();
                }
            };
            run(&config, filled, &on_progress, &until).await
        });
        tokio::select! {
            () = is_ready.notified() => Ok(Self { store, task, shutdown }),
            ended = &mut task => bail!("the worker ended: {ended:?}"),
        }
    }

    /// The data of each row that is synced, by its id.
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
        let reply = router(self.store.clone(), settings).oneshot(request).await?;
        let lines = to_bytes(reply.into_body(), 100 << 20).await?;
        let mut rows = BTreeMap::new();
        for line in String::from_utf8(lines.to_vec())?.lines() {
            let line: Json = serde_json::from_str(line)?;
            for operation in line["data"]["data"].as_array().into_iter().flatten() {
                let text = |key: &str| operation[key].as_str().unwrap_or_default().to_owned();
                rows.insert(text("object_id").parse()?, text("data"));
            }
        }
        Ok(rows)
    }

    /// The rows, once there are so many.
    async fn rows_of(&self, count: usize) -> Result<BTreeMap<usize, String>> {
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

/// Types and values that this PostgreSQL has, in the order of the table's columns.
async fn columns(postgres: &Postgres) -> Result<Vec<(&'static str, &'static [Value])>> {
    postgres.execute(cases::CREATE).await?;
    let groups = [cases::SCALARS, cases::ARRAYS, cases::COMPOSITES, cases::RANGES];
    let mut columns: Vec<_> = groups.concat();
    for (extension, name, values) in cases::OF_EXTENSIONS {
        let query =
            format!("SELECT count(*) FROM pg_available_extensions WHERE name = '{extension}'");
        if postgres.value(&query).await? == "0" {
            eprintln!("without {name}: this PostgreSQL has no extension {extension}");
            continue;
        }
        postgres.execute(&format!("CREATE EXTENSION IF NOT EXISTS {extension}")).await?;
        columns.push((name, values));
    }
    Ok(columns)
}

/// JSON of an expectation, in which a text is in single quotes.
fn expected_json(expected: &str) -> Result<String> {
    let text = expected.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    Ok(text.map_or(Ok(expected.to_owned()), serde_json::to_string)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_type_arrives_alike_in_the_copy_and_in_the_stream() -> Result<()> {
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
    let row_count = columns.iter().map(|(_, values)| values.len()).max().context("columns")? + 1;
    for row in 0..row_count {
        let set = columns.iter().enumerate();
        let set = set.filter_map(|(at, (_, values))| Some((at, values.get(row)?.0)));
        let (names, values): (String, String) =
            set.map(|(at, sql)| (format!(", c{at}"), format!(", {sql}"))).unzip();
        postgres.execute(&format!("INSERT INTO kinds (id{names}) VALUES ({row}{values})")).await?;
    }
    let everything = "config: { edition: 3 }\n\
                      streams: { all: { auto_subscribe: true, query: SELECT * FROM kinds } }";
    let nothing = "bucket_definitions: { all: { data: [SELECT * FROM kinds] } }";
    let workers = [
        Worker::ready(&postgres, everything, "everything").await?,
        Worker::ready(&postgres, nothing, "nothing").await?,
    ];
    let names: String = (0..columns.len()).map(|at| format!(", c{at}")).collect();
    let again = format!("INSERT INTO kinds SELECT id + {STREAMED}{names} FROM kinds");
    postgres.execute(&again).await?;
    for (worker, has_all) in workers.into_iter().zip([true, false]) {
        let rows = worker.rows_of(2 * row_count).await?;
        for row in (0..row_count).flat_map(|row| [row, row + STREAMED]) {
            let mut rest = rows[&row].strip_prefix(&format!("{{\"id\":{row}")).context("the id")?;
            for (at, (name, values)) in columns.iter().enumerate() {
                let (sql, all, none) = values.get(row % STREAMED).unwrap_or(&("NULL", "null", "="));
                let expected = if has_all || *none == "=" { all } else { none };
                let expected = format!(",\"c{at}\":{}", expected_json(expected)?);
                let found: String = rest.chars().take(expected.chars().count() + 40).collect();
                rest = rest.strip_prefix(&expected).with_context(|| {
                    format!("{name} {sql}, with custom types {has_all}: {found}\nnot {expected}")
                })?;
            }
            assert_eq!(rest, "}", "row {row}");
        }
        worker.stop().await?;
    }
    Ok(())
}

/// A type keeps its OID when it is altered, and the stream says nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_composite_that_gets_an_attribute_is_noticed() -> Result<()> {
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
    let row = |attributes: &str| {
        let json = format!("[{{\"p\":{{{attributes}}}}}]");
        serde_json::to_string(&json).map(|json| format!("{{\"id\":1,\"v\":{json}}}"))
    };
    assert_eq!(worker.rows_of(1).await?[&1], row(r#""x":1,"y":"a""#)?);
    postgres.execute("ALTER TYPE inner_pair ADD ATTRIBUTE z int4").await?;
    postgres.execute("UPDATE t SET v[2] = ROW(ROW(2, 'b', 3))::outer_pair").await?;
    let json = r#"[{"p":{"x":1,"y":"a","z":null}},{"p":{"x":2,"y":"b","z":3}}]"#;
    let expected = format!("{{\"id\":1,\"v\":{}}}", serde_json::to_string(json)?);
    eventually("the worker to notice", SOON, async || {
        let rows = worker.rows().await?;
        ensure!(rows.get(&1) == Some(&expected), "there are {rows:?}");
        Ok(Some(()))
    })
    .await?;
    worker.stop().await
}
