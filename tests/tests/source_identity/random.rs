//! Row changes, interleaved with everything that changes rows without a row change, with kills of the
//! worker and of its connections, and with crashes and restores of the server.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tidewater_tests::Settings;

use super::world::World;

const TABLES: [&str; 3] = ["a", "b", "c"];

/// The publication as the worker needs it. Whatever a round did to it, it is so at the end.
const PUBLISH_ALL: &str = "publish = 'insert, update, delete, truncate'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_the_source_readers_end_with_its_rows() -> Result<()> {
    let settings = Settings::from_env()?;
    for seed in settings.seed_list() {
        eprintln!("TIDEWATER_TEST_SEED={seed}");
        run(seed, settings.rounds).await.with_context(|| {
            format!(
                "to repeat: TIDEWATER_TEST_SEED={seed} TIDEWATER_TEST_ROUNDS={}",
                settings.rounds
            )
        })?;
    }
    Ok(())
}

async fn run(seed: u64, rounds: usize) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::with_tables(&TABLES).await?;
    world.start().await?;
    world.settle().await?;
    for round in 0..rounds {
        for _ in 0..rng.random_range(1..10) {
            let steps = event(&mut rng);
            for step in steps {
                eprintln!("round {round}: {step:?}");
                take(&mut world, &step).await.with_context(|| format!("{step:?}"))?;
            }
        }
        mend(&mut world).await?;
        settle(&mut world).await.with_context(|| format!("in round {round}"))?;
    }
    Ok(())
}

/// A step of the test.
#[derive(Clone, Debug)]
enum Step {
    Sql(String),
    KillWorker,
    StopWorker,
    StartWorker,
    CutConnections,
    CrashServer,
    SaveServer,
    RestoreServer,
    MoveSlot,
    DropSlot,
    Wait,
}

async fn take(world: &mut World, step: &Step) -> Result<()> {
    match step {
        Step::Sql(sql) => {
            // Of a table that is in another state, not everything can be done.
            if let Err(error) = world.postgres.execute(sql).await {
                eprintln!("    {error:#}");
            }
        }
        Step::KillWorker => world.end_worker(true).await?,
        Step::StopWorker => world.end_worker(false).await?,
        Step::StartWorker => world.revive().await?,
        Step::CutConnections => {
            let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_replication";
            world.postgres.value(cut).await?;
        }
        Step::CrashServer => world.postgres.crash_and_restart().await?,
        Step::SaveServer => {
            world.postgres.stop().await?;
            world.postgres.save()?;
            world.postgres.restart(&[]).await?;
        }
        Step::RestoreServer if world.postgres.is_saved() => {
            world.postgres.stop().await?;
            world.postgres.put_back()?;
            world.postgres.restart(&[]).await?;
        }
        Step::RestoreServer => {}
        Step::MoveSlot => {
            let advance = "SELECT pg_replication_slot_advance(slot_name, pg_current_wal_lsn())
                           FROM pg_replication_slots WHERE NOT active";
            world.postgres.execute(advance).await.ok();
        }
        Step::DropSlot => {
            let drop = "SELECT pg_drop_replication_slot(slot_name)
                        FROM pg_replication_slots WHERE NOT active";
            world.postgres.execute(drop).await.ok();
        }
        // The catalog is looked at every ten seconds.
        Step::Wait => tokio::time::sleep(Duration::from_secs(6)).await,
    }
    Ok(())
}

/// Brings everything into a state in which the worker can run.
async fn mend(world: &mut World) -> Result<()> {
    let exists = "SELECT count(*) FROM pg_publication WHERE pubname = 'powersync'";
    if world.postgres.value(exists).await? == "0" {
        world.postgres.execute("CREATE PUBLICATION powersync").await?;
    }
    world.postgres.execute(&format!("ALTER PUBLICATION powersync SET ({PUBLISH_ALL})")).await?;
    for table in TABLES {
        let is_unlogged =
            format!("SELECT relpersistence::text FROM pg_class WHERE oid = '{table}'::regclass");
        if world.postgres.value(&is_unlogged).await? == "u" {
            world.postgres.execute(&format!("ALTER TABLE {table} SET LOGGED")).await?;
        }
    }
    let tables = TABLES.join(", ");
    world.postgres.execute(&format!("ALTER PUBLICATION powersync SET TABLE {tables}")).await?;
    world.revive().await
}

