//! The check of the source, which finds everything before anything is made.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tidewater_tests::{
    DevOptions, Output, Postgres, PostgresOptions, Process, Scratch, SyncReader, Tidewater,
    eventually,
};
use tokio::time::Instant;

/// Timeout of a command: long enough for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A time within which the running worker reads the catalog at least once: it does every ten seconds.
const CATALOG_LOOK: Duration = Duration::from_secs(12);

/// A table that the worker cannot sync, and the SQL that fixes it.
struct Obstacle {
    table: &'static str,
    /// Creates the table. A superuser runs it after the publication was created.
    create: &'static str,
    /// A part of the problem's description.
    problem: &'static str,
    /// The fix, which the check prints.
    fix: &'static str,
}

const OBSTACLES: [Obstacle; 9] = [
    Obstacle {
        table: "hidden.notes",
        create: "CREATE SCHEMA hidden; CREATE TABLE hidden.notes (id int PRIMARY KEY);
                 GRANT SELECT ON hidden.notes TO app; ALTER PUBLICATION powersync ADD TABLE hidden.notes",
        problem: "role \"app\" may not use schema hidden",
        fix: "GRANT USAGE ON SCHEMA \"hidden\" TO \"app\";",
    },
    Obstacle {
        table: "secret",
        create: "CREATE TABLE secret (id int PRIMARY KEY);
                 ALTER PUBLICATION powersync ADD TABLE secret",
        problem: "may not read table public.secret",
        fix: "GRANT SELECT ON \"public\".\"secret\" TO \"app\";",
    },
    Obstacle {
        table: "secured",
        create: "CREATE TABLE secured (id int PRIMARY KEY); GRANT SELECT ON secured TO app;
                 ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
                 ALTER PUBLICATION powersync ADD TABLE secured",
        problem: "row security hides rows of table public.secured",
        fix: "ALTER ROLE \"app\" BYPASSRLS;",
    },
    Obstacle {
        table: "unpublished",
        create: "CREATE TABLE unpublished (id int PRIMARY KEY); GRANT SELECT ON unpublished TO app",
        problem: "table public.unpublished is not in publication",
        fix: "ALTER PUBLICATION \"powersync\" ADD TABLE \"public\".\"unpublished\";",
    },
    Obstacle {
        table: "fast",
        create: "CREATE UNLOGGED TABLE fast (id int PRIMARY KEY); GRANT SELECT ON fast TO app",
        problem: "table public.fast is unlogged",
        fix: "ALTER TABLE \"public\".\"fast\" SET LOGGED; ALTER PUBLICATION \"powersync\" ADD TABLE \
              \"public\".\"fast\";",
    },
    Obstacle {
        table: "nobody",
        create: "CREATE TABLE nobody (id int PRIMARY KEY); GRANT SELECT ON nobody TO app;
                 ALTER TABLE nobody REPLICA IDENTITY NOTHING;
                 ALTER PUBLICATION powersync ADD TABLE nobody",
        problem: "the replica identity of table public.nobody is NOTHING",
        fix: "ALTER TABLE \"public\".\"nobody\" REPLICA IDENTITY DEFAULT;",
    },
    Obstacle {
        table: "index_gone",
        create: "CREATE TABLE index_gone (id int PRIMARY KEY, n int NOT NULL);
                 CREATE UNIQUE INDEX by_n ON index_gone (n); GRANT SELECT ON index_gone TO app;
                 ALTER TABLE index_gone REPLICA IDENTITY USING INDEX by_n; DROP INDEX by_n;
                 ALTER PUBLICATION powersync ADD TABLE index_gone",
        problem: "the replica identity of table public.index_gone is an index that is gone",
        fix: "ALTER TABLE \"public\".\"index_gone\" REPLICA IDENTITY DEFAULT;",
    },
    Obstacle {
        table: "deferred",
        create: "CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE); GRANT SELECT ON deferred TO app;
                 ALTER PUBLICATION powersync ADD TABLE deferred",
        problem: "the primary key of table public.deferred is DEFERRABLE",
        fix: "ALTER TABLE \"public\".\"deferred\" REPLICA IDENTITY FULL;",
    },
    Obstacle {
        table: "keyless",
        create: "CREATE TABLE keyless (id int, n int); GRANT SELECT ON keyless TO app;
                 ALTER PUBLICATION powersync ADD TABLE keyless",
        problem: "table public.keyless has neither a primary key nor a replica identity",
        fix: "ALTER TABLE \"public\".\"keyless\" REPLICA IDENTITY FULL;",
    },
];

