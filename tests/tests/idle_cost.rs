//! The cost of polls on AWS, in request units as DynamoDB counts them.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use tidewater_functions::{Authenticator, Settings, router};
use tidewater_tests::{
    AUDIENCE, Lodging, Postgres, Process, Scratch, Signal, SigningKey, SyncReader, eventually,
};
use tokio::net::TcpListener;

use crate::aws::Aws;

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

/// Buckets of the client.
const BUCKETS: usize = 10;

/// Polls that are counted.
const POLLS: u32 = 6;

/// Returns a config by which everybody reads ten buckets.
fn config() -> String {
    let mut config = "config: { edition: 3 }\nstreams:\n".to_owned();
    for list in 0..BUCKETS {
        let query = format!("SELECT * FROM notes WHERE list = '{list}'");
        let _ = writeln!(config, "  list_{list}: {{ auto_subscribe: true, query: \"{query}\" }}");
    }
    config
}

/// The polls come while the worker confirms its checkpoint by commits of its own, as it does for a source
/// that is idle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_of_an_up_to_date_client_costs_two_read_units() -> Result<()> {
    let postgres = Postgres::start().await?;
    let notes = "CREATE TABLE notes (id text PRIMARY KEY, list text);
                 CREATE PUBLICATION powersync FOR TABLE notes;
                 INSERT INTO notes SELECT n::text, (n % 10)::text FROM generate_series(1, 100) n";
    postgres.execute(notes).await?;
    let aws = Aws::start().await?;

    let folder = Scratch::new()?;
    let config_file = folder.path().join("sync-config.yaml");
    std::fs::write(&config_file, config())?;
    let mut command = aws.worker(&postgres.url("postgres"), &config_file)?;
    let lodging = Lodging { name: "ingest", logs: folder.path(), end: Signal::Term };
    let mut worker = Process::spawn(&mut command, lodging)?;

    let key = SigningKey::random("k");
    let key_set = std::fs::read_to_string(key.write_jwk_set(folder.path())?)?;
    let auth = Authenticator::new(&[&key_set], vec![AUDIENCE.to_owned()])?;
    let settings = Settings { keep_open: Some(Duration::ZERO), ..Settings::new(auth) };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let store = aws.store();
    let api = router(store.clone(), settings);
    tokio::spawn(async move { axum::serve(listener, api).await });

    worker.ready(&url, SOON).await?;
    let token = key.token("u1").sign()?;
    let mut reader = SyncReader::new();
    eventually("all rows", SOON, async || {
        Ok((reader.sync_once(&url, &token).await?.rows.len() == 100).then_some(()))
    })
    .await?;

    let before = store.consumed().total().read;
    for _ in 0..POLLS {
        assert_eq!(reader.sync_once(&url, &token).await?.rows.len(), 100);
        // The interval of polls, in which the worker commits and what was read becomes old.
        tokio::time::sleep(Duration::from_secs(4)).await;
    }
    let units = (store.consumed().total().read - before) / f64::from(POLLS);
    eprintln!("a poll of {BUCKETS} buckets costs {units} read units");
    // The control record and the client's requests. A stream that is open for more than a quarter of a
    // second has looked at the record again, for half a unit.
    assert!((2.0..3.0).contains(&units), "{units}");
    Ok(())
}
