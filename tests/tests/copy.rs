//! The initial copy of a source that changes at the same time.

use std::time::Duration;

use anyhow::Result;
use tidewater_tests::{DevOptions, Postgres, SyncReader, Tidewater, eventually};

/// Timeout of each wait: long, since other tests run at the same time.
const SOON: Duration = Duration::from_secs(60);

/// Number of rows of a table that needs several chunks.
const BULK_ROWS: usize = 50_000;

const CONFIG: &str = "
config: { edition: 3 }
streams:
  bulk: { auto_subscribe: true, query: SELECT * FROM bulk }
  todos: { auto_subscribe: true, query: SELECT * FROM todos }
";

/// Fault F19. The slot sends a commit before new snapshots see it. The delay is long while a
/// synchronous standby does not confirm the commit.
#[tokio::test]
async fn a_row_whose_delete_is_not_yet_visible_to_snapshots_is_not_copied() -> Result<()> {
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

    // The DELETE commits and stays invisible, because the standby does not exist.
    set_standby(&postgres, "nobody").await?;
    let client = postgres.connect().await?;
    let delete = "DELETE FROM todos WHERE id = 'deleted'";
    let delete = tokio::spawn(async move { client.execute(delete, &[]).await });

    // A worker that did not wait until the DELETE is visible would copy the row now.
    eventually("the worker to wait, or to have copied the table", SOON, async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE application_name = 'tidewater' AND query = 'ROLLBACK'";
        let is_waiting = postgres.value(waiting).await? != "0";
        Ok((is_waiting || tidewater.log()?.contains("public.todos")).then_some(()))
    })
    .await?;

    set_standby(&postgres, "").await?;
    assert_eq!(delete.await??, 1);
    tidewater.ready().await?;
    let token = tidewater.token("u1")?;
    let rows = SyncReader::new().sync_once(tidewater.url(), &token).await?.rows;
    assert_eq!(rows.keys().filter(|(table, _)| table == "bulk").count(), BULK_ROWS);
    let todos: Vec<_> = rows.keys().filter(|(table, _)| table == "todos").collect();
    assert_eq!(todos, [&("todos".to_owned(), "kept".to_owned())]);
    Ok(())
}

/// Sets the standby that commits wait for. They wait for none if `name` is empty.
async fn set_standby(postgres: &Postgres, name: &str) -> Result<()> {
    let client = postgres.connect().await?;
    client.batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'")).await?;
    client.batch_execute("SELECT pg_reload_conf()").await?;
    eventually("the setting to be effective", SOON, async || {
        Ok((postgres.value("SHOW synchronous_standby_names").await? == name).then_some(()))
    })
    .await
}
