//! The sync API as a Lambda function: the real binary behind an emulator of Lambda, whose limits are those of
//! AWS in their kind, and smaller.

mod emulator;
mod slow_reader;

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewater_tests::{
    AUDIENCE, Device, Endpoints, LineEffect, Lodging, OfficialSdk, Postgres, Process, Scratch,
    SdkClient, Signal, SigningKey, SyncReader, built_binary,
};

use self::emulator::{End, Function, Invocation, LAMBDA, Limits};
use self::slow_reader::SlowReader;
use crate::aws::Aws;

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(120);

const SCHEMA: &str = "CREATE TABLE notes (id TEXT PRIMARY KEY, list TEXT, body TEXT);";

/// Rows, the characters of each, and the buckets that they are shared out among. A bucket is a line of 1 MB.
const ROWS: usize = 200;
const BODY_CHARS: usize = 100_000;
const BUCKETS: usize = 20;

fn config() -> String {
    let mut config = "config: { edition: 3 }\nstreams:\n".to_owned();
    for list in 0..BUCKETS {
        let query = format!("SELECT * FROM notes WHERE list = '{list}'");
        let _ = writeln!(config, "  list_{list}: {{ auto_subscribe: true, query: \"{query}\" }}");
    }
    config
}

/// PostgreSQL with 20 MB of rows that do not compress well, a worker, and the function's settings.
struct Setup {
    aws: Aws,
    postgres: Postgres,
    folder: Scratch,
    key: SigningKey,
    worker: Process,
}

impl Setup {
    async fn new() -> Result<Self> {
        let postgres = Postgres::start().await?;
        let tables = format!(
            "CREATE TABLE notes (id text PRIMARY KEY, list text, body text);
             CREATE PUBLICATION powersync FOR TABLE notes;
             INSERT INTO notes SELECT n::text, (n % {BUCKETS})::text,
                 (SELECT string_agg(md5(random()::text || n || m), '')
                  FROM generate_series(1, {}) m)
             FROM generate_series(1, {ROWS}) n",
            BODY_CHARS / 32
        );
        postgres.execute(&tables).await?;

        let aws = Aws::start().await?;
        let folder = Scratch::new()?;
        let config_file = folder.path().join("sync-config.yaml");
        std::fs::write(&config_file, config())?;
        let mut command = aws.worker(&postgres.url("postgres"), &config_file)?;
        // The devices receive lines, which is what takes long.
        command.args(["--snapshot-threshold", "1000000"]);
        let lodging = Lodging { name: "ingest", logs: folder.path(), end: Signal::Term };
        let worker = Process::spawn(&mut command, lodging)?;
        let key = SigningKey::random("k");
        Ok(Self { aws, postgres, folder, key, worker })
    }

    /// Deploys the function, and waits until it serves all rows.
    async fn deploy(
        &mut self,
        limits: Limits,
        answer_bytes_max: Option<usize>,
    ) -> Result<Function> {
        let keys = std::fs::read_to_string(self.key.write_jwk_set(self.folder.path())?)?;
        let mut environment = self.aws.environment("test");
        environment.push(("TIDEWATER_JWKS", keys));
        environment.push(("TIDEWATER_AUDIENCE", AUDIENCE.to_owned()));
        let bytes_max =
            answer_bytes_max.map(|bytes| ("TIDEWATER_ANSWER_BYTES_MAX", bytes.to_string()));
        environment.extend(bytes_max);

        let binary = built_binary("sync-api")?;
        let function = Function::deploy(limits, move || {
            let mut command = Command::new(&binary);
            command.env_clear().envs(environment.iter().cloned());
            Ok(command)
        })?;
        self.worker.ready(function.url(), SOON).await?;
        Ok(function)
    }

    fn token(&self) -> Result<String> {
        self.key.token("u1").sign()
    }

    async fn assert_equals_source(&self, device: &Device) -> Result<()> {
        let bodies = device.column("SELECT id || body FROM notes ORDER BY id")?;
        let source = "SELECT string_agg(id || body, ',' ORDER BY id COLLATE \"C\") FROM notes";
        assert!(bodies.join(",") == self.postgres.value(source).await?, "the device differs");
        Ok(())
    }
}

/// What a client has received by one stream.
#[derive(Debug, Default)]
struct Received {
    operations: usize,
    hand_overs: usize,
    is_complete: bool,
}

/// Reads one stream to its end, or until it is told to connect again, as SDKs do.
async fn read(reader: &mut SyncReader, url: &str, token: &str, stays: bool) -> Result<Received> {
    let mut connection = reader.connect(url, token).await?;
    let mut received = Received::default();
    while let Some(effect) = connection.next().await? {
        match effect {
            LineEffect::Stored { operations } => received.operations += operations,
            // The token is valid for an hour.
            LineEffect::TokenExpiresIn(20) => {
                received.hand_overs += 1;
                if !stays {
                    return Ok(received);
                }
            }
            LineEffect::Complete(completed) => {
                assert_eq!(completed.rows.len(), ROWS);
                received.is_complete = true;
            }
            LineEffect::Announced
            | LineEffect::Partial(_)
            | LineEffect::TokenExpiresIn(_)
            | LineEffect::Ignored => {}
        }
    }
    Ok(received)
}

/// Reads streams until all rows are there. Each stream but the last one must hand the client over.
async fn read_all(url: &str, token: &str, stays: bool) -> Result<usize> {
    let mut reader = SyncReader::new();
    let mut operations = 0;
    for streams in 1.. {
        let received = read(&mut reader, url, token, stays).await?;
        operations += received.operations;
        if received.is_complete {
            assert_eq!(operations, ROWS, "no row is sent twice");
            return Ok(streams);
        }
        ensure!(received.hand_overs > 0, "stream {streams} ends without a hand-over: {received:?}");
        ensure!(received.operations > 0, "stream {streams} makes no progress: {received:?}");
    }
    unreachable!("streams are counted without an end")
}