/// Those with a row filter or a column list, which PostgreSQL 14 does not have.
const OBSTACLES_SINCE_15: [Obstacle; 3] = [
    Obstacle {
        table: "cut",
        create:
            "CREATE TABLE cut (n int PRIMARY KEY, id int, secret text); GRANT SELECT ON cut TO app;
                 ALTER PUBLICATION powersync ADD TABLE cut (id)",
        problem: "replica identity of table public.cut, \"n\" is missing",
        fix: "BEGIN; ALTER PUBLICATION \"powersync\" DROP TABLE \"public\".\"cut\"; ALTER PUBLICATION \
              \"powersync\" ADD TABLE \"public\".\"cut\" (\"id\", \"n\"); COMMIT;",
    },
    Obstacle {
        table: "whole",
        create: "CREATE TABLE whole (id int PRIMARY KEY, n int); GRANT SELECT ON whole TO app;
                 ALTER TABLE whole REPLICA IDENTITY FULL;
                 ALTER PUBLICATION powersync ADD TABLE whole (id)",
        problem: "replica identity of table public.whole, \"n\" is missing",
        fix: "BEGIN; ALTER PUBLICATION \"powersync\" DROP TABLE \"public\".\"whole\"; ALTER PUBLICATION \
              \"powersync\" ADD TABLE \"public\".\"whole\"; COMMIT;",
    },
    Obstacle {
        table: "filtered",
        create: "CREATE TABLE filtered (id int PRIMARY KEY); GRANT SELECT ON filtered TO app;
                 ALTER PUBLICATION powersync ADD TABLE filtered WHERE (id < 10)",
        problem: "filters rows of table public.filtered",
        fix: "BEGIN; ALTER PUBLICATION \"powersync\" DROP TABLE \"public\".\"filtered\"; ALTER \
              PUBLICATION \"powersync\" ADD TABLE \"public\".\"filtered\"; COMMIT;",
    },
];

/// Returns a sync config that reads these tables whole.
fn config_of(tables: &[&str]) -> String {
    let stream = |(at, table): (usize, &&str)| {
        format!("  s{at}: {{ auto_subscribe: true, query: SELECT * FROM {table} }}\n")
    };
    let streams: String = tables.iter().enumerate().map(stream).collect();
    format!("config: {{ edition: 3 }}\nstreams:\n{streams}")
}

/// The findings of a command.
struct Checked {
    output: Output,
    findings: Vec<Value>,
    source: Vec<Value>,
}

impl Checked {
    /// Returns the findings about the source with this severity, each with its fix.
    fn with(&self, severity: &str) -> Vec<(String, String)> {
        let text =
            |finding: &Value, member: &str| finding[member].as_str().unwrap_or_default().to_owned();
        self.source
            .iter()
            .filter(|finding| finding["severity"] == severity)
            .map(|finding| (text(finding, "message"), text(finding, "fix")))
            .collect()
    }

    /// Asserts that there is an error with this problem and this fix.
    #[track_caller]
    fn assert_error(&self, problem: &str, fix: &str) {
        let errors = self.with("error");
        let found = errors.iter().find(|(message, _)| message.contains(problem));
        assert!(found.is_some(), "'{problem}' is not in {errors:#?}");
        let found = found.map(|(_, fix)| fix.as_str()).unwrap_or_default();
        assert!(found.contains(fix), "'{fix}' is not in: {found}");
    }
}

