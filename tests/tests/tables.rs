//! Fault F18: tables that are created, altered and dropped while they are synced, by their names and
//! by patterns.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};
use tidewater_tests::{DevOptions, Postgres, Rows, Settings, SyncReader, Tidewater, eventually};

/// Timeout of each wait: long, since other tests run at the same time, and since the worker reads the
/// catalog every ten seconds.
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

/// PostgreSQL, `tidewater dev`, and a reader that is connected only during a wait.
struct Setup {
    postgres: Postgres,
    tidewater: Tidewater,
    reader: SyncReader,
    token: String,
}

impl Setup {
    async fn start(sql: &str) -> Result<Self> {
        let postgres = Postgres::start().await?;
        postgres.execute(sql).await?;
        let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
        let tidewater = Tidewater::dev_ready(options).await?;
        let token = tidewater.token("u1")?;
        Ok(Self { postgres, tidewater, reader: SyncReader::new(), token })
    }

    /// Waits until the user has exactly the rows that the user must have, and returns them.
    async fn wait_until_equal(&mut self) -> Result<Rows> {
        let expected = self.expected().await?;
        eventually("the rows of the tables", SOON, async || {
            self.tidewater.must_run()?;
            let found = self.reader.sync_once(self.tidewater.url(), &self.token).await?.rows;
            ensure!(*found == expected, "the rows are {found:?}\nand not {expected:?}");
            Ok(Some(()))
        })
        .await?;
        Ok(expected)
    }

    /// Returns the rows that the user must have, as PostgreSQL selects them.
    async fn expected(&self) -> Result<Rows> {
        let tables = "SELECT COALESCE(string_agg(tablename, ' ' ORDER BY tablename), '')
                      FROM pg_publication_tables WHERE pubname = 'powersync' AND tablename LIKE ";

        let mut rows = Rows::new();
        for table in self.postgres.value(&format!(r"{tables} 'ev\_%'")).await?.split_whitespace() {
            self.add_rows(table, &format!("SELECT * FROM {table}"), &mut rows).await?;
        }

        let members = self.postgres.value(&format!(r"{tables} 'members\_%'")).await?;
        let members: Vec<String> = members
            .split_whitespace()
            .map(|table| format!("SELECT org FROM {table} WHERE usr = 'u1'"))
            .collect();
        if !members.is_empty() {
            let members = members.join(" UNION ");
            let docs = format!("SELECT *, '' AS suffix FROM docs WHERE org IN ({members})");
            self.add_rows("docs", &docs, &mut rows).await?;
        }
        Ok(rows)
    }

    /// Adds the rows of a query as those of `table`.
    async fn add_rows(&self, table: &str, query: &str, rows: &mut Rows) -> Result<()> {
        let list = format!("SELECT COALESCE(jsonb_agg(q), '[]')::text FROM ({query}) AS q");
        let list: Vec<Map<String, Value>> =
            serde_json::from_str(&self.postgres.value(&list).await?)?;
        for row in list {
            let id = row.get("id").and_then(|id| Some(id.as_str()?.to_owned()));
            rows.insert((table.to_owned(), id.context("the id is no text")?), row);
        }
        Ok(())
    }