/// Waits for the reader. The worker may have stopped, if it looked while the source was not ready.
async fn settle(world: &mut World) -> Result<()> {
    let mut restarts = 0;
    loop {
        let outcome = world.settle().await;
        if outcome.is_ok() || restarts == 3 {
            return outcome;
        }
        let Some(log) = world.ended()? else { return outcome };
        ensure!(log.contains("is not ready for replication"), "{log}");
        restarts += 1;
        world.revive().await?;
    }
}

fn sql(text: impl Into<String>) -> Step {
    Step::Sql(text.into())
}

/// Returns steps that belong together.
fn event(rng: &mut StdRng) -> Vec<Step> {
    let names = TABLES.choose_multiple(rng, 2).copied().collect::<Vec<_>>();
    let [table, other] = names[..] else { return Vec::new() };
    let first = change(rng, table);
    let second = change(rng, table);
    match rng.random_range(0..40) {
        0..8 => vec![first, second],
        8..18 => alteration(rng, [table, other], [first, second]),
        18..28 => publication_event(rng, [table, other], [first, second]),
        _ => accident(rng, table, [first, second]),
    }
}

/// Statements on a table or on the type of its column.
fn alteration(rng: &mut StdRng, [t, other]: [&str; 2], [first, second]: [Step; 2]) -> Vec<Step> {
    let alter = |change: &str| sql(format!("ALTER TABLE {t} {change}"));
    let label = |from, to| sql(format!("ALTER TYPE mood_{t} RENAME VALUE '{from}' TO '{to}'"));
    match rng.random_range(0..12) {
        0 => vec![first, alter("ALTER note TYPE text USING upper(note)"), second],
        1 => vec![first, alter("ALTER note TYPE varchar USING lower(note)"), second],
        2 => vec![label("sad", "blue"), first],
        3 => vec![label("blue", "sad"), first, label("sad", "blue")],
        4 => vec![sql(format!("ALTER TYPE mood_{t} ADD VALUE IF NOT EXISTS 'new'")), first],
        5 => {
            let create = format!(
                "BEGIN; CREATE TABLE copy AS SELECT * FROM {t} WHERE id % 3 > 0; DROP TABLE {t};
                 ALTER TABLE copy RENAME TO {t}; ALTER TABLE {t} ADD PRIMARY KEY (id);
                 ALTER PUBLICATION powersync ADD TABLE {t}; COMMIT"
            );
            vec![sql(create), first]
        }
        6 => {
            let swap = format!(
                "BEGIN; ALTER TABLE {t} RENAME TO between; ALTER TABLE {other} RENAME TO {t};
                 ALTER TABLE between RENAME TO {other}; COMMIT"
            );
            vec![first, sql(swap), second]
        }
        7 => vec![first, alter("DROP note, ADD note text DEFAULT 'new'"), second],
        8 => vec![alter("REPLICA IDENTITY FULL"), first, second, alter("REPLICA IDENTITY DEFAULT")],
        9 => vec![sql(format!("TRUNCATE {t}")), first, second],
        10 => vec![first, sql(format!("VACUUM FULL {t}")), second],
        _ => vec![first, sql(format!("REINDEX TABLE CONCURRENTLY {t}")), second],
    }
}

