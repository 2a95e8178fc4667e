//! Connections of the worker to PostgreSQL: over TLS, and as a role with the least privileges.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidewater_tests::{
    Auth, DevOptions, Device, Postgres, PostgresOptions, Process, Scratch, SyncReader, Tidewater,
    eventually,
};

/// Timeout of a command: long enough for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(60);

const CONFIG: &str = "
config: { edition: 3 }
streams:
  notes: { auto_subscribe: true, query: SELECT * FROM app.notes }
";

const TABLES: &str = "
    CREATE SCHEMA app;
    CREATE TABLE app.notes (id text PRIMARY KEY, note text);
    INSERT INTO app.notes VALUES ('a', 'copied');
    CREATE PUBLICATION powersync FOR TABLE app.notes;
";

/// Returns the ids of the notes that a new device gets.
async fn notes(tidewater: &Tidewater, count: usize) -> Result<Vec<String>> {
    let mut reader = SyncReader::new();
    let mut connection = tidewater.connect(&mut reader, "u1").await?;
    let completed = connection.completed_with(|done| done.rows.len() == count).await?;
    Ok(completed.rows.keys().map(|(_, id)| id.clone()).collect())
}

#[tokio::test]
async fn the_session_and_the_stream_are_encrypted_and_the_session_binds_its_password_to_tls()
-> Result<()> {
    let options = PostgresOptions { auth: Auth::Scram, tls: true, ..PostgresOptions::default() };
    let postgres = Postgres::with(options).await?;
    postgres.execute(TABLES).await?;

    let url = postgres.url("postgres").replace("127.0.0.1", "localhost");
    let root = postgres.root_certificate();
    let verified = format!("sslmode=verify-full&sslrootcert={}", root.display());
    let url = url.replace("sslmode=disable", &format!("{verified}&channel_binding=require"));
    let tidewater = Tidewater::dev_ready(DevOptions::new(&url, CONFIG)).await?;
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE application_name = 'tidewater' AND ssl";
    assert_eq!(postgres.value(encrypted).await?, "2", "the session and the stream");

    postgres.execute("INSERT INTO app.notes VALUES ('b', 'streamed')").await?;
    assert_eq!(notes(&tidewater, 2).await?, ["a", "b"]);
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_cannot_be_verified_is_refused_with_the_way_out() -> Result<()> {
    let options = PostgresOptions { tls: true, ..PostgresOptions::default() };
    let postgres = Postgres::with(options).await?;
    postgres.execute(TABLES).await?;
    // An address of this machine that does not say so, and that the certificate does not name.
    let plain = postgres.url("postgres").replace("127.0.0.1", "0.0.0.0");
    let url = plain.replace("?sslmode=disable", "");
    let root = postgres.root_certificate().display().to_string();
    let ways_out = ["cannot be verified", "?sslrootcert=FILE", "sslmode=require"];

    for refused in [url.clone(), format!("{url}?sslrootcert={root}")] {
        let options = DevOptions::new(&refused, CONFIG);
        let output = Tidewater::prepare(options)?.run_to_end(SOON).await?;
        output.assert_code(1);
        output.assert_says(&ways_out);
    }

    // The driver of the replication stream compares the name also for `verify-ca`.
    let named = url.replace("0.0.0.0", "localhost");
    for accepted in
        [format!("{url}?sslmode=require"), format!("{named}?sslmode=verify-ca&sslrootcert={root}")]
    {
        let tidewater = Tidewater::dev_ready(DevOptions::new(&accepted, CONFIG)).await?;
        assert_eq!(notes(&tidewater, 1).await?, ["a"], "{accepted}");
    }
    Ok(())
}

/// The role owns nothing, is a member of nothing, and nobody else may do anything by default.
#[tokio::test]
async fn a_role_with_login_replication_usage_and_select_suffices_for_everything() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres
        .execute(&format!(
            "{TABLES} REVOKE ALL ON SCHEMA public FROM PUBLIC;
             REVOKE ALL ON DATABASE postgres FROM PUBLIC;
             CREATE ROLE app LOGIN REPLICATION PASSWORD 'password'"
        ))
        .await?;
    let url = postgres.url_of("app", "password", "postgres");
    let folder = Scratch::new()?;
    let file = folder.path().join("sync-config.yaml");
    std::fs::write(&file, CONFIG)?;
    let check = async || {
        let mut command = Tidewater::command()?;
        command.arg("check").arg("--sync-config").arg(&file).args(["--database-url", &url]);
        Process::run(&mut command, SOON).await
    };

    // Each missing privilege has its GRANT, and no other is needed.
    let output = check().await?;
    output.assert_code(1);
    let grant = "GRANT CONNECT ON DATABASE \"postgres\" TO \"app\";";
    output.assert_says(&[grant]);
    postgres.execute(grant).await?;
    let output = check().await?;
    output.assert_code(1);
    for grant in [
        "GRANT USAGE ON SCHEMA \"app\" TO \"app\";",
        "GRANT SELECT ON \"app\".\"notes\" TO \"app\";",
    ] {
        ensure!(output.stdout.contains(grant), "{grant} is not in: {}", output.stdout);
        postgres.execute(grant).await?;
    }
    check().await?.assert_code(0);

    // Copy, stream, write checkpoints, restart, an altered table, and the look at the catalog.
    let mut tidewater = Tidewater::dev_ready(DevOptions::new(&url, CONFIG)).await?;
    postgres.execute("INSERT INTO app.notes VALUES ('b', 'streamed')").await?;
    assert_eq!(notes(&tidewater, 2).await?, ["a", "b"]);
    let reader = SyncReader::new();
    reader.write_checkpoint(tidewater.url(), &tidewater.token("u1")?).await?;

    tidewater.terminate().await?.assert_code(0);
    postgres.execute("INSERT INTO app.notes VALUES ('c', 'while it was stopped')").await?;
    tidewater.start().await?;
    assert_eq!(notes(&tidewater, 3).await?, ["a", "b", "c"]);

    postgres.execute("ALTER TABLE app.notes ALTER note TYPE text USING upper(note)").await?;
    eventually("the table to be copied again", SOON, async || {
        Ok(tidewater.log()?.contains("copying again table").then_some(()))
    })
    .await?;
    let mut device = Device::new("CREATE TABLE notes (id TEXT PRIMARY KEY, note TEXT)")?;
    let token = tidewater.token("u1")?;
    eventually("the new values to arrive", SOON, async || {
        device.sync_once(tidewater.url(), &token, &[], SOON).await?.assert_code(0);
        let first = device.column("SELECT note FROM notes ORDER BY id")?;
        Ok((first.first().is_some_and(|note| note == "COPIED")).then_some(()))
    })
    .await?;
    tidewater.must_run()
}
