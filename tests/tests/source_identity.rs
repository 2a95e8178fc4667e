//! Rows that change without a row change in the stream: by statements on tables, types and
//! publications, by what happens to the slot, and by restores. Readers end with the source's rows.

mod difference;
mod publications;
mod random;
mod servers;
mod world;

use anyhow::Result;
use tidewater_tests::Postgres;
use world::{Alteration, Moment, World};

/// One table for each. Statements of a list run one after another, each in a transaction of its own.
const ALTERATIONS: [Alteration; 14] = [
    Alteration {
        table: "rewritten",
        sql: &["ALTER TABLE $t ALTER note TYPE text USING upper(note)"],
    },
    Alteration {
        table: "behind_a_rewrite",
        // The first change is in the log with the former value, and may be applied after the copy.
        sql: &[
            "UPDATE $t SET note = 'first'",
            "ALTER TABLE $t ALTER note TYPE text USING upper(note)",
        ],
    },
    Alteration { table: "relabelled", sql: &["ALTER TYPE mood_$t RENAME VALUE 'sad' TO 'blue'"] },
    Alteration {
        table: "relabelled_for_a_moment",
        sql: &[
            "ALTER TYPE mood_$t RENAME VALUE 'sad' TO 'blue'",
            "UPDATE $t SET note = 'between' WHERE id < 20",
            "ALTER TYPE mood_$t RENAME VALUE 'blue' TO 'sad'",
        ],
    },
    Alteration {
        table: "unpublished_for_a_moment",
        sql: &[
            "ALTER PUBLICATION powersync DROP TABLE $t",
            "UPDATE $t SET note = 'between' WHERE id < 20; DELETE FROM $t WHERE id > 40",
            "ALTER PUBLICATION powersync ADD TABLE $t",
        ],
    },
    Alteration {
        table: "unlogged_for_a_moment",
        sql: &[
            "ALTER PUBLICATION powersync DROP TABLE $t",
            "ALTER TABLE $t SET UNLOGGED",
            "UPDATE $t SET note = 'between'",
            "ALTER TABLE $t SET LOGGED",
            "ALTER PUBLICATION powersync ADD TABLE $t",
        ],
    },
    Alteration {
        table: "created_again",
        sql: &["BEGIN; DROP TABLE $t; CREATE TABLE $t (id int PRIMARY KEY, note text, m mood_$t);
                INSERT INTO $t SELECT i, 'again', 'sad' FROM generate_series(30, 60) AS i;
                ALTER PUBLICATION powersync ADD TABLE $t; COMMIT"],
    },
    Alteration {
        table: "swapped_one",
        sql: &["BEGIN; ALTER TABLE $t RENAME TO between; ALTER TABLE swapped_two RENAME TO $t;
                ALTER TABLE between RENAME TO swapped_two; COMMIT"],
    },
    Alteration {
        table: "swapped_two",
        sql: &["UPDATE $t SET note = 'after the swap' WHERE id < 5"],
    },
    Alteration {
        table: "with_another_column_of_the_name",
        sql: &[
            "ALTER TABLE $t DROP COLUMN note; ALTER TABLE $t ADD COLUMN note text DEFAULT 'new'",
        ],
    },
    Alteration {
        table: "with_another_identity_for_a_moment",
        sql: &[
            "ALTER TABLE $t REPLICA IDENTITY FULL",
            "UPDATE $t SET note = 'between', id = id + 100 WHERE id < 20",
            "ALTER TABLE $t REPLICA IDENTITY DEFAULT",
            "DELETE FROM $t WHERE id > 110",
        ],
    },
    Alteration {
        table: "truncated",
        sql: &["TRUNCATE $t", "INSERT INTO $t VALUES (7, 'after', 'sad')"],
    },
    Alteration {
        table: "moved",
        sql: &[
            "ALTER TABLE $t SET TABLESPACE elsewhere",
            "UPDATE $t SET note = 'moved' WHERE id = 1",
        ],
    },
    Alteration {
        table: "of_another_composite_for_a_moment",
        sql: &[
            "ALTER TYPE pair ADD ATTRIBUTE c int",
            "UPDATE $t SET both_of = (1, 'between', 3)",
            "ALTER TYPE pair DROP ATTRIBUTE c",
        ],
    },
];

/// Those with a row filter or a column list, which PostgreSQL 14 does not have.
const ALTERATIONS_SINCE_15: [Alteration; 2] = [
    Alteration {
        table: "filtered_for_a_moment",
        sql: &[
            "ALTER PUBLICATION powersync DROP TABLE $t",
            "ALTER PUBLICATION powersync ADD TABLE $t WHERE (id < 10)",
            "UPDATE $t SET note = 'between'; DELETE FROM $t WHERE id > 40",
            "BEGIN; ALTER PUBLICATION powersync DROP TABLE $t;
             ALTER PUBLICATION powersync ADD TABLE $t; COMMIT",
        ],
    },
    Alteration {
        table: "cut_for_a_moment",
        sql: &[
            "BEGIN; ALTER PUBLICATION powersync DROP TABLE $t;
             ALTER PUBLICATION powersync ADD TABLE $t (id, m); COMMIT",
            "UPDATE $t SET note = 'between'",
            "BEGIN; ALTER PUBLICATION powersync DROP TABLE $t;
             ALTER PUBLICATION powersync ADD TABLE $t; COMMIT",
        ],
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alterations_that_send_no_change_reach_readers_while_the_worker_runs() -> Result<()> {
    check(Moment::Running).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alterations_that_send_no_change_reach_readers_while_the_worker_is_stopped() -> Result<()> {
    check(Moment::Stopped).await
}

async fn check(moment: Moment) -> Result<()> {
    let postgres = Postgres::start().await?;
    let mut alterations: Vec<_> = ALTERATIONS.iter().collect();
    if postgres.major_version().await? >= 15 {
        alterations.extend(&ALTERATIONS_SINCE_15);
    }
    let tables: Vec<_> = alterations.iter().map(|one| one.table).collect();
    let mut world = World::in_source(postgres, &tables).await?;
    for statement in [
        "CREATE TYPE pair AS (a int, b text)",
        "ALTER TABLE of_another_composite_for_a_moment ADD COLUMN both_of pair",
        "UPDATE of_another_composite_for_a_moment SET both_of = (id, note)",
        "SET allow_in_place_tablespaces = on; CREATE TABLESPACE elsewhere LOCATION ''",
    ] {
        world.execute_each(statement).await?;
    }
    world.start().await?;
    world.settle().await?;

    world.stop_if(moment).await?;
    for Alteration { table, sql } in alterations {
        for sql in *sql {
            world.postgres.execute(&sql.replace("$t", table)).await?;
        }
    }
    world.start_if(moment).await?;
    world.settle().await?;
    Ok(())
}

/// A partition's changes are sent while it is part of a published table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_detached_and_attached_again_is_copied() -> Result<()> {
    let mut world = World::with_tables(&["plain"]).await?;
    world
        .postgres
        .execute(
            "CREATE TABLE whole (id int, note text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
             CREATE TABLE part PARTITION OF whole FOR VALUES FROM (1) TO (100);
             INSERT INTO whole SELECT i, 'row' FROM generate_series(1, 50) AS i;
             ALTER PUBLICATION powersync ADD TABLE whole",
        )
        .await?;
    world.also_read("part");
    world.start().await?;
    world.settle().await?;

    world.postgres.execute("ALTER TABLE whole DETACH PARTITION part").await?;
    world.postgres.execute("UPDATE part SET note = 'between' WHERE id < 20").await?;
    let attach = "ALTER TABLE whole ATTACH PARTITION part FOR VALUES FROM (1) TO (100)";
    world.postgres.execute(attach).await?;
    world.settle().await
}

/// Tables of a published schema have no entry of their own in the publication.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_leaves_a_published_schema_for_a_moment_is_copied() -> Result<()> {
    let mut world = World::with_tables(&["plain"]).await?;
    if world.postgres.major_version().await? < 15 {
        return Ok(());
    }
    world
        .postgres
        .execute("CREATE SCHEMA other; ALTER PUBLICATION powersync SET TABLES IN SCHEMA public")
        .await?;
    world.start().await?;
    world.settle().await?;

    world.postgres.execute("ALTER TABLE plain SET SCHEMA other").await?;
    world.postgres.execute("UPDATE other.plain SET note = 'between' WHERE id < 20").await?;
    world.postgres.execute("ALTER TABLE other.plain SET SCHEMA public").await?;
    world.settle().await?;

    let publication = "ALTER PUBLICATION powersync";
    world.postgres.execute(&format!("{publication} DROP TABLES IN SCHEMA public")).await?;
    world.postgres.execute("DELETE FROM plain WHERE id < 30").await?;
    world.postgres.execute(&format!("{publication} ADD TABLES IN SCHEMA public")).await?;
    world.settle().await
}