/// Runs `tidewater check`.
async fn check(url: &str, config: &str, arguments: &[&str]) -> Result<Checked> {
    let folder = Scratch::new()?;
    let file = folder.path().join("sync-config.yaml");
    std::fs::write(&file, config)?;
    let mut command = Tidewater::command()?;
    command.arg("check").arg("--sync-config").arg(&file).args(["--format", "json"]);
    command.args(["--database-url", url]).args(arguments);
    let output = Process::run(&mut command, SOON).await?;
    let document: Value = serde_json::from_str(&output.stdout).context(output.stderr.clone())?;
    let list = |member: &str| document[member].as_array().cloned().unwrap_or_default();
    Ok(Checked { findings: list("findings"), source: list("source"), output })
}

async fn slots(postgres: &Postgres) -> Result<String> {
    postgres.value("SELECT count(*) FROM pg_replication_slots").await
}

#[tokio::test]
async fn all_findings_are_reported_at_once_and_their_fixes_make_the_source_ready() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres
        .execute("CREATE ROLE app LOGIN PASSWORD 'password'; CREATE PUBLICATION powersync")
        .await?;
    let mut obstacles: Vec<_> = OBSTACLES.iter().collect();
    if postgres.major_version().await? >= 15 {
        obstacles.extend(&OBSTACLES_SINCE_15);
    }
    for obstacle in &obstacles {
        postgres.execute(obstacle.create).await?;
    }
    let tables: Vec<_> = obstacles.iter().map(|one| one.table).collect();
    let url = postgres.url_of("app", "password", "postgres");
    let config = config_of(&tables);

    let checked = check(&url, &config, &[]).await?;
    checked.output.assert_code(1);
    checked.assert_error("lacks the REPLICATION attribute", "ALTER ROLE \"app\" REPLICATION;");
    for obstacle in &obstacles {
        checked.assert_error(obstacle.problem, obstacle.fix);
    }
    assert_eq!(checked.with("error").len(), obstacles.len() + 1, "{:#?}", checked.source);

    // The start of a worker finds the same, and makes nothing.
    let options = DevOptions::new(&url, &config);
    let output = Tidewater::prepare(options.clone())?.run_to_end(SOON).await?;
    output.assert_code(1);
    output.assert_says(&["ALTER ROLE \"app\" REPLICATION;"]);
    for obstacle in &obstacles {
        output.assert_says(&[obstacle.problem, obstacle.fix]);
    }
    assert_eq!(slots(&postgres).await?, "0", "a slot that nobody reads retains WAL");

    postgres.execute("ALTER ROLE app REPLICATION").await?;
    for obstacle in obstacles {
        postgres.execute(obstacle.fix).await?;
    }
    let checked = check(&url, &config, &[]).await?;
    checked.output.assert_code(0);
    assert_eq!(checked.with("error"), []);
    Tidewater::dev_ready(options).await?;
    Ok(())
}

#[tokio::test]
async fn errors_of_the_config_and_of_the_source_are_reported_together() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres
        .execute("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
        .await?;
    let config = config_of(&["a", "b", "missing"]);
    let create = "CREATE PUBLICATION \"powersync\" FOR TABLE \"public\".\"a\", \"public\".\"b\";";

    let checked = check(&postgres.url("postgres"), &config, &[]).await?;
    checked.output.assert_code(2);
    checked.assert_error("publication \"powersync\" does not exist", create);
    assert_eq!(checked.findings.len(), 1, "{:?}", checked.findings);

    let options = DevOptions::new(&postgres.url("postgres"), &config);
    let output = Tidewater::prepare(options)?.run_to_end(SOON).await?;
    output.assert_code(2);
    output.assert_says(&[create, "sync-config.yaml:5:", "missing"]);
    assert_eq!(slots(&postgres).await?, "0");
    Ok(())
}