    /// Returns how often the current process has copied a table.
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
async fn created_tables_are_copied_and_dropped_tables_are_removed() -> Result<()> {
    let mut setup = Setup::start(TABLES).await?;
    assert_eq!(setup.wait_until_equal().await?.len(), 3);

    // One transaction creates a table and inserts its first row.
    let new = "BEGIN; CREATE TABLE ev_2 (id text PRIMARY KEY, n int);
               INSERT INTO ev_2 VALUES ('a', 1); COMMIT";
    setup.postgres.execute(new).await?;
    let rows = setup.wait_until_equal().await?;
    assert_eq!(rows[&("ev_2".to_owned(), "a".to_owned())]["n"], json!(1));

    // An existing table is renamed to a name that matches.
    setup.postgres.execute("CREATE TABLE other (id text PRIMARY KEY)").await?;
    setup.postgres.execute("INSERT INTO other VALUES ('o')").await?;
    setup.postgres.execute("ALTER TABLE other RENAME TO ev_other").await?;
    assert_eq!(setup.wait_until_equal().await?.len(), 5);

    // A lookup has more answers, and then fewer.
    setup.postgres.execute("CREATE TABLE members_y (usr text PRIMARY KEY, org text)").await?;
    setup.postgres.execute("INSERT INTO members_y VALUES ('u1', 'o2')").await?;
    assert_eq!(setup.wait_until_equal().await?.len(), 6);

    setup.postgres.execute("DROP TABLE members_y; DROP TABLE ev_other").await?;
    assert_eq!(setup.wait_until_equal().await?.len(), 4);

    setup.postgres.execute("CREATE TABLE members_y (usr text PRIMARY KEY, org text)").await?;
    assert_eq!(setup.wait_until_equal().await?.len(), 4, "its former answers do not come back");

    setup.postgres.execute("ALTER TABLE ev_2 RENAME TO elsewhere").await?;
    assert_eq!(setup.wait_until_equal().await?.len(), 3);

    for table in ["ev_1", "docs", "members_x"] {
        assert_eq!(setup.copies_of(table)?, 1, "{table} was never touched");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_creates_a_table_becomes_visible_as_a_whole() -> Result<()> {
    let mut setup = Setup::start(TABLES).await?;
    let mut connection = setup.tidewater.connect(&mut setup.reader, "u1").await?;
    connection.completed().await?;

    let both = "BEGIN; CREATE TABLE ev_2 (id text PRIMARY KEY); INSERT INTO ev_2 VALUES ('e');
                INSERT INTO docs VALUES ('d3', 'o1'); COMMIT";
    setup.postgres.execute(both).await?;
    let has_doc = connection.completed_with(|done| done.row("docs", "d3").is_some());
    let done = tokio::time::timeout(SOON, has_doc).await??;
    assert!(done.row("ev_2", "e").is_some(), "{:?}", done.rows);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_altered_table_is_copied_again() -> Result<()> {
    let mut setup = Setup::start(TABLES).await?;
    setup.wait_until_equal().await?;

    setup.postgres.execute("ALTER TABLE docs ADD COLUMN title text DEFAULT 'x'").await?;
    setup.postgres.execute("UPDATE docs SET title = 'y' WHERE id = 'd1'").await?;
    let rows = setup.wait_until_equal().await?;
    assert_eq!(rows[&("docs".to_owned(), "d1".to_owned())]["title"], json!("y"));

    setup.postgres.execute("ALTER TABLE ev_1 ADD COLUMN n int DEFAULT 7").await?;
    setup.postgres.execute("INSERT INTO ev_1 (id, n) VALUES ('c', 3)").await?;
    setup.wait_until_equal().await?;
    for (table, copies) in [("docs", 2), ("ev_1", 2), ("members_x", 1)] {
        assert_eq!(setup.copies_of(table)?, copies, "{table}");
    }

    // The table is altered and altered back while no worker runs, so the WAL has rows of both shapes.
    setup.tidewater.terminate().await?;
    setup.postgres.execute("ALTER TABLE ev_1 ADD COLUMN m int").await?;
    setup.postgres.execute("UPDATE ev_1 SET m = 1, usr = 'while'").await?;
    setup.postgres.execute("ALTER TABLE ev_1 DROP COLUMN m").await?;
    setup.postgres.execute("UPDATE ev_1 SET usr = 'after' WHERE id = 'a'").await?;
    setup.tidewater.start().await?;
    setup.wait_until_equal().await?;
    for (table, copies) in [("docs", 0), ("ev_1", 1), ("members_x", 0)] {
        assert_eq!(setup.copies_of(table)?, copies, "{table}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_cannot_be_synced_is_left_out_and_logged() -> Result<()> {
    let mut setup = Setup::start(TABLES).await?;
    setup
        .postgres
        .execute("CREATE TABLE ev_bare (id text); INSERT INTO ev_bare VALUES ('x')")
        .await?;
    setup.postgres.execute("INSERT INTO ev_1 VALUES ('c', NULL)").await?;
    eventually("a log line about the table", SOON, async || {
        let line = "left out: table public.ev_bare has neither a primary key";
        Ok(setup.tidewater.log()?.contains(line).then_some(()))
    })
    .await?;

    let found = setup.reader.sync_once(setup.tidewater.url(), &setup.token).await?.rows;
    assert!(found.keys().all(|(table, _)| table != "ev_bare"), "{found:?}");

    setup.postgres.execute("ALTER TABLE ev_bare ADD PRIMARY KEY (id)").await?;
    setup.wait_until_equal().await?;
    Ok(())
}

/// A pattern matches the partitions, also those that are created later.
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

    let steps = [
        // A row moves to another partition, and then to a new one.
        ("UPDATE log SET day = 2 WHERE id = 'a'", vec![("a", 2), ("b", 2)]),
        (
            "BEGIN; CREATE TABLE log_3 PARTITION OF log FOR VALUES FROM (3) TO (4);
             INSERT INTO log VALUES ('c', 3); UPDATE log SET day = 3 WHERE id = 'b'; COMMIT",
            vec![("a", 2), ("b", 3), ("c", 3)],
        ),
        ("ALTER TABLE log DETACH PARTITION log_2", vec![("b", 3), ("c", 3)]),
        ("DROP TABLE log_3", vec![]),
    ];
    let token = tidewater.token("u1")?;
    let mut reader = SyncReader::new();
    for (sql, expected) in steps {
        postgres.execute(sql).await?;

        let mut rows = Rows::new();
        for (id, day) in expected {
            let columns = json!({"id": id, "day": day});
            let columns = columns.as_object().cloned().unwrap_or_default();
            rows.insert(("log".to_owned(), id.to_owned()), columns);
        }
        eventually(sql, SOON, async || {
            let found = reader.sync_once(tidewater.url(), &token).await?.rows;
            ensure!(*found == rows, "the rows are {found:?}");
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

/// Names of the tables of a random run. The patterns do not match all of them.
const NAMES: [&str; 5] = ["ev_1", "ev_2", "ev_3", "out_1", "members_z"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_equal_the_tables_after_random_alterations() -> Result<()> {
    let settings = Settings::from_env()?;
    for seed in settings.seed_list() {
        eprintln!("TIDEWATER_TEST_SEED={seed}");
        run(seed, settings.rounds).await.with_context(|| {
            let rounds = settings.rounds;
            format!("reproduce: TIDEWATER_TEST_SEED={seed} TIDEWATER_TEST_ROUNDS={rounds}")
        })?;
    }
    Ok(())
}

async fn run(seed: u64, rounds: usize) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    // With an odd seed each new table must be added to the publication.
    let tables = match seed % 2 {
        0 => TABLES.to_owned(),
        _ => TABLES.replace("FOR ALL TABLES", "FOR TABLE ev_1, docs, members_x"),
    };

    let mut setup = Setup::start(&tables).await?;
    for round in 0..rounds {
        for _ in 0..rng.random_range(1..12) {
            alter(&setup.postgres, &mut rng, &format!("round {round}")).await;

            match rng.random_range(0..8) {
                0 => {
                    setup.tidewater.kill_9()?;
                    setup.tidewater.start().await?;
                }
                1 => {
                    setup.tidewater.terminate().await?;
                    alter(&setup.postgres, &mut rng, &format!("round {round}, stopped")).await;
                    setup.tidewater.start().await?;
                }
                _ => {}
            }
        }
        setup.wait_until_equal().await.with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

/// Runs a random alteration and prints it.
///
/// It fails if the table does not exist, or exists already. PostgreSQL is then unchanged.
async fn alter(postgres: &Postgres, rng: &mut StdRng, when: &str) {
    let sql = alteration(rng);
    match postgres.execute(&sql).await {
        Ok(()) => eprintln!("{when}: {sql}"),
        Err(error) => eprintln!("{when}: {sql}: {error:#}"),
    }
}

/// Returns SQL that alters one of the tables, in one transaction.
fn alteration(rng: &mut StdRng) -> String {
    let names = NAMES.choose_multiple(rng, 2).copied().collect::<Vec<_>>();
    let [table, other] = names[..] else { return String::new() };

    let id = rng.random_range(0..6);
    let key = if rng.random() { "PRIMARY KEY" } else { "" };
    let insert = format!("INSERT INTO {table} VALUES ('{id}', 'u{}', 'o{}')", id % 2 + 1, id % 3);
    let create = format!(
        "CREATE TABLE {table} (id text {key}, usr text, org text);
         ALTER TABLE {table} REPLICA IDENTITY FULL; {insert}"
    );

    match rng.random_range(0..22) {
        0..4 => format!("BEGIN; {create}; COMMIT"),
        4..7 => insert,
        7 => format!("UPDATE {table} SET id = '{}' WHERE id = '{id}'", id + 10),
        8 => format!("DELETE FROM {table} WHERE id = '{id}'"),
        9 => format!("TRUNCATE {table}"),
        10 => format!("ALTER TABLE {table} ADD COLUMN c{id} int DEFAULT {id}"),
        11 => format!("ALTER TABLE {table} DROP COLUMN IF EXISTS c{id}"),
        12 => format!("ALTER TABLE {table} RENAME TO {other}"),
        13 => format!("ALTER TABLE {table} ADD COLUMN c{id} int"),
        // The statement rewrites all rows, and the stream has no message about them. Keyless tables
        // are left out: their equal rows would become different.
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
