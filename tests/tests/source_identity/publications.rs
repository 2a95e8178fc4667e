//! Statements on the publication itself.

use std::time::Duration;

use anyhow::Result;
use tidewater_tests::{Postgres, eventually};

use super::world::{Moment, World};

const CHANGES: &str = "UPDATE t SET note = 'between' WHERE id < 20; DELETE FROM t WHERE id > 40;
                       INSERT INTO t VALUES (100, 'between', 'ok')";

/// Runs statements one after another at this moment, and waits for the reader.
async fn check(moment: Moment, statements: &[&str]) -> Result<()> {
    let mut world = World::with_tables(&["t", "other"]).await?;
    world.start().await?;
    world.settle().await?;

    world.stop_if(moment).await?;
    for statement in statements {
        world.postgres.execute(statement).await?;
    }
    world.start_if(moment).await?;
    world.settle().await?;

    // It also goes on from there.
    world.postgres.execute("UPDATE t SET note = 'later' WHERE id < 5").await?;
    world.postgres.execute("DELETE FROM other WHERE id < 5").await?;
    world.settle().await
}

async fn check_always(statements: &[&str]) -> Result<()> {
    check(Moment::Running, statements).await?;
    check(Moment::Stopped, statements).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_filter_that_comes_and_goes_leaves_no_row_behind() -> Result<()> {
    if Postgres::start().await?.major_version().await? < 15 {
        return Ok(());
    }
    let filter = "ALTER PUBLICATION powersync SET TABLE t WHERE (id < 10), other";
    check_always(&[filter, CHANGES, "ALTER PUBLICATION powersync SET TABLE t, other"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_that_are_unpublished_for_a_moment_leave_no_row_behind() -> Result<()> {
    let inserts = "ALTER PUBLICATION powersync SET (publish = 'insert')";
    let all = "ALTER PUBLICATION powersync SET (publish = 'insert, update, delete, truncate')";
    check_always(&[inserts, CHANGES, all]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_is_created_again_leaves_no_row_behind() -> Result<()> {
    let create = "CREATE PUBLICATION powersync FOR TABLE t, other";
    check_always(&["DROP PUBLICATION powersync", CHANGES, create]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_is_created_again_in_one_transaction_leaves_no_row_behind() -> Result<()>
{
    let all = format!(
        "BEGIN; DROP PUBLICATION powersync; {CHANGES};
         CREATE PUBLICATION powersync FOR TABLE t, other; COMMIT"
    );
    check_always(&[&all]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_was_stopped_by_its_check_copies_the_table_after_the_fix() -> Result<()> {
    let mut world = World::with_tables(&["t", "other"]).await?;
    world.start().await?;
    world.settle().await?;

    world.postgres.execute("ALTER PUBLICATION powersync DROP TABLE t").await?;
    world.postgres.execute(CHANGES).await?;
    let fix = "ALTER PUBLICATION \"powersync\" ADD TABLE \"public\".\"t\";";
    // In the log, quotes are escaped.
    let logged = fix.replace('"', "\\\"");
    let stop = "the worker to stop with the fix in its log";
    eventually(stop, Duration::from_secs(60), async || {
        let log = world.tidewater()?.log()?;
        Ok((log.contains("the ingest worker stopped") && log.contains(&logged)).then_some(()))
    })
    .await?;

    // The process goes on, and its worker tries again by itself.
    world.postgres.execute(fix).await?;
    world.settle().await
}