#[tokio::test]
async fn a_column_that_the_config_names_and_the_stream_lacks_is_named_with_its_fix() -> Result<()> {
    let postgres = Postgres::start().await?;
    let version = postgres.major_version().await?;
    // PostgreSQL 14 has no column lists.
    let columns = if version >= 15 { "(id, n)" } else { "" };
    postgres
        .execute(&format!(
            "CREATE TABLE sums (id int PRIMARY KEY, n int, double int GENERATED ALWAYS AS (n * 2) STORED);
             CREATE TABLE cut (id int PRIMARY KEY, n int, secret text);
             CREATE PUBLICATION powersync FOR TABLE sums, cut {columns}"
        ))
        .await?;
    let config = "config: { edition: 3 }\nstreams:\n  \
                  a: { auto_subscribe: true, query: 'SELECT id, double FROM sums' }\n  \
                  b: { auto_subscribe: true, query: 'SELECT id, secret FROM cut' }\n";

    let url = postgres.url("postgres");
    let checked = check(&url, config, &[]).await?;
    checked.output.assert_code(2);
    let hints: Vec<_> =
        checked.findings.iter().map(|finding| finding["hint"].as_str().unwrap_or("")).collect();
    let generated = match hints[..] {
        [generated] if version < 15 => generated,
        [generated, unlisted] => {
            let list = "ADD TABLE \"public\".\"cut\"; COMMIT;";
            assert!(unlisted.contains(list), "{unlisted}");
            postgres.execute(unlisted).await?;
            generated
        }
        _ => panic!("{:#?}", checked.findings),
    };

    // PostgreSQL 18 can publish it, and then it is synced.
    if version < 18 {
        assert!(generated.contains("compute the value in the sync config"), "{generated}");
        return Ok(());
    }
    postgres.execute(generated).await?;
    postgres.execute("INSERT INTO sums VALUES (1, 2)").await?;
    check(&url, config, &[]).await?.output.assert_code(0);
    let tidewater = Tidewater::dev_ready(DevOptions::new(&url, config)).await?;
    postgres.execute("INSERT INTO sums VALUES (2, 4); UPDATE sums SET n = 3 WHERE id = 1").await?;
    let mut reader = SyncReader::new();
    let mut connection = tidewater.connect(&mut reader, "u1").await?;
    let completed = connection.completed_with(|done| done.rows.len() == 2).await?;
    let rows: Vec<_> = completed.rows.values().map(|row| format!("{row:?}")).collect();
    ensure!(rows[0].contains('6') && rows[1].contains('8'), "{rows:?}");
    Ok(())
}

