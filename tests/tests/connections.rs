//! Connections to PostgreSQL: what a URL, a role and a proxy can do to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tidewater_tests::{DevOptions, Postgres, SyncReader, Tidewater, eventually};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

const CONFIG: &str = "
config: { edition: 3 }
streams:
  notes: { auto_subscribe: true, query: SELECT * FROM notes }
";

const NOTES: &str = "CREATE TABLE notes (id text PRIMARY KEY, at timestamptz, cost float8);";

/// Reads checkpoints until the note `id` has this value of `column`.
async fn note_has(tidewater: &Tidewater, id: &str, column: &str, expected: &str) -> Result<()> {
    let token = tidewater.token("u1")?;
    let mut reader = SyncReader::new();
    let key = ("notes".to_owned(), id.to_owned());
    let mut last = Value::Null;

    let read = async {
        let mut connection = reader.connect(tidewater.url(), &token).await?;
        loop {
            let completed = connection.completed().await?;
            last = completed.rows.get(&key).map_or(Value::Null, |row| row[column].clone());
            if last == expected {
                return anyhow::Ok(());
            }
        }
    };
    match tokio::time::timeout(SOON, read).await {
        Ok(outcome) => outcome,
        Err(_) => anyhow::bail!("note {id}: {column} is {last}, not {expected}"),
    }
}

/// A proxy in front of PostgreSQL that can stop forwarding without closing anything.
struct SwallowingProxy {
    port: u16,
    /// The number of connections so far that swallow what they are sent, in both directions.
    swallowed: AtomicUsize,
    accepted: AtomicUsize,
}

impl SwallowingProxy {
    async fn start(target: u16) -> Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = Arc::new(Self {
            port: listener.local_addr()?.port(),
            swallowed: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
        });

        let accepting = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { continue };
                let number = accepting.accepted.fetch_add(1, Ordering::SeqCst);
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(forward(from_client, to_server, accepting.clone(), number));
                tokio::spawn(forward(from_server, to_client, accepting.clone(), number));
            }
        });
        Ok(proxy)
    }

    /// Makes the connections so far swallow everything. Later ones are forwarded.
    fn swallow(&self) {
        self.swallowed.store(self.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn swallows(&self, number: usize) -> bool {
        number < self.swallowed.load(Ordering::SeqCst)
    }
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    proxy: Arc<SwallowingProxy>,
    number: usize,
) {
    let mut buffer = vec![0; 16_384];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if !proxy.swallows(number) && to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }

    // A swallowing connection stays open: neither side learns that the other has ended.
    if proxy.swallows(number) {
        std::future::pending::<()>().await;
    }
}

#[tokio::test]
async fn a_silent_connection_is_replaced_after_the_receiver_timeout() -> Result<()> {
    let postgres = Postgres::start().await?;
    let sql = format!(
        "{NOTES} CREATE PUBLICATION powersync FOR TABLE notes;
        INSERT INTO notes VALUES ('a', '2025-01-02 03:04:05+00', 1.5)"
    );
    postgres.execute(&sql).await?;
    let proxy = SwallowingProxy::start(postgres.port()).await?;
    let url = postgres.url("postgres");
    let url = url.replace(&format!(":{}/", postgres.port()), &format!(":{}/", proxy.port));

    let options = DevOptions::new(&url, CONFIG).with(&["--wal-receiver-timeout", "2s"]);
    let tidewater = Tidewater::dev_ready(options).await?;
    note_has(&tidewater, "a", "at", "2025-01-02T03:04:05.000000Z").await?;

    proxy.swallow();
    postgres.execute("INSERT INTO notes VALUES ('b', '2026-01-02 03:04:05+00', 2.5)").await?;
    note_has(&tidewater, "b", "at", "2026-01-02T03:04:05.000000Z").await?;
    let log = tidewater.log()?;
    ensure!(log.contains("has sent nothing for 2 s"), "the log does not name the reason:\n{log}");
    Ok(())
}

/// The other side of the same: a connection over which nothing changes is alive.
#[tokio::test]
async fn an_idle_connection_is_kept_beyond_the_receiver_timeout() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(&format!("{NOTES} CREATE PUBLICATION powersync FOR TABLE notes")).await?;
    let options =
        DevOptions::new(&postgres.url("postgres"), CONFIG).with(&["--wal-receiver-timeout", "1s"]);
    let mut tidewater = Tidewater::dev_ready(options).await?;

    let walsender =
        "SELECT pid::text FROM pg_stat_replication WHERE application_name = 'tidewater'";
    let pid = postgres.value(walsender).await?;
    // Three timeouts by the server's clock, so that a busy machine cannot make it shorter.
    postgres.execute("SELECT pg_sleep(3)").await?;
    tidewater.must_run()?;
    assert_eq!(postgres.value(walsender).await?, pid, "{}", tidewater.log()?);
    Ok(())
}

