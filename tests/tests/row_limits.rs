//! Rows that are in very many buckets: the worker's memory, and the limits of one row.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidewater_tests::{DevOptions, Postgres, SyncReader, Tidewater, eventually};

/// A bound for whatever must happen: a debug build stores 100 MB meanwhile.
const SOON: Duration = Duration::from_secs(120);

const CONFIG: &str = "
config: { edition: 3 }
streams:
  documents:
    auto_subscribe: true
    query: SELECT id, version, body FROM documents WHERE auth.user_id() IN shared_with
";

const DOCUMENTS: &str = "
    CREATE TABLE documents (id text PRIMARY KEY, version text, body text, shared_with text[]);
    CREATE PUBLICATION powersync FOR TABLE documents;
    INSERT INTO documents VALUES ('small', '1', 'x', '{u1}');
";

/// The number of rows of the table that are not synced.
const UNSYNCED: &str = "tidewater_ingest_rows_unsynced{table=\"public.documents\"}";

/// Starts PostgreSQL with a small document, and Tidewater with it.
async fn setup() -> Result<(Postgres, Tidewater)> {
    let postgres = Postgres::start().await?;
    postgres.execute(DOCUMENTS).await?;
    let options =
        DevOptions::new(&postgres.url("postgres"), CONFIG).with(&["--metrics-listen", "0"]);
    Ok((postgres, Tidewater::dev_ready(options).await?))
}

/// SQL for an array of so many users.
fn users(count: usize) -> String {
    format!("(SELECT array_agg('u' || n) FROM generate_series(1, {count}) AS n)")
}

/// SQL that replaces the large document by one that so many users share.
fn share(version: &str, bytes: usize, users_count: usize) -> String {
    format!(
        "INSERT INTO documents VALUES ('large', '{version}', repeat('x', {bytes}), {users})
         ON CONFLICT (id) DO UPDATE SET version = excluded.version, body = excluded.body,
         shared_with = excluded.shared_with",
        users = users(users_count)
    )
}

/// Reads as a new device of a user until it has these documents, each as `id version`.
async fn read_until(tidewater: &Tidewater, user: &str, expected: &[&str]) -> Result<()> {
    let mut last = Vec::new();
    let mut reader = SyncReader::new();
    let read = async {
        let mut connection = tidewater.connect(&mut reader, user).await?;
        loop {
            let completed = connection.completed().await?;
            let rows = completed.rows.values();
            let text = |value: &serde_json::Value| value.as_str().unwrap_or("null").to_owned();
            last =
                rows.map(|row| format!("{} {}", text(&row["id"]), text(&row["version"]))).collect();
            last.sort();
            if last == expected {
                return anyhow::Ok(());
            }
        }
    };
    let read = tokio::time::timeout(SOON, read).await;
    read.with_context(|| format!("user {user} sees {last:?}, not {expected:?}"))?
}

/// The row takes 100 MB in its buckets. Held at once, that alone would exceed the bound.
#[tokio::test]
async fn a_row_in_many_buckets_takes_little_memory() -> Result<()> {
    const GROWTH_MAX: u64 = 64 << 20;

    let (postgres, mut tidewater) = setup().await?;
    read_until(&tidewater, "u1", &["small 1"]).await?;
    let before = tidewater.peak_rss_bytes()?;
    for version in ["1", "2"] {
        postgres.execute(&share(version, 200_000, 500)).await?;
        let large = format!("large {version}");
        read_until(&tidewater, "u500", &[&large]).await?;
        read_until(&tidewater, "u1", &[&large, "small 1"]).await?;
    }

    let growth = tidewater.peak_rss_bytes()? - before;
    ensure!(growth < GROWTH_MAX, "memory grew by {} kB over {} kB", growth >> 10, before >> 10);
    tidewater.terminate().await?.assert_code(0);
    Ok(())
}