/// A long `ALTER TABLE` or `VACUUM FULL` holds such a lock. The running worker repeats the check meanwhile.
#[tokio::test]
async fn a_locked_table_holds_back_neither_the_check_nor_other_tables() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres
        .execute(
            "CREATE TABLE locked (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY);
             CREATE PUBLICATION powersync FOR TABLE locked, other",
        )
        .await?;
    let url = postgres.url("postgres");
    let config = config_of(&["locked", "other"]);
    let tidewater = Tidewater::dev_ready(DevOptions::new(&url, &config)).await?;
    let session = postgres.connect().await?;
    session.batch_execute("BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE").await?;
    check(&url, &config, &[]).await?.output.assert_code(0);

    let mut reader = SyncReader::new();
    let mut connection = tidewater.connect(&mut reader, "u1").await?;
    let locked = Instant::now();
    let mut rows = 0;
    while locked.elapsed() < CATALOG_LOOK {
        rows += 1;
        postgres.execute(&format!("INSERT INTO other VALUES ({rows})")).await?;
        let read = connection.completed_with(|done| done.rows.len() == rows);
        tokio::time::timeout(SOON / 10, read).await.context("the worker waits for the lock")??;
        // Paces the load, and waits for nothing.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// PostgreSQL 18 publishes generated columns that are stored, and never those that are computed when
/// they are read.
#[tokio::test]
async fn a_virtual_generated_column_is_named_as_one_that_is_not_published() -> Result<()> {
    let postgres = Postgres::start().await?;
    if postgres.major_version().await? < 18 {
        return Ok(());
    }
    let create = "CREATE TABLE sums (id int PRIMARY KEY, n int, double int GENERATED ALWAYS AS (n * 2));
                  CREATE PUBLICATION powersync FOR TABLE sums WITH (publish_generated_columns = stored)";
    postgres.execute(create).await?;
    let config = "config: { edition: 3 }\nstreams:\n  \
                  a: { auto_subscribe: true, query: 'SELECT id, double FROM sums' }\n";
    let checked = check(&postgres.url("postgres"), config, &[]).await?;
    checked.output.assert_code(2);
    let [finding] = &checked.findings[..] else { panic!("{:#?}", checked.findings) };
    let hint = finding["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("compute the value in the sync config"), "{hint}");
    assert!(!hint.contains("publish_generated_columns"), "it cannot be published: {hint}");
    Ok(())
}

#[tokio::test]
async fn a_published_table_without_columns_is_no_obstacle() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres
        .execute(
            "CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES;
             CREATE TABLE lists (id int PRIMARY KEY); INSERT INTO lists VALUES (1);
             CREATE PUBLICATION powersync FOR ALL TABLES",
        )
        .await?;
    let options = DevOptions::new(&postgres.url("postgres"), &config_of(&["lists", "\"%\" AS t"]));
    let mut tidewater = Tidewater::dev_ready(options).await?;
    postgres
        .execute(
            "INSERT INTO nothing DEFAULT VALUES; CREATE TABLE void (); INSERT INTO void DEFAULT VALUES;
             INSERT INTO lists VALUES (2)",
        )
        .await?;
    let mut reader = SyncReader::new();
    let mut connection = tidewater.connect(&mut reader, "u1").await?;
    connection.completed_with(|done| done.rows.keys().any(|(_, id)| id == "2")).await?;
    tidewater.must_run()
}

#[tokio::test]
async fn wal_senders_and_slots_in_use_are_counted_without_those_of_this_worker() -> Result<()> {
    let options = PostgresOptions::default().set("max_wal_senders", "1");
    let postgres = Postgres::with(options.set("max_replication_slots", "1")).await?;
    postgres
        .execute(
            "CREATE TABLE lists (id int PRIMARY KEY); CREATE PUBLICATION powersync FOR TABLE lists",
        )
        .await?;
    let url = postgres.url("postgres");
    let config = config_of(&["lists"]);
    check(&url, &config, &[]).await?.output.assert_code(0);

    let options = DevOptions::new(&url, &config).with(&["--slot", "ours"]);
    let _tidewater = Tidewater::dev_ready(options).await?;
    check(&url, &config, &["--slot", "ours"]).await?.output.assert_code(0);

    let other = check(&url, &config, &["--slot", "other"]).await?;
    other.output.assert_code(1);
    other.assert_error("1 of max_wal_senders = 1", "ALTER SYSTEM SET max_wal_senders = 6;");
    let slots_fix = "ALTER SYSTEM SET max_replication_slots = 6;";
    other.assert_error("1 of max_replication_slots = 1", slots_fix);

    // A worker that finds no WAL sender leaves no slot behind.
    postgres.execute("CREATE DATABASE other_database").await?;
    let second = DevOptions::new(&url, &config).with(&["--slot", "other"]);
    let output = Tidewater::prepare(second)?.run_to_end(SOON).await?;
    output.assert_code(1);
    output.assert_says(&["max_wal_senders"]);
    assert_eq!(slots(&postgres).await?, "1");
    Ok(())
}

/// The store is compared with the source only when the slot is held.
#[tokio::test]
async fn a_start_that_fails_after_it_has_made_its_slot_drops_it() -> Result<()> {
    let postgres = Postgres::start().await?;
    let tables =
        "CREATE TABLE lists (id int PRIMARY KEY); CREATE PUBLICATION powersync FOR TABLE lists";
    postgres.execute(tables).await?;
    let config = config_of(&["lists"]);
    let mut first =
        Tidewater::dev_ready(DevOptions::new(&postgres.url("postgres"), &config)).await?;
    first.terminate().await?.assert_code(0);
    assert_eq!(slots(&postgres).await?, "1");

    postgres.execute("CREATE DATABASE another TEMPLATE postgres").await?;
    let options = DevOptions::new(&postgres.url("another"), &config).with(&["--slot", "new_one"]);
    let output = Tidewater::prepare(options)?.run_on_data_dir_of(&first, SOON).await?;
    output.assert_code(1);
    output.assert_says(&["the store belongs to another database"]);
    assert_eq!(slots(&postgres).await?, "1", "only the slot of the first worker");
    Ok(())
}

#[tokio::test]
async fn a_detached_partition_that_a_pattern_matches_is_reported_with_the_sql_that_adds_it()
-> Result<()> {
    let postgres = Postgres::start().await?;
    postgres
        .execute(
            "CREATE TABLE events (id int PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (100);
             CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (100) TO (200);
             CREATE PUBLICATION powersync FOR TABLE events",
        )
        .await?;
    let url = postgres.url("postgres");
    let config = config_of(&["\"events_%\" AS e"]);
    let checked = check(&url, &config, &[]).await?;
    assert!(!format!("{:?}", checked.source).contains("events_"), "{:?}", checked.source);

    postgres.execute("ALTER TABLE events DETACH PARTITION events_2").await?;
    let checked = check(&url, &config, &[]).await?;
    checked.output.assert_code(0);
    let warnings = checked.with("warning");
    let fix = "ALTER PUBLICATION \"powersync\" ADD TABLE \"public\".\"events_2\";";
    ensure!(warnings.iter().any(|(_, found)| found == fix), "{warnings:?}");

    // A config that names it cannot do without it.
    let named = check(&url, &config_of(&["events_2"]), &[]).await?;
    named.output.assert_code(1);
    named.assert_error("public.events_2 is not in publication", fix);
    postgres.execute(fix).await?;
    check(&url, &config_of(&["events_2"]), &[]).await?.output.assert_code(0);
    Ok(())
}

#[tokio::test]
async fn text_that_is_not_utf8_is_found_with_table_and_row() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres
        .execute(
            "CREATE DATABASE bytes ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
        )
        .await?;
    let url = postgres.url("bytes");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute(
            "CREATE TABLE notes (id int PRIMARY KEY, note text);
             INSERT INTO notes VALUES (1, 'ascii'), (2, E'\\xC3\\xA9'), (3, E'\\xE9');
             CREATE PUBLICATION powersync FOR TABLE notes",
        )
        .await?;
    let config = config_of(&["notes"]);

    let checked = check(&url, &config, &[]).await?;
    checked.output.assert_code(1);
    let row = "table public.notes has text that is not UTF-8, in the row WHERE (\"id\") = ('3')";
    checked.assert_error(row, "UPDATE \"public\".\"notes\" SET");
    let options = DevOptions::new(&url, &config).with(&["--slot", "ours"]);
    let output = Tidewater::prepare(options.clone())?.run_to_end(SOON).await?;
    output.assert_code(1);
    output.assert_says(&[row]);
    assert_eq!(slots(&postgres).await?, "0");

    client.batch_execute("UPDATE notes SET note = 'ascii' WHERE id = 3").await?;
    let checked = check(&url, &config, &[]).await?;
    checked.output.assert_code(0);
    ensure!(format!("{:?}", checked.with("warning")).contains("SQL_ASCII"), "the risk stays");

    // A row that comes later stops the worker, which says how to find it and how to go on.
    let tidewater = Tidewater::dev_ready(options).await?;
    client.batch_execute("INSERT INTO notes VALUES (4, E'\\xFF')").await?;
    eventually("the worker to stop", SOON, async || {
        Ok(tidewater.log()?.contains("`tidewater check` names the row").then_some(()))
    })
    .await?;
    check(&url, &config, &[]).await?.assert_error("WHERE (\"id\") = ('4')", "UPDATE");
    client.batch_execute("UPDATE notes SET note = 'fixed' WHERE id = 4").await?;
    eventually("the slot to be dropped", SOON, async || {
        client.batch_execute("SELECT pg_drop_replication_slot('ours')").await?;
        Ok(Some(()))
    })
    .await?;
    // A stream of the former checkpoint ends when all tables were copied again.
    let token = tidewater.token("u1")?;
    eventually("the rows to arrive", SOON, async || {
        let completed = SyncReader::new().sync_once(tidewater.url(), &token).await?;
        Ok((completed.rows.len() == 4).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_table_that_is_replaced_while_the_catalog_is_read_is_found() -> Result<()> {
    let postgres = Postgres::start().await?;
    let tables = "CREATE TABLE lists (id int PRIMARY KEY);
                  CREATE PUBLICATION powersync FOR TABLE lists";
    postgres.execute(tables).await?;
    let url = postgres.url("postgres");
    let config = config_of(&["lists"]);

    // The check takes its snapshot, and waits for the lock before it reads. What it then asks about the
    // former table is answered by a catalog that lacks it, and its snapshot lacks the new one.
    let session = postgres.connect().await?;
    let replace = "BEGIN; LOCK TABLE pg_publication_rel IN ACCESS EXCLUSIVE MODE;
                   CREATE TABLE copy AS SELECT * FROM lists; DROP TABLE lists;
                   ALTER TABLE copy RENAME TO lists; ALTER TABLE lists ADD PRIMARY KEY (id);
                   ALTER PUBLICATION powersync ADD TABLE lists";
    session.batch_execute(replace).await?;
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE wait_event_type = 'Lock' AND backend_type = 'client backend'";
    let commit_once_it_waits = async {
        eventually("the check waits for the lock", SOON, async || {
            Ok((postgres.value(waiting).await? == "1").then_some(()))
        })
        .await?;
        session.batch_execute("COMMIT").await?;
        anyhow::Ok(())
    };
    let (checked, ()) = tokio::try_join!(check(&url, &config, &[]), commit_once_it_waits)?;

    checked.output.assert_code(0);
    Ok(())
}

#[tokio::test]
async fn validate_includes_the_check_if_it_is_given_a_database() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute("CREATE TABLE lists (id int PRIMARY KEY)").await?;
    let folder = Scratch::new()?;
    let file = folder.path().join("sync-config.yaml");
    std::fs::write(&file, config_of(&["lists"]))?;
    let validate = async || {
        let mut command = Tidewater::command()?;
        command.arg("validate").arg(&file).args(["--database-url", &postgres.url("postgres")]);
        Process::run(&mut command, SOON).await
    };

    let output = validate().await?;
    output.assert_code(1);
    let fix = "fix: CREATE PUBLICATION \"powersync\" FOR TABLE \"public\".\"lists\";";
    ensure!(output.stdout.contains(fix), "{}", output.stdout);
    let verdict = "the source database is not ready: 1 error, 1 warning";
    ensure!(output.stdout.contains(verdict), "{}", output.stdout);

    postgres.execute("CREATE PUBLICATION \"powersync\" FOR TABLE \"public\".\"lists\"").await?;
    let output = validate().await?;
    output.assert_code(0);
    ensure!(output.stdout.contains("the source database is ready"), "{}", output.stdout);
    Ok(())
}
