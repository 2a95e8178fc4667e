//! Connections of the worker to PostgreSQL: over TLS, and as a role with the least privileges.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::FutureExt;
use tidewater_ingest_worker::{Config, Database, OnError, Passwords, Progress, run};
use tidewater_storage::{ControlStore, Embedded, Lsn};
use tidewater_tests::{
    Auth, DevOptions, Device, Postgres, PostgresOptions, Process, Scratch, SyncReader, Tidewater,
    eventually,
};
use tokio_util::sync::CancellationToken;

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

/// Returns passwords of which each is valid for one session: making one changes the role's password.
fn passwords_for_one_session(postgres: &Postgres, made: &Arc<AtomicUsize>) -> Passwords {
    let url = postgres.url("postgres");
    let made = Arc::clone(made);
    Passwords::new("ask the test", move |login| {
        let url = url.clone();
        let number = made.fetch_add(1, Ordering::SeqCst);
        async move {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            let password = format!("number {number}");
            let user = login.user;
            client.batch_execute(&format!("ALTER ROLE {user} PASSWORD '{password}'")).await?;
            Ok(password)
        }
        .boxed()
    })
}

#[tokio::test]
async fn each_session_and_each_stream_gets_a_password_of_its_own() -> Result<()> {
    let options = PostgresOptions { auth: Auth::Scram, ..PostgresOptions::default() };
    let postgres = Postgres::with(options).await?;
    postgres
        .execute(&format!(
            "{TABLES} CREATE ROLE app LOGIN REPLICATION;
             GRANT USAGE ON SCHEMA app TO app; GRANT SELECT ON app.notes TO app;"
        ))
        .await?;
    let made = Arc::new(AtomicUsize::new(0));
    let url = format!("postgres://app@127.0.0.1:{}/postgres?sslmode=disable", postgres.port());
    let database = Database::new(url).with_passwords(passwords_for_one_session(&postgres, &made));
    let config = Config {
        database,
        sync_config: CONFIG.to_owned(),
        publication: "powersync".to_owned(),
        slot: "one_session".to_owned(),
        snapshot_threshold: 1_000,
        receiver_timeout: Duration::from_secs(30),
        wal_budget_bytes: 10 << 30,
        rollback_grace: Duration::ZERO,
        on_error: OnError::Stop,
        until_caught_up: false,
    };

    let store = Embedded::temporary()?;
    let shutdown = CancellationToken::new();
    let worker = {
        let store = store.clone();
        let shutdown = shutdown.clone();
        tokio::spawn(async move { run(&config, store, &|_: Progress| (), &shutdown).await })
    };
    let visible_from = async |at_least: Lsn| {
        eventually("the checkpoint to be visible", SOON, async || {
            let control = store.control().await?;
            let lsn = control.filter(|control| control.visibility_barrier.is_none());
            Ok(lsn.is_some_and(|control| control.committed.lsn >= at_least).then_some(()))
        })
        .await
    };
    visible_from(Lsn(1)).await?;
    let made_at_first = made.load(Ordering::SeqCst);
    assert!(made_at_first >= 2, "the session and the stream: {made_at_first}");

    // Both connections are cut. Their passwords are not valid any more.
    postgres
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        .await?;
    postgres.execute("INSERT INTO app.notes VALUES ('b', 'after the cut')").await?;
    let end: Lsn = postgres
        .value("SELECT pg_current_wal_lsn()::text")
        .await?
        .parse()
        .map_err(anyhow::Error::msg)?;
    visible_from(end).await?;
    assert!(made.load(Ordering::SeqCst) >= made_at_first + 2);

    shutdown.cancel();
    worker.await??;
    Ok(())
}

/// PostgreSQL itself does not know such tokens, so it refuses them as it refuses a wrong password.
#[tokio::test]
async fn a_refused_token_of_rds_has_its_own_advice_and_missing_credentials_are_named() -> Result<()>
{
    let options = PostgresOptions { auth: Auth::Scram, tls: true, ..PostgresOptions::default() };
    let postgres = Postgres::with(options).await?;
    postgres.execute(&format!("{TABLES} CREATE ROLE app LOGIN REPLICATION PASSWORD 'p'")).await?;
    let folder = Scratch::new()?;
    let file = folder.path().join("sync-config.yaml");
    std::fs::write(&file, CONFIG)?;
    let root = postgres.root_certificate().display().to_string();
    let check = async |user: &str, query: &str, variables: &[(&str, &str)]| {
        let url = format!("postgres://{user}@localhost:{}/postgres?{query}", postgres.port());
        let mut command = Tidewater::command()?;
        command.args(["check", "--database-auth", "rds-iam", "--database-url", &url]);
        command.arg("--sync-config").arg(&file);
        // Nothing of the machine is read or asked.
        let nowhere = folder.path().join("nowhere");
        command.env("AWS_CONFIG_FILE", &nowhere).env("AWS_SHARED_CREDENTIALS_FILE", &nowhere);
        command.env("AWS_EC2_METADATA_DISABLED", "true").env_remove("AWS_REGION");
        command.envs(variables.iter().copied());
        Process::run(&mut command, SOON).await
    };
    let credentials =
        [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_REGION", "eu-west-1")];
    // TLS is the default, although the host is this machine.
    let verified = format!("sslrootcert={root}");

    let refused = check("app", &verified, &credentials).await?;
    refused.assert_code(1);
    refused.assert_says(&["rds_iam", "rds-db:connect", "rds.iam_auth_for_replication=1"]);

    let without = check("app", &verified, &credentials[2..]).await?;
    without.assert_code(1);
    without.assert_says(&["no password for user 'app'", "AWS credentials"]);

    let nowhere = check("app", &verified, &credentials[..2]).await?;
    nowhere.assert_code(1);
    nowhere.assert_says(&["set AWS_REGION"]);

    let both = check("app:p", &verified, &credentials).await?;
    both.assert_code(2);
    both.assert_says(&["the database URL has a password"]);
    Ok(())
}