#[tokio::test]
async fn settings_of_role_and_database_change_nothing() -> Result<()> {
    let postgres = Postgres::start().await?;
    let sql = format!(
        "{NOTES} CREATE PUBLICATION powersync FOR TABLE notes;
         INSERT INTO notes VALUES ('a', '2026-01-02 03:04:05+00', 0.1);
         ALTER ROLE postgres SET datestyle = 'SQL, DMY'; ALTER ROLE postgres SET timezone = 'Asia/Tokyo';
         ALTER ROLE postgres SET extra_float_digits = -3; ALTER ROLE postgres SET lock_timeout = 1;
         ALTER ROLE postgres SET statement_timeout = 1; ALTER ROLE postgres SET search_path = nowhere;
         ALTER ROLE postgres SET idle_in_transaction_session_timeout = 1;
         ALTER ROLE postgres SET idle_session_timeout = 1;
         ALTER ROLE postgres SET default_transaction_read_only = on;
         ALTER DATABASE postgres SET default_transaction_deferrable = on;
         ALTER DATABASE postgres SET quote_all_identifiers = on;
         ALTER DATABASE postgres SET wal_sender_timeout = '100ms';"
    );
    postgres.execute(&sql).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
    let tidewater = Tidewater::dev_ready(options).await?;
    note_has(&tidewater, "a", "at", "2026-01-02T03:04:05.000000Z").await?;

    // The stream and the sessions print alike, and a ticket can be written.
    let client = reset_session(&postgres).await?;
    client
        .batch_execute("INSERT INTO public.notes VALUES ('b', '2026-02-03 04:05:06+00', 0.1)")
        .await?;
    note_has(&tidewater, "b", "at", "2026-02-03T04:05:06.000000Z").await?;
    let log = tidewater.log()?;
    ensure!(!log.contains("connection lost"), "a setting ended a session:\n{log}");
    Ok(())
}

/// Opens a session without the role's settings.
async fn reset_session(postgres: &Postgres) -> Result<tokio_postgres::Client> {
    let url = format!(
        "{}&options=-c%20idle_session_timeout%3D0%20-c%20statement_timeout%3D0%20-c%20lock_timeout\
         %3D0%20-c%20default_transaction_read_only%3Doff",
        postgres.url("postgres")
    );
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test]
async fn options_of_the_url_reach_the_server() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(&format!("{NOTES} CREATE PUBLICATION powersync FOR TABLE notes")).await?;
    let url = format!("{}&options=-c%20geqo_threshold%3D7", postgres.url("postgres"));
    let tidewater = Tidewater::dev_ready(DevOptions::new(&url, CONFIG)).await?;
    postgres.execute("INSERT INTO notes VALUES ('a', '2026-01-02 03:04:05+00', 1)").await?;
    note_has(&tidewater, "a", "at", "2026-01-02T03:04:05.000000Z").await
}

#[tokio::test]
async fn names_of_publications_that_need_quotes_work() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(NOTES).await?;
    for (number, name) in ["MyPub", "my pub", "a,b", "it's", "say \"hi\""].into_iter().enumerate() {
        let quoted = name.replace('"', "\"\"");
        postgres.execute(&format!("CREATE PUBLICATION \"{quoted}\" FOR TABLE notes")).await?;
        let slot = format!("slot_{number}");
        let options = DevOptions::new(&postgres.url("postgres"), CONFIG).with(&[
            "--publication",
            name,
            "--slot",
            &slot,
        ]);
        let tidewater = Tidewater::dev_ready(options).await?;
        let sql = format!("INSERT INTO notes VALUES ('{number}', '2026-01-02 03:04:05+00', 1)");
        postgres.execute(&sql).await?;
        note_has(&tidewater, &number.to_string(), "at", "2026-01-02T03:04:05.000000Z").await?;
    }
    Ok(())
}

/// Without feedback on idle keepalives, `pg_stat_replication` would show the work of other databases
/// as lag of ours.
#[tokio::test]
async fn the_slot_follows_while_only_another_database_works() -> Result<()> {
    let postgres = Postgres::start().await?;
    postgres.execute(&format!("{NOTES} CREATE PUBLICATION powersync FOR TABLE notes")).await?;
    postgres.execute("CREATE DATABASE other").await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
    let _tidewater = Tidewater::dev_ready(options).await?;

    let (other, connection) =
        tokio_postgres::connect(&postgres.url("other"), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    other.batch_execute("CREATE TABLE t AS SELECT generate_series(1, 10000) AS n").await?;
    let end = postgres.value("SELECT pg_current_wal_insert_lsn()").await?;

    let confirmed =
        format!("SELECT (min(flush_lsn) >= '{end}'::pg_lsn)::text FROM pg_stat_replication");
    eventually("the slot to be confirmed beyond the other database's work", SOON, async || {
        Ok((postgres.value(&confirmed).await? == "true").then_some(()))
    })
    .await
}
