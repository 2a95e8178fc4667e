//! Tables that come, change and go while they are synced, by their names and by patterns.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};
use tidewater_tests::{DevOptions, Postgres, Rows, Settings, SyncReader, Tidewater, eventually};

/// For whatever comes by itself: long, since other tests run beside this one, and since the worker
/// looks at the catalog every ten seconds.
const SOON: Duration = Duration::from_secs(90);

const CONFIG: &str = r#"
config: { edition: 3 }
streams:
  events:
    auto_subscribe: true
    query: SELECT * FROM "ev_%"
  docs:
    auto_subscribe: true
    query: |
      SELECT docs.*, docs.table_suffix() AS suffix FROM docs
      WHERE docs.org IN (SELECT org FROM "members_%" AS m WHERE m.usr = auth.user_id())
"#;

/// A server, a worker and a reader that stays connected only for as long as it waits.
struct World {
    postgres: Postgres,
    tidewater: Tidewater,
    reader: SyncReader,
    token: String,
}

impl World {
    async fn start(sql: &str) -> Result<Self> {
        let postgres = Postgres::start().await?;
        postgres.execute(sql).await?;
        let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
        let tidewater = Tidewater::dev_ready(options).await?;
        let token = tidewater.token("u1")?;
        Ok(Self { postgres, tidewater, reader: SyncReader::new(), token })
    }

    /// Waits until the user has exactly the rows of the tables as SQL gives them.
    async fn settle(&mut self) -> Result<Rows> {
        let expected = self.expected().await?;
        eventually("the rows of the tables", SOON, async || {
            self.tidewater.must_run()?;
            let found = self.reader.sync_once(self.tidewater.url(), &self.token).await?.rows;
            ensure!(*found == expected, "there are {found:?}\nand not {expected:?}");
            Ok(Some(()))
        })
        .await?;
        Ok(expected)
    }

    /// What the user must have, by the database itself.
    async fn expected(&self) -> Result<Rows> {
        let tables = "SELECT COALESCE(string_agg(tablename, ' ' ORDER BY tablename), '')
                      FROM pg_publication_tables WHERE pubname = 'powersync' AND tablename LIKE ";
        let mut rows = Rows::new();
        for table in self.postgres.value(&format!(r"{tables} 'ev\_%'")).await?.split_whitespace() {
            self.rows_of(table, &format!("SELECT * FROM {table}"), &mut rows).await?;
        }
        let members = self.postgres.value(&format!(r"{tables} 'members\_%'")).await?;
        let members: Vec<String> = members
            .split_whitespace()
            .map(|table| format!("SELECT org FROM {table} WHERE usr = 'u1'"))
            .collect();
        if !members.is_empty() {
            let members = members.join(" UNION ");
            let docs = format!("SELECT *, '' AS suffix FROM docs WHERE org IN ({members})");
            self.rows_of("docs", &docs, &mut rows).await?;
        }
        Ok(rows)
    }

    async fn rows_of(&self, table: &str, query: &str, rows: &mut Rows) -> Result<()> {
        let list = format!("SELECT COALESCE(jsonb_agg(q), '[]')::text FROM ({query}) AS q");
        let list: Vec<Map<String, Value>> =
            serde_json::from_str(&self.postgres.value(&list).await?)?;
        for row in list {
            let id = row.get("id").and_then(|id| Some(id.as_str()?.to_owned()));
            rows.insert((table.to_owned(), id.context("a text")?), row);
        }
        Ok(())
    }

