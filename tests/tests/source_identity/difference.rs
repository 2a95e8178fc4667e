//! Tables that are copied again: devices receive only the rows that differ.

use anyhow::{Result, ensure};

use super::servers::restore;
use super::world::{Moment, World};

/// Statements on tables while no worker runs, and the rows that differ afterwards.
const CHANGES: [(&str, &[&str], usize); 4] = [
    ("same", &["ALTER TABLE $t ALTER note TYPE text USING note || ''"], 0),
    (
        "with_another_value",
        &["ALTER TABLE $t ALTER note TYPE text USING CASE id WHEN 7 THEN 'new' ELSE note END"],
        1,
    ),
    (
        "with_a_row_less",
        &[
            "ALTER PUBLICATION powersync DROP TABLE $t",
            "DELETE FROM $t WHERE id = 7",
            "ALTER PUBLICATION powersync ADD TABLE $t",
        ],
        1,
    ),
    (
        "with_a_row_more",
        &[
            "ALTER PUBLICATION powersync DROP TABLE $t",
            "INSERT INTO $t VALUES (70, 'new', 'ok')",
            "ALTER PUBLICATION powersync ADD TABLE $t",
        ],
        1,
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_copied_again_costs_devices_the_rows_that_differ() -> Result<()> {
    let tables = CHANGES.map(|(table, ..)| table);
    let mut world = World::with_tables(&tables).await?;
    world.start().await?;
    world.settle().await?;

    world.stop_if(Moment::Stopped).await?;
    for (table, statements, _) in CHANGES {
        for sql in statements {
            world.postgres.execute(&sql.replace("$t", table)).await?;
        }
    }
    world.start_if(Moment::Stopped).await?;

    // All of the tables become visible at once.
    let operations = world.operations_until_settled().await?;
    let log = world.tidewater()?.log()?;
    for table in tables {
        ensure!(log.contains(&format!("copying again table public.{table}")), "{table}: {log}");
    }
    let expected: usize = CHANGES.iter().map(|(.., rows)| rows).sum();
    ensure!(operations == expected, "{operations} operations for {expected} rows: {log}");

    // What is stored of them is as before: a change that the stream brings is one operation.
    world.postgres.execute("UPDATE same SET note = 'later' WHERE id = 1").await?;
    ensure!(world.operations_until_settled().await? == 1);
    Ok(())
}

/// The names of stored rows are read back as keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_with_keys_of_any_kind_are_compared() -> Result<()> {
    let mut world = World::with_tables(&["plain"]).await?;
    world
        .postgres
        .execute(
            r"CREATE TABLE one_text (id text PRIMARY KEY, note text);
              CREATE TABLE two_columns (id text, n numeric, note text, PRIMARY KEY (n, id));
              CREATE TABLE without_key (id text, note text);
              INSERT INTO one_text SELECT k, 'note' FROM unnest(ARRAY['', ' ', 'it''s', 'a|b',
                  '3:abc', E'tab\tand\nline', '\N', 'größer', repeat('long ', 300)]) AS k;
              INSERT INTO two_columns SELECT id, 1.10 + length(id), 'note' FROM one_text;
              INSERT INTO without_key SELECT id, 'note' FROM one_text;
              ALTER TABLE without_key REPLICA IDENTITY FULL;
              ALTER PUBLICATION powersync ADD TABLE one_text, two_columns, without_key",
        )
        .await?;
    for table in ["one_text", "two_columns", "without_key"] {
        world.also_read(table);
    }
    world.start().await?;
    world.settle().await?;

    world.stop_if(Moment::Stopped).await?;
    let out = "ALTER PUBLICATION powersync DROP TABLE one_text, two_columns, without_key";
    world.postgres.execute(out).await?;
    for table in ["one_text", "two_columns", "without_key"] {
        let changes = format!(
            "DELETE FROM {table} WHERE id IN ('', 'a|b', repeat('long ', 300));
             UPDATE {table} SET note = 'changed' WHERE id IN ('it''s', '3:abc')"
        );
        world.postgres.execute(&changes).await?;
    }
    // Equal keys with another text are other rows to a device, which knows the text only.
    world.postgres.execute("UPDATE two_columns SET n = n::numeric(10, 1) WHERE id = ' '").await?;
    let back = "ALTER PUBLICATION powersync ADD TABLE one_text, two_columns, without_key";
    world.postgres.execute(back).await?;
    world.start_if(Moment::Stopped).await?;

    // Three rows less and two others in each; a row under another text; and the table without a key
    // loses its nine rows and gets the six that are left.
    let operations = world.operations_until_settled().await?;
    ensure!(operations == 5 + 5 + 2 + 9 + 6, "{operations}: {}", world.tidewater()?.log()?);
    Ok(())
}

/// A value that is stored out of line, and that the stream leaves out, is of the table's present
/// shape.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_the_stream_leaves_out_is_not_taken_from_a_former_shape() -> Result<()> {
    let mut world = World::with_tables(&["t"]).await?;
    world
        .postgres
        .execute(
            "ALTER TABLE t ALTER note SET STORAGE EXTERNAL;
             ALTER TABLE t ADD COLUMN gone text; ALTER TABLE t ADD COLUMN kept text;
             UPDATE t SET note = repeat('a', 5000), gone = repeat('b', 5000), kept = repeat('c', 5000)",
        )
        .await?;
    world.start().await?;
    world.settle().await?;

    world.stop_if(Moment::Stopped).await?;
    world
        .postgres
        .execute(
            "ALTER TABLE t ALTER note TYPE text USING upper(note);
             ALTER TABLE t DROP COLUMN gone",
        )
        .await?;
    // The stream brings this, without the long values, before or after the copy has read the rows.
    world.postgres.execute("UPDATE t SET m = 'ok' WHERE id < 40").await?;
    world.start_if(Moment::Stopped).await?;
    world.postgres.execute("UPDATE t SET m = 'sad' WHERE id < 30").await?;
    world.settle().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_was_created_again_costs_devices_the_rows_that_differ() -> Result<()> {
    let mut world = World::with_tables(&["t", "other"]).await?;
    world.start().await?;
    world.settle().await?;

    world.stop_if(Moment::Stopped).await?;
    world
        .postgres
        .execute("DELETE FROM t WHERE id = 7; UPDATE t SET note = 'new' WHERE id = 8")
        .await?;
    let slots = "SELECT pg_drop_replication_slot(slot_name)::text FROM pg_replication_slots";
    world.postgres.value(slots).await?;
    world.start_if(Moment::Stopped).await?;
    let operations = world.operations_until_settled().await?;
    ensure!(operations == 2, "{operations} operations: {}", world.tidewater()?.log()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_server_costs_devices_the_rows_that_differ() -> Result<()> {
    let mut world = World::with_tables(&["t", "other"]).await?;
    world.start().await?;
    world.settle().await?;

    // The copy of the server lacks 19 updates, 10 deletions, and two new rows.
    restore(&mut world, Moment::Stopped).await?;
    world.start_if(Moment::Stopped).await?;
    let operations = world.operations_until_settled().await?;
    ensure!(operations == 31, "{operations} operations: {}", world.tidewater()?.log()?);
    Ok(())
}
