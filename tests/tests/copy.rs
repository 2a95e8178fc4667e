//! The first copy, beside a source that goes on changing.

use std::time::Duration;

use anyhow::Result;
use tidewater_tests::{DevOptions, Postgres, SyncReader, Tidewater, eventually};

/// For whatever comes by itself: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

/// So many rows that the table takes several chunks.
const BULK_ROWS: usize = 50_000;

const CONFIG: &str = "
config: { edition: 3 }
streams:
  bulk: { auto_subscribe: true, query: SELECT * FROM bulk }
  todos: { auto_subscribe: true, query: SELECT * FROM todos }
";

/// A commit is decoded from the log before new snapshots see it; while a synchronous standby does
/// not confirm, it may be long before.
#[tokio::test]
async fn a_row_whose_delete_no_snapshot_sees_yet_does_not_rise_again() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres
        .execute(&format!(
            "CREATE TABLE bulk (id text PRIMARY KEY);
             CREATE TABLE todos (id text PRIMARY KEY);
             CREATE PUBLICATION powersync FOR TABLE bulk, todos;
             INSERT INTO bulk SELECT generate_series(1, {BULK_ROWS})::text;
             INSERT INTO todos VALUES ('deleted'), ('kept')"
        ))
        .await?;
    let mut tidewater = Tidewater::dev(DevOptions::new(&postgres.url("postgres"), CONFIG)).await?;
    eventually("the slot to be in use", SOON, async || {
        let active = "SELECT count(*) FROM pg_replication_slots WHERE active";
        Ok((postgres.value(active).await? == "1").then_some(()))
    })
    .await?;
    standby(&postgres, "nobody").await?;
    let client = postgres.connect().await?;
    let delete =
        tokio::spawn(
            async move { client.execute("DELETE FROM todos WHERE id = 'deleted'", &[]).await },
        );
    // A worker that did not wait for that DELETE to be visible would read the row now.
    eventually("the worker to wait, or to have copied the table", SOON, async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE application_name = 'tidewater' AND query = 'ROLLBACK'";
        let is_waiting = postgres.value(waiting).await? != "0";
        Ok((is_waiting || tidewater.log()?.contains("public.todos")).then_some(()))
    })
    .await?;
    standby(&postgres, "").await?;
    assert_eq!(delete.await??, 1);
    tidewater.ready().await?;
    let (mut reader, token) = (SyncReader::new(), tidewater.token("u1")?);
    let rows = reader.sync_once(tidewater.url(), &token).await?.rows;
    assert_eq!(rows.keys().filter(|(table, _)| table == "bulk").count(), BULK_ROWS);
    let todos: Vec<_> = rows.keys().filter(|(table, _)| table == "todos").collect();
    assert_eq!(todos, [&("todos".to_owned(), "kept".to_owned())]);
    Ok(())
}

/// From now on, commits wait for this standby; for none, if it is empty.
async fn standby(postgres: &Postgres, name: &str) -> Result<()> {
    let client = postgres.connect().await?;
    client.batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'")).await?;
    client.batch_execute("SELECT pg_reload_conf()").await?;
    eventually("the setting to be in force", SOON, async || {
        Ok((postgres.value("SHOW synchronous_standby_names").await? == name).then_some(()))
    })
    .await
}