/// The row of the first report: 400 kB in 10,000 buckets. The second one is in one bucket too many.
#[tokio::test]
async fn a_row_beyond_its_limits_is_missing_and_said_to_be_until_it_is_within_them() -> Result<()> {
    let (postgres, mut tidewater) = setup().await?;
    let mut version = 0;
    for (bytes, count, limit) in [(400_000, 10_000, "134217728"), (10, 10_001, "10000")] {
        version += 1;
        postgres.execute(&share(&version.to_string(), 10, 3)).await?;
        read_until(&tidewater, "u3", &[&format!("large {version}")]).await?;
        ensure!(tidewater.metric(UNSYNCED).await? == Some(0.0));

        // Nothing of the row stays on devices, and others go on.
        postgres.execute(&share("beyond", bytes, count)).await?;
        postgres
            .execute(&format!("UPDATE documents SET version = '{version}' WHERE id = 'small'"))
            .await?;
        read_until(&tidewater, "u1", &[&format!("small {version}")]).await?;
        read_until(&tidewater, "u3", &[]).await?;
        let log = tidewater.log()?;
        let line =
            log.lines().rfind(|line| line.contains("\"row not synced")).context("no line")?;
        for text in ["public.documents", "\"key\":\"large\"", limit, "docs/limits.md"] {
            ensure!(line.contains(text), "'{text}' is not in {line}");
        }

        // A new process knows it, too.
        tidewater.terminate().await?.assert_code(0);
        tidewater.start().await?;
        tidewater.ready().await?;
        eventually("the metric of the row", SOON, async || {
            Ok((tidewater.metric(UNSYNCED).await? == Some(1.0)).then_some(()))
        })
        .await?;
    }

    postgres.execute(&share("within", 10, 3)).await?;
    read_until(&tidewater, "u3", &["large within"]).await?;
    ensure!(tidewater.metric(UNSYNCED).await? == Some(0.0));
    Ok(())
}

/// A query fails for a row, and a lookup for another: bad JSON in a column of text.
#[tokio::test]
async fn a_row_that_cannot_be_evaluated_is_counted_and_named() -> Result<()> {
    let config = "
config: { edition: 3 }
streams:
  notes:
    auto_subscribe: true
    query: SELECT id, meta ->> 'title' AS title FROM notes
  shared:
    auto_subscribe: true
    query: SELECT id FROM files WHERE team IN (SELECT teams.id FROM teams, json_each(teams.members) AS m
           WHERE m.value = auth.user_id())
";
    let postgres = Postgres::start().await?;
    let sql = r#"
        CREATE TABLE notes (id text PRIMARY KEY, meta text);
        CREATE TABLE teams (id text PRIMARY KEY, members text);
        CREATE TABLE files (id text PRIMARY KEY, team text);
        CREATE PUBLICATION powersync FOR ALL TABLES;
        INSERT INTO notes VALUES ('bad', '{"title"'), ('good', '{"title": "x", "n": 1e309}');
        INSERT INTO teams VALUES ('broken', '["u1"'), ('whole', '["u1"]');
        INSERT INTO files VALUES ('f1', 'whole');
    "#;
    postgres.execute(sql).await?;
    let options =
        DevOptions::new(&postgres.url("postgres"), config).with(&["--metrics-listen", "0"]);
    let mut tidewater = Tidewater::dev_ready(options).await?;

    let mut reader = SyncReader::new();
    let completed = tidewater.connect(&mut reader, "u1").await?.completed().await?;
    let ids: Vec<_> = completed.rows.keys().map(|(table, id)| format!("{table}/{id}")).collect();
    ensure!(ids == ["files/f1", "notes/good"], "{ids:?}");

    for (table, key) in [("notes", "bad"), ("teams", "broken")] {
        let series = format!("tidewater_ingest_rows_unsynced{{table=\"public.{table}\"}}");
        eventually("the count", SOON, async || {
            Ok((tidewater.metric(&series).await? == Some(1.0)).then_some(()))
        })
        .await?;

        let log = tidewater.log()?;
        let table = format!("public.{table}");
        let key = format!("\"key\":\"{key}\"");
        let line = log.lines().find(|line| {
            line.contains("\"row not synced") && line.contains(&table) && line.contains(&key)
        });
        let line = line.with_context(|| format!("no line for {key} of {table} in:\n{log}"))?;
        ensure!(line.contains("not valid JSON"), "{line}");
    }
    tidewater.terminate().await?.assert_code(0);
    Ok(())
}
