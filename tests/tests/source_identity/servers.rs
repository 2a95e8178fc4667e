//! Slots that others moved or made again, and servers that were restored.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::world::{Moment, SOON, World};
use tidewater_tests::eventually;

async fn world() -> Result<World> {
    let mut world = World::with_tables(&["t", "other"]).await?;
    world.start().await?;
    world.settle().await?;
    Ok(world)
}

async fn slot(world: &World) -> Result<String> {
    world.postgres.value("SELECT slot_name FROM pg_replication_slots").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_somebody_else_has_skipped_are_copied() -> Result<()> {
    let mut world = world().await?;
    let slot = slot(&world).await?;
    world.stop_if(Moment::Stopped).await?;
    world.postgres.execute("UPDATE t SET note = 'skipped' WHERE id < 20").await?;
    let advance =
        format!("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())::text");
    world.postgres.value(&advance).await?;
    world.start_if(Moment::Stopped).await?;
    world.settle().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_before_a_slot_was_created_again_are_copied() -> Result<()> {
    let mut world = world().await?;
    let slot = slot(&world).await?;
    world.stop_if(Moment::Stopped).await?;
    world.postgres.execute("DELETE FROM t WHERE id < 20").await?;
    world.postgres.value(&format!("SELECT pg_drop_replication_slot('{slot}')::text")).await?;
    let create = format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')::text");
    world.postgres.value(&create).await?;
    world.start_if(Moment::Stopped).await?;
    world.settle().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_is_dropped_under_the_worker_is_made_again() -> Result<()> {
    let mut world = world().await?;
    let slot = slot(&world).await?;
    eventually("the slot to be dropped", SOON, async || {
        let drop = format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots;
             UPDATE t SET note = 'unseen' WHERE id < 20;
             SELECT pg_drop_replication_slot('{slot}')"
        );
        Ok(world.postgres.execute(&drop).await.ok())
    })
    .await?;
    world.settle().await?;
    world.postgres.execute("UPDATE t SET note = 'later' WHERE id < 5").await?;
    world.settle().await
}

/// Makes a cold copy of the data directory, then changes that it does not have. Stops the server.
async fn save_and_go_on(world: &mut World, moment: Moment) -> Result<()> {
    world.postgres.stop().await?;
    world.postgres.save()?;
    world.postgres.restart(&[]).await?;
    let changes = "UPDATE t SET note = 'lost' WHERE id < 20; DELETE FROM t WHERE id > 40;
                   INSERT INTO other VALUES (100, 'lost', 'ok')";
    world.postgres.execute(changes).await?;
    world.settle().await?;
    // What the copy does not have is below the position of the store in any case.
    world.postgres.execute("INSERT INTO t VALUES (200, 'lost', 'ok')").await?;
    world.settle().await?;

    world.stop_if(moment).await?;
    world.postgres.stop().await
}

/// Puts back a cold copy of the data directory, from before the last changes.
pub(super) async fn restore(world: &mut World, moment: Moment) -> Result<()> {
    save_and_go_on(world, moment).await?;
    world.postgres.put_back()?;
    world.postgres.restart(&[]).await
}

/// Fault F9. The standby has no slot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_that_lags_behind_is_noticed_while_the_worker_runs() -> Result<()> {
    let mut world = world().await?;
    save_and_go_on(&mut world, Moment::Running).await?;
    world.postgres.fail_over(false).await?;
    world.postgres.execute("UPDATE t SET note = 'later' WHERE id < 5").await?;
    world.settle().await
}

/// Fault F9. The standby has the slot, which was confirmed before the changes that are lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_with_an_earlier_slot_is_noticed_at_the_start() -> Result<()> {
    let mut world = world().await?;
    save_and_go_on(&mut world, Moment::Stopped).await?;
    world.postgres.fail_over(true).await?;
    world.postgres.execute("UPDATE t SET note = 'later' WHERE id < 5").await?;
    grow(&world).await?;
    world.start_if(Moment::Stopped).await?;
    world.settle().await?;
    world.postgres.execute("DELETE FROM t WHERE id < 10").await?;
    world.settle().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_server_is_noticed_while_the_worker_runs() -> Result<()> {
    let mut world = world().await?;
    restore(&mut world, Moment::Running).await?;
    world.settle().await?;
    world.postgres.execute("UPDATE t SET note = 'later' WHERE id < 5").await?;
    world.settle().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_server_is_noticed_at_the_start() -> Result<()> {
    let mut world = world().await?;
    restore(&mut world, Moment::Stopped).await?;
    world.postgres.execute("UPDATE t SET note = 'other' WHERE id < 5").await?;
    world.start_if(Moment::Stopped).await?;
    world.settle().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_server_is_noticed_when_it_is_beyond_the_former_position() -> Result<()> {
    let mut world = world().await?;
    restore(&mut world, Moment::Stopped).await?;
    // The same number of transactions on the same rows, so positions and ids may be those of before.
    world.postgres.execute("UPDATE t SET note = 'LOST' WHERE id < 20").await?;
    grow(&world).await?;
    world.start_if(Moment::Stopped).await?;
    world.settle().await?;
    world.postgres.execute("UPDATE t SET note = 'later' WHERE id < 5").await?;
    world.settle().await
}

/// Nothing of a published table is in the new history.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_server_is_noticed_when_only_other_wal_is_beyond_the_former_position()
-> Result<()> {
    let mut world = world().await?;
    restore(&mut world, Moment::Stopped).await?;
    grow(&world).await?;
    world.start_if(Moment::Stopped).await?;
    world.settle().await
}

/// Writes more WAL than the former history had.
async fn grow(world: &World) -> Result<()> {
    let message = "SELECT pg_logical_emit_message(false, 'other', repeat('x', 1000000))::text
                   FROM generate_series(1, 20)";
    world.postgres.value(message).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_is_refused_and_nothing_is_written() -> Result<()> {
    let mut world = world().await?;
    if !world.postgres.can_upgrade() {
        return Ok(());
    }
    world.stop_if(Moment::Stopped).await?;
    // With a logical slot, `pg_upgrade` cannot start the former server.
    let drop = "SELECT pg_drop_replication_slot(slot_name)::text FROM pg_replication_slots";
    world.postgres.value(drop).await?;
    world.postgres.stop().await?;
    world.postgres.upgrade()?;
    world.postgres.restart(&[]).await?;
    let output = world.tidewater()?.run_to_end(Duration::from_secs(60)).await?;
    let refusal = "the store belongs to another database";
    ensure!(output.code == Some(1) && output.stderr.contains(refusal), "{output:?}");
    ensure!(
        world.postgres.value("SELECT count(*) FROM pg_replication_slots").await? == "0",
        "a slot"
    );
    Ok(())
}