fn assert_complete(streams: &[Invocation]) {
    for stream in streams {
        assert_eq!(stream.end, End::Complete, "{stream:?}");
    }
}

/// A time limit of ten seconds, of which the function reserves half for its last line. At the pace of Lambda, all
/// rows take ten seconds.
const TEN_SECONDS: Limits = Limits { time: Duration::from_secs(10), burst_bytes: 0, ..LAMBDA };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_before_the_function_is_killed() -> Result<()> {
    let mut setup = Setup::new().await?;
    let function = setup.deploy(TEN_SECONDS, None).await?;
    let token = setup.token()?;
    let streams = read_all(function.url(), &token, true).await;
    let ended = function.streams();
    assert_complete(&ended);
    assert_eq!(ended.len(), streams?);
    assert!(ended.len() > 1, "{ended:?}");
    // One process serves one invocation after the other.
    assert!(ended.iter().all(|stream| stream.process == ended[0].process), "{ended:?}");

    // A slow reader is told to connect again before its stream is cut. What the process and the network hold
    // for it, some megabytes, comes before that.
    let limits = Limits { time: Duration::from_secs(20), ..TEN_SECONDS };
    let function = setup.deploy(limits, None).await?;
    let slow = SlowReader::start(function.url(), 1_000_000).await?;
    let streams = read_all(slow.url(), &token, false).await;
    let streams = streams.with_context(|| format!("{:?}", function.streams()))?;
    assert!(streams > 1, "{:?}", function.streams());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_before_their_maximum_length_and_clients_get_all_by_several() -> Result<()> {
    /// What the function is told. All rows are longer, compressed or not.
    const BYTES_MAX: usize = 4_700_000;
    let mut setup = Setup::new().await?;
    let limits = Limits { bytes_max: BYTES_MAX, ..LAMBDA };
    let function = setup.deploy(limits, Some(BYTES_MAX)).await?;
    let token = setup.token()?;

    let streams = read_all(function.url(), &token, true).await?;
    let ended = function.streams();
    assert_complete(&ended);
    assert!(streams > 2, "{ended:?}");
    for stream in &ended[..streams - 1] {
        assert!(stream.last_bytes.ends_with(b"{\"token_expires_in\":20}\n"), "{stream:?}");
    }

    let mut device = Device::new(SCHEMA)?;
    device.sync_once(function.url(), &token, &[], SOON).await?.assert_code(0);
    setup.assert_equals_source(&device).await?;
    let of_device = function.streams().len() - streams;
    assert!(of_device > 1, "{:?}", function.streams());

    let endpoints = Endpoints { sync: function.url().to_owned(), backend: String::new(), token };
    let tables = json!({ "notes": { "list": "text", "body": "text" } });
    let mut sdk = OfficialSdk::open(SdkClient::NEWEST, &tables, &endpoints).await?;
    sdk.connect().await?;
    let sums = "SELECT count(*) AS n, sum(length(body)) AS length FROM notes";
    let length = ROWS * BODY_CHARS / 32 * 32;
    sdk.wait_for(sums, &json!([{ "n": ROWS, "length": length }]), SOON).await?;
    sdk.verify_checksums()?;
    assert_eq!(sdk.status().await?["downloadError"], Value::Null);
    assert!(function.streams().len() > streams + of_device + 1, "{:?}", function.streams());
    assert_complete(&function.streams());
    Ok(())
}

/// The emulator does what the tests above rely on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invocation_beyond_a_limit_is_stopped_and_the_next_one_continues() -> Result<()> {
    let mut setup = Setup::new().await?;
    let token = setup.token()?;

    // The function does not know of this limit.
    let short = Limits { bytes_max: 6_000_000, ..LAMBDA };
    let function = setup.deploy(short, None).await?;
    let mut reader = SyncReader::new();
    read(&mut reader, function.url(), &token, true).await.unwrap_err();
    let [stream] = &function.streams()[..] else { panic!("{:?}", function.streams()) };
    assert_eq!(stream.end, End::TooLong);
    assert!((5_000_000..=6_000_000).contains(&stream.bytes), "{stream:?}");

    // The whole lines were received. A throttled answer takes its time.
    let throttled = Limits { burst_bytes: 1 << 20, ..LAMBDA };
    let function = setup.deploy(throttled, None).await?;
    let received = read(&mut reader, function.url(), &token, true).await?;
    assert!(received.is_complete && received.operations < ROWS, "{received:?}");
    let [stream] = &function.streams()[..] else { panic!("{:?}", function.streams()) };
    let seconds = (stream.bytes - throttled.burst_bytes) / throttled.bytes_per_second;
    assert!(stream.took.as_secs() >= u64::try_from(seconds)?, "{stream:?}");

    // A client that hardly reads is cut off with its process, and another process serves the next one.
    let function = setup.deploy(TEN_SECONDS, None).await?;
    let slow = SlowReader::start(function.url(), 50_000).await?;
    read(&mut SyncReader::new(), slow.url(), &token, true).await.unwrap_err();
    let [stream] = &function.streams()[..] else { panic!("{:?}", function.streams()) };
    assert_eq!(stream.end, End::TimedOut);
    let killed = stream.process;
    assert!(read(&mut reader, function.url(), &token, true).await?.is_complete);
    assert_ne!(function.streams()[1].process, killed);
    Ok(())
}