    /// How often the worker has copied a table.
    fn copies_of(&self, table: &str) -> Result<usize> {
        let copied = format!(r#""copied","table":"public.{table}""#);
        Ok(self.tidewater.log()?.matches(&copied).count())
    }
}

const TABLES: &str = "
    CREATE TABLE ev_1 (id text PRIMARY KEY, usr text, org text);
    INSERT INTO ev_1 VALUES ('a', 'one'), ('b', NULL);
    CREATE TABLE docs (id text PRIMARY KEY, org text);
    INSERT INTO docs VALUES ('d1', 'o1'), ('d2', 'o2');
    CREATE TABLE members_x (usr text, org text, PRIMARY KEY (usr, org));
    INSERT INTO members_x VALUES ('u1', 'o1'), ('u2', 'o2');
    CREATE VIEW ev_view AS SELECT * FROM ev_1;
    CREATE PUBLICATION powersync FOR ALL TABLES;
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_come_and_go_are_copied_and_removed_by_themselves() -> Result<()> {
    let mut world = World::start(TABLES).await?;
    assert_eq!(world.settle().await?.len(), 3);
    // Its first rows come with the table itself.
    let new = "BEGIN; CREATE TABLE ev_2 (id text PRIMARY KEY, n int);
               INSERT INTO ev_2 VALUES ('a', 1); COMMIT";
    world.postgres.execute(new).await?;
    let rows = world.settle().await?;
    assert_eq!(rows[&("ev_2".to_owned(), "a".to_owned())]["n"], json!(1));
    // A table that is there already comes under a name that matches.
    world.postgres.execute("CREATE TABLE other (id text PRIMARY KEY)").await?;
    world.postgres.execute("INSERT INTO other VALUES ('o')").await?;
    world.postgres.execute("ALTER TABLE other RENAME TO ev_other").await?;
    assert_eq!(world.settle().await?.len(), 5);
    // More answers to a lookup, and fewer.
    world.postgres.execute("CREATE TABLE members_y (usr text PRIMARY KEY, org text)").await?;
    world.postgres.execute("INSERT INTO members_y VALUES ('u1', 'o2')").await?;
    assert_eq!(world.settle().await?.len(), 6);
    world.postgres.execute("DROP TABLE members_y; DROP TABLE ev_other").await?;
    assert_eq!(world.settle().await?.len(), 4);
    world.postgres.execute("CREATE TABLE members_y (usr text PRIMARY KEY, org text)").await?;
    assert_eq!(world.settle().await?.len(), 4, "its former answers do not come back");
    world.postgres.execute("ALTER TABLE ev_2 RENAME TO elsewhere").await?;
    assert_eq!(world.settle().await?.len(), 3);
    for table in ["ev_1", "docs", "members_x"] {
        assert_eq!(world.copies_of(table)?, 1, "{table} was never touched");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_makes_a_table_is_seen_whole() -> Result<()> {
    let mut world = World::start(TABLES).await?;
    let url = world.tidewater.url().to_owned();
    let mut connection = world.reader.connect(&url, &world.token).await?;
    connection.completed().await?;
    let both = "BEGIN; CREATE TABLE ev_2 (id text PRIMARY KEY); INSERT INTO ev_2 VALUES ('e');
                INSERT INTO docs VALUES ('d3', 'o1'); COMMIT";
    world.postgres.execute(both).await?;
    let key = |table: &str, id: &str| (table.to_owned(), id.to_owned());
    let has_doc = connection.completed_with(|seen| seen.rows.contains_key(&key("docs", "d3")));
    let seen = tokio::time::timeout(SOON, has_doc).await??;
    assert!(seen.rows.contains_key(&key("ev_2", "e")), "{:?}", seen.rows);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_altered_table_is_copied_again_and_no_other() -> Result<()> {
    let mut world = World::start(TABLES).await?;
    world.settle().await?;
    world.postgres.execute("ALTER TABLE docs ADD COLUMN title text DEFAULT 'x'").await?;
    world.postgres.execute("UPDATE docs SET title = 'y' WHERE id = 'd1'").await?;
    let rows = world.settle().await?;
    assert_eq!(rows[&("docs".to_owned(), "d1".to_owned())]["title"], json!("y"));
    world.postgres.execute("ALTER TABLE ev_1 ADD COLUMN n int DEFAULT 7").await?;
    world.postgres.execute("INSERT INTO ev_1 (id, n) VALUES ('c', 3)").await?;
    world.settle().await?;
    for (table, copies) in [("docs", 2), ("ev_1", 2), ("members_x", 1)] {
        assert_eq!(world.copies_of(table)?, copies, "{table}");
    }
    // Altered and altered back while nobody looks: changes of both shapes are in the log.
    world.tidewater.terminate().await?;
    world.postgres.execute("ALTER TABLE ev_1 ADD COLUMN m int").await?;
    world.postgres.execute("UPDATE ev_1 SET m = 1, usr = 'while'").await?;
    world.postgres.execute("ALTER TABLE ev_1 DROP COLUMN m").await?;
    world.postgres.execute("UPDATE ev_1 SET usr = 'after' WHERE id = 'a'").await?;
    world.tidewater.start().await?;
    world.settle().await?;
    for (table, copies) in [("docs", 0), ("ev_1", 1), ("members_x", 0)] {
        assert_eq!(world.copies_of(table)?, copies, "{table}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_cannot_be_synced_is_left_out_and_told_of() -> Result<()> {
    let mut world = World::start(TABLES).await?;
    world
        .postgres
        .execute("CREATE TABLE ev_bare (id text); INSERT INTO ev_bare VALUES ('x')")
        .await?;
    world.postgres.execute("INSERT INTO ev_1 VALUES ('c', NULL)").await?;
    eventually("word of it", SOON, async || {
        let told = "left out: table public.ev_bare has neither a primary key";
        Ok(world.tidewater.log()?.contains(told).then_some(()))
    })
    .await?;
    let found = world.reader.sync_once(world.tidewater.url(), &world.token).await?.rows;
    assert!(found.keys().all(|(table, _)| table != "ev_bare"), "{found:?}");
    world.postgres.execute("ALTER TABLE ev_bare ADD PRIMARY KEY (id)").await?;
    world.settle().await?;
    Ok(())
}

/// A pattern finds the partitions, also those that are made later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partitioned_table_is_synced_by_its_partitions() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres
        .execute(
            "CREATE TABLE log (id text, day int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
             CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (1) TO (2);
             CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM (2) TO (3);
             CREATE PUBLICATION powersync FOR TABLE log;
             INSERT INTO log VALUES ('a', 1), ('b', 2)",
        )
        .await?;
    let config = r#"
config: { edition: 3 }
streams:
  log:
    auto_subscribe: true
    query: SELECT * FROM "log_%" AS log
"#;
    let tidewater =
        Tidewater::dev_ready(DevOptions::new(&postgres.url("postgres"), config)).await?;
    let (token, mut reader) = (tidewater.token("u1")?, SyncReader::new());
    let steps = [
        // A row moves to another partition, and to one that is made with it.
        ("UPDATE log SET day = 2 WHERE id = 'a'", vec![("a", 2), ("b", 2)]),
        (
            "BEGIN; CREATE TABLE log_3 PARTITION OF log FOR VALUES FROM (3) TO (4);
             INSERT INTO log VALUES ('c', 3); UPDATE log SET day = 3 WHERE id = 'b'; COMMIT",
            vec![("a", 2), ("b", 3), ("c", 3)],
        ),
        ("ALTER TABLE log DETACH PARTITION log_2", vec![("b", 3), ("c", 3)]),
        ("DROP TABLE log_3", vec![]),
    ];
    for (sql, expected) in steps {
        postgres.execute(sql).await?;
        let row = |(id, day): (&str, i64)| {
            let columns = json!({"id": id, "day": day});
            (("log".to_owned(), id.to_owned()), columns.as_object().cloned().unwrap_or_default())
        };
        let expected: Rows = expected.into_iter().map(row).collect();
        eventually(sql, SOON, async || {
            let found = reader.sync_once(tidewater.url(), &token).await?.rows;
            ensure!(*found == expected, "there are {found:?}");
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

/// What the tables of a random run are called; some of the names do not match.
const NAMES: [&str; 5] = ["ev_1", "ev_2", "ev_3", "out_1", "members_z"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_of_tables_readers_end_with_their_rows() -> Result<()> {
    let settings = Settings::from_env()?;
    for seed in settings.seed_list() {
        eprintln!("TIDEWATER_TEST_SEED={seed}");
        run(seed, settings.rounds)
            .await
            .with_context(|| format!("to repeat: TIDEWATER_TEST_SEED={seed}"))?;
    }
    Ok(())
}

async fn run(seed: u64, rounds: usize) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    // Every other time tables must be published one by one.
    let publication = "FOR TABLE ev_1, docs, members_x";
    let tables = match seed % 2 {
        0 => TABLES.to_owned(),
        _ => TABLES.replace("FOR ALL TABLES", publication),
    };
    let mut world = World::start(&tables).await?;
    for round in 0..rounds {
        for _ in 0..rng.random_range(1..12) {
            let sql = alteration(&mut rng);
            // Of a table that is not there, or is there already, nothing can be done.
            if let Err(error) = world.postgres.execute(&sql).await {
                eprintln!("round {round}: {sql}: {error:#}");
            } else {
                eprintln!("round {round}: {sql}");
            }
            match rng.random_range(0..8) {
                0 => {
                    world.tidewater.kill_9()?;
                    world.tidewater.start().await?;
                }
                1 => {
                    world.tidewater.terminate().await?;
                    let sql = alteration(&mut rng);
                    eprintln!(
                        "round {round}, stopped: {sql}: {:?}",
                        world.postgres.execute(&sql).await
                    );
                    world.tidewater.start().await?;
                }
                _ => {}
            }
        }
        world.settle().await.with_context(|| format!("in round {round}"))?;
    }
    Ok(())
}

/// Something that is done to one of the tables, as one transaction.
fn alteration(rng: &mut StdRng) -> String {
    let names = NAMES.choose_multiple(rng, 2).copied().collect::<Vec<_>>();
    let [table, other] = names[..] else { return String::new() };
    let id = rng.random_range(0..6);
    let insert = |id: usize| {
        format!("INSERT INTO {table} VALUES ('{id}', 'u{}', 'o{}')", id % 2 + 1, id % 3)
    };
    let key = if rng.random() { "PRIMARY KEY" } else { "" };
    let create = format!(
        "CREATE TABLE {table} (id text {key}, usr text, org text);
         ALTER TABLE {table} REPLICA IDENTITY FULL; {}",
        insert(id)
    );
    match rng.random_range(0..22) {
        0..4 => format!("BEGIN; {create}; COMMIT"),
        4..7 => insert(id),
        7 => format!("UPDATE {table} SET id = '{}' WHERE id = '{id}'", id + 10),
        8 => format!("DELETE FROM {table} WHERE id = '{id}'"),
        9 => format!("TRUNCATE {table}"),
        10 => format!("ALTER TABLE {table} ADD COLUMN c{id} int DEFAULT {id}"),
        11 => format!("ALTER TABLE {table} DROP COLUMN IF EXISTS c{id}"),
        12 => format!("ALTER TABLE {table} RENAME TO {other}"),
        13 => format!("ALTER TABLE {table} ADD COLUMN c{id} int"),
        // It rewrites all rows, of which the stream says nothing. Rows without a key stay equal.
        14 => format!(
            "DO $$ BEGIN
                 IF EXISTS (SELECT FROM pg_index
                            WHERE indrelid = '{table}'::regclass AND indisprimary)
                 THEN ALTER TABLE {table} ADD COLUMN c{id} text DEFAULT md5(random()::text);
                 END IF;
             END $$"
        ),
        15 => format!("ALTER TABLE {table} ALTER COLUMN c{id} TYPE text USING c{id}::text"),
        16 => format!("BEGIN; DROP TABLE {table}; {create}; COMMIT"),
        17 => format!(
            "BEGIN; ALTER TABLE {table} RENAME TO between; ALTER TABLE {other} RENAME TO {table};
             ALTER TABLE between RENAME TO {other}; COMMIT"
        ),
        18 | 19 => format!("ALTER PUBLICATION powersync ADD TABLE {table}"),
        20 => format!("ALTER PUBLICATION powersync DROP TABLE {table}"),
        _ => format!("DROP TABLE {table}"),
    }
}