/// Statements on the publication.
fn publication_event(
    rng: &mut StdRng,
    [t, other]: [&str; 2],
    [first, second]: [Step; 2],
) -> Vec<Step> {
    let all = TABLES.join(", ");
    let alter = |change: &str| sql(format!("ALTER PUBLICATION powersync {change}"));
    let drop = alter(&format!("DROP TABLE {t}"));
    let add = alter(&format!("ADD TABLE {t}"));
    match rng.random_range(0..10) {
        0 | 1 => vec![drop, first, second, add],
        2 => vec![drop, first, Step::Wait],
        3 => {
            let filter = alter(&format!("SET TABLE {t} WHERE (id < 10), {other}"));
            vec![filter, first, second, alter(&format!("SET TABLE {all}"))]
        }
        4 => {
            let list = alter(&format!("SET TABLE {t} (id, m), {other}"));
            vec![list, first, second, alter(&format!("SET TABLE {all}"))]
        }
        5 => {
            let publish_all = alter(&format!("SET ({PUBLISH_ALL})"));
            vec![alter("SET (publish = 'insert')"), first, second, publish_all]
        }
        6 => {
            let create = format!("CREATE PUBLICATION powersync FOR TABLE {all}");
            vec![sql("DROP PUBLICATION powersync"), first, sql(create)]
        }
        7 => {
            let Step::Sql(change) = first else { return Vec::new() };
            vec![sql(format!(
                "BEGIN; DROP PUBLICATION powersync; {change};
                 CREATE PUBLICATION powersync FOR TABLE {all}; COMMIT"
            ))]
        }
        8 => {
            let unlogged = sql(format!("ALTER TABLE {t} SET UNLOGGED"));
            let logged = sql(format!("ALTER TABLE {t} SET LOGGED"));
            vec![drop, unlogged, first, logged, add]
        }
        _ => vec![Step::StopWorker, drop, first, add, Step::StartWorker],
    }
}

/// Returns what happens to the worker, to its connections or to the server.
fn accident(rng: &mut StdRng, t: &str, [first, second]: [Step; 2]) -> Vec<Step> {
    match rng.random_range(0..11) {
        0 | 1 => vec![Step::KillWorker, first, Step::StartWorker],
        2 => vec![Step::StopWorker, first, second],
        3 => vec![Step::StopWorker, first, Step::MoveSlot, second, Step::StartWorker],
        4 => vec![Step::KillWorker, first, Step::DropSlot, second, Step::StartWorker],
        5 => vec![first, Step::CutConnections, second],
        6 => vec![first, Step::CrashServer, second],
        7 => vec![Step::SaveServer, first],
        8 => vec![first, Step::RestoreServer, second],
        9 => vec![Step::StopWorker, Step::RestoreServer, first, second, Step::StartWorker],
        // The log has the changes from before the rewrite when the worker starts.
        _ => vec![
            Step::KillWorker,
            first,
            sql(format!("ALTER TABLE {t} ALTER note TYPE text USING upper(note)")),
            second,
            Step::StartWorker,
        ],
    }
}

/// A change of rows.
fn change(rng: &mut StdRng, t: &str) -> Step {
    let id = rng.random_range(1..60);
    let many = rng.random_range(1..30);

    // Some values are stored out of line, and an UPDATE of another column leaves them out.
    let note = match rng.random_range(0..3) {
        0 => format!(
            "(SELECT string_agg(md5((i * {id})::text), '') FROM generate_series(1, 200) AS i)"
        ),
        _ => format!("'note {}'", rng.random_range(0..1_000)),
    };
    let mood = "(enum_range(m))[1]";

    sql(match rng.random_range(0..8) {
        0 | 1 => format!("INSERT INTO {t} (id, note) VALUES ({id}, {note})
                          ON CONFLICT (id) DO UPDATE SET note = EXCLUDED.note"),
        2 => format!("UPDATE {t} SET note = {note} WHERE id % 10 = {id} % 10"),
        3 => format!("UPDATE {t} SET m = {mood} WHERE id > {id}"),
        4 => format!("UPDATE {t} SET id = id + 100 WHERE id = {id}"),
        5 => format!("DELETE FROM {t} WHERE id > {id} AND id < {id} + {many}"),
        6 => format!("INSERT INTO {t} (id, note) SELECT i, 'many' FROM generate_series({id}, {id} + {many}) AS i
                      ON CONFLICT DO NOTHING"),
        _ => format!("UPDATE {t} SET note = 'all of them'"),
    })
}
