//! Bases of snapshots, as devices with the official Node SDK get them: two generations of it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewater_protocol::{Body, BucketPosition, Checksum, DataLine, OpId, StreamRequest, SyncLine};
use tidewater_storage::{BucketKey, Embedded, OpLog};
use tidewater_tests::{
    DevOptions, Endpoints, Hold, OfficialSdk, Postgres, RecordingProxy, SdkVersion, Tidewater,
    eventually,
};

/// The SDK waits five seconds before it tries again.
const SOON: Duration = Duration::from_secs(120);

/// Of the builder, unless its caller says otherwise.
const FRAME_ROWS: u32 = 10_000;

const CONFIG: &str = "
config:
  edition: 3
streams:
  todos:
    auto_subscribe: true
    query: SELECT id, description, position FROM todos
";

const POSITION: &str = "SELECT CAST(last_op AS TEXT) AS op FROM ps_buckets WHERE name != '$local'";

/// The lines of a base end in markers, and a client that is cut off anywhere asks for what follows
/// the last whole line it has: after the end of a line, within one, within the very first one of a
/// connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_whose_download_is_cut_anywhere_goes_on_exactly() -> Result<()> {
    let rows = 2 * FRAME_ROWS + FRAME_ROWS / 2;
    let server = Server::start(rows, &[]).await?;
    // What a base leaves out is then more than nothing.
    server.postgres.execute("UPDATE todos SET description = description || '!'").await?;
    server.base_published(|line| line.clear.is_some_and(|left| left != Checksum::ZERO)).await?;
    let devices = SdkVersion::ALL.map(|version| cut_download(&server, version, rows));
    futures::future::try_join_all(devices).await.map(drop)
}

async fn cut_download(server: &Server, version: SdkVersion, rows: u32) -> Result<()> {
    let (proxy, mut sdk) = server.device(version).await?;
    // The first line of each connection is the checkpoint.
    let cuts = [
        Hold { lines: 2, bytes: 0 },
        Hold { lines: 2, bytes: 100_000 },
        Hold { lines: 1, bytes: 1_000 },
    ];
    proxy.hold_streams(Some(cuts[0]));
    sdk.connect().await?;
    for (number, cut) in cuts.into_iter().enumerate() {
        let connection = number + 1;
        eventually("the stream to stop", SOON, async || {
            let streams = proxy.streams();
            let Some(stream) = streams.get(number) else { return Ok(None) };
            let (whole, part) = stream.rsplit_once('\n').context("no line")?;
            let reached = whole.lines().count() == cut.lines && part.len() == cut.bytes;
            Ok(reached.then_some(()))
        })
        .await?;
        // What it was sent last may still be on its way into the database.
        let marker = data_lines(&proxy)?.last().map(|line| line.last).context("no line")?;
        sdk.wait_for(POSITION, &json!([{"op": marker.to_string()}]), SOON).await?;
        proxy.hold_streams(cuts.get(connection).copied());
        proxy.cut_connections();
        let next = eventually("the SDK to connect again", SOON, async || {
            Ok(proxy.stream_requests()?.get(connection).cloned())
        })
        .await?;
        let held: Vec<OpId> = next.buckets.iter().map(|bucket| bucket.after).collect();
        ensure!(held == [marker], "{version:?}, cut {number}: {held:?}, not {marker}");
    }
    server.wait_for_equal(&mut sdk).await?;
    let status = sdk.status().await?;
    assert_eq!((&status["connected"], &status["downloadError"]), (&json!(true), &Value::Null));
    // A checksum that had not met would have made it ask for all of it once more.
    assert_eq!(proxy.stream_requests()?.len(), cuts.len() + 1, "{version:?}");
    let lines = data_lines(&proxy)?;
    let seen: Vec<_> = lines.iter().map(|line| (line.clear.is_some(), line.rows())).collect();
    assert_eq!(seen, [(true, FRAME_ROWS), (false, 2 * FRAME_ROWS), (false, rows)], "{version:?}");
    let sent: Vec<&String> = lines.iter().flat_map(|line| &line.puts).collect();
    let distinct: BTreeSet<&String> = sent.iter().copied().collect();
    assert_eq!((sent.len(), distinct.len()), (rows as usize, rows as usize), "{version:?}");
    Ok(())
}

/// A device that was away for longer than the log goes back starts again from a base, without its
/// ghosts; one that was not is sent what changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_below_the_floor_gets_the_base_and_one_above_it_what_changed() -> Result<()> {
    let server = Server::start(2_000, &["--log-horizon", "0s", "--delete-grace", "0s"]).await?;
    server.base_published(|_| true).await?;
    let mut devices = Vec::new();
    for version in SdkVersion::ALL {
        let (proxy, mut sdk) = server.device(version).await?;
        sdk.connect().await?;
        server.wait_for_equal(&mut sdk).await?;
        let lines = data_lines(&proxy)?;
        let seen: Vec<_> = lines.iter().map(|line| (line.clear.is_some(), line.rows())).collect();
        assert_eq!(seen, [(true, 2_000)], "{version:?}");
        sdk.disconnect().await?;
        devices.push((version, proxy, sdk));
    }

    let old = server.position().await?;
    let changes = "BEGIN;
        DELETE FROM todos WHERE position <= 100;
        UPDATE todos SET description = 'changed' WHERE position BETWEEN 101 AND 700;
        INSERT INTO todos SELECT 'new' || n, 'new', 2000 + n FROM generate_series(1, 50) n;
        COMMIT";
    server.postgres.execute(changes).await?;
    server.compacted(&old).await?;
    for (version, proxy, sdk) in &mut devices {
        let lines = server.catch_up(sdk, proxy, &old).await?;
        assert_eq!(lines.len(), 1, "{version:?}");
        assert!(lines[0].clear.is_some_and(|left| left != Checksum::ZERO), "{version:?}");
        assert_eq!((lines[0].rows(), lines[0].puts.len(), lines[0].removes), (1_950, 1_950, 0));
    }

    let recent = server.position().await?;
    let changes = "BEGIN;
        DELETE FROM todos WHERE position = 101;
        UPDATE todos SET description = 'again' WHERE position BETWEEN 102 AND 104;
        COMMIT";
    server.postgres.execute(changes).await?;
    for (version, proxy, sdk) in &mut devices {
        let lines = server.catch_up(sdk, proxy, &recent).await?;
        let sent: usize = lines.iter().map(|line| line.puts.len()).sum();
        let removed: usize = lines.iter().map(|line| line.removes).sum();
        let cleared = lines.iter().any(|line| line.clear.is_some());
        assert_eq!((sent, removed, cleared), (3, 1, false), "{version:?}");
    }
    Ok(())
}

/// `tidewater dev` on a table of todos, with its builder.
struct Server {
    tidewater: Tidewater,
    postgres: Postgres,
}

impl Server {
    async fn start(rows: u32, arguments: &[&str]) -> Result<Self> {
        let postgres = Postgres::start().await?;
        let sql = format!(
            "CREATE TABLE todos (id text PRIMARY KEY, description text, position int);
             CREATE PUBLICATION powersync FOR TABLE todos;
             INSERT INTO todos SELECT 'row' || n, 'todo ' || n, n FROM generate_series(1, {rows}) n"
        );
        postgres.execute(&sql).await?;
        let options = DevOptions::new(&postgres.url("postgres"), CONFIG)
            .with(&["--snapshot-threshold", "500"])
            .with(arguments);
        let tidewater = Tidewater::dev_ready(options).await?;
        Ok(Self { tidewater, postgres })
    }

    /// An empty device, and the proxy that it goes through.
    async fn device(&self, version: SdkVersion) -> Result<(RecordingProxy, OfficialSdk)> {
        let proxy = RecordingProxy::start(self.tidewater.url()).await?;
        let endpoints = Endpoints {
            sync: proxy.url().to_owned(),
            // Nothing is written here.
            backend: String::new(),
            token: self.tidewater.token("u1")?,
        };
        let sdk = OfficialSdk::open_version(version, &endpoints).await?;
        Ok((proxy, sdk))
    }

    /// Waits until the device shows what PostgreSQL holds. What is asked again and again is short.
    async fn wait_for_equal(&self, sdk: &mut OfficialSdk) -> Result<()> {
        let sums = "SELECT count(*) AS n, sum(position) AS positions,
                    sum(length(description)) AS lengths FROM todos";
        let all = "SELECT id, description, position FROM todos";
        let [sums_there, all_there] = [sums, &format!("{all} ORDER BY id COLLATE \"C\"")]
            .map(|sql| format!("SELECT json_agg(t)::text FROM ({sql}) t"));
        let expected = serde_json::from_str(&self.postgres.value(&sums_there).await?)?;
        sdk.wait_for(sums, &expected, SOON).await?;
        let expected: Vec<Value> = serde_json::from_str(&self.postgres.value(&all_there).await?)?;
        let shown = sdk.query(&format!("{all} ORDER BY id")).await?;
        let differs = shown.iter().zip(&expected).find(|(shown, expected)| shown != expected);
        ensure!(differs.is_none() && shown.len() == expected.len(), "{differs:?}");
        Ok(())
    }

    /// Connects a device that was away, and returns what it is sent until it is up to date.
    async fn catch_up(
        &self,
        sdk: &mut OfficialSdk,
        proxy: &RecordingProxy,
        from: &BucketPosition,
    ) -> Result<Vec<Sent>> {
        let (requests, lines) = (proxy.stream_requests()?.len(), data_lines(proxy)?.len());
        sdk.connect().await?;
        self.wait_for_equal(sdk).await?;
        let request = proxy.stream_requests()?.get(requests).cloned().context("no request")?;
        ensure!(request.buckets == [from.clone()], "{:?}, not {from:?}", request.buckets);
        sdk.disconnect().await?;
        Ok(data_lines(proxy)?.split_off(lines))
    }

    /// Waits until a new device is sent a base, whose first line is as wanted, and nothing else.
    async fn base_published(&self, wanted: impl Fn(&Sent) -> bool) -> Result<()> {
        eventually("a base", SOON, async || {
            let lines = sent(&self.answer(&[]).await?)?;
            let whole = lines.iter().all(|line| line.last.as_marker().is_some());
            Ok(lines.first().filter(|first| whole && wanted(first)).map(drop))
        })
        .await
    }

    /// Waits until the log no longer goes back to a position, and what lies before it is deleted.
    async fn compacted(&self, position: &BucketPosition) -> Result<()> {
        let storage = Embedded::open(&self.tidewater.data_dir())?;
        let (name, params) = position.name.split_once('[').context("parameters")?;
        let (_, tag) = name.rsplit_once('.').context("a tag")?;
        let key = BucketKey::from_stored(&format!("{tag}[{params}"));
        eventually("the floor to rise", SOON, async || {
            let lines = sent(&self.answer(std::slice::from_ref(position)).await?)?;
            let again = lines.first().is_some_and(|line| line.clear.is_some());
            let page = storage.segments(&key, OpId::ZERO, position.after, 1).await?;
            Ok((again && page.segments.is_empty()).then_some(()))
        })
        .await
    }

    /// Where a device that is up to date stands.
    async fn position(&self) -> Result<BucketPosition> {
        for line in self.answer(&[]).await?.lines() {
            if let SyncLine::Checkpoint(checkpoint) = SyncLine::parse(line.as_bytes())? {
                let name = checkpoint.buckets.first().context("a bucket")?.bucket.clone();
                return Ok(BucketPosition { name, after: checkpoint.last_op_id });
            }
        }
        anyhow::bail!("no checkpoint")
    }

    /// The lines that a client with these positions is sent until it is up to date.
    async fn answer(&self, buckets: &[BucketPosition]) -> Result<String> {
        let url = format!("{}/sync/stream", self.tidewater.url());
        let token = format!("Token {}", self.tidewater.token("u1")?);
        let request =
            StreamRequest { buckets: buckets.to_vec(), raw_data: true, ..StreamRequest::default() };
        let request =
            reqwest::Client::new().post(url).header("authorization", token).json(&request);
        let mut response = request.send().await?.error_for_status()?;
        let mut received = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            received.extend_from_slice(&chunk);
            let text = String::from_utf8_lossy(&received);
            if received.ends_with(b"\n") && text.contains("\n{\"checkpoint_complete\"") {
                return Ok(text.into_owned());
            }
        }
        anyhow::bail!("the stream ended")
    }
}

/// A data line, as far as these tests care.
struct Sent {
    /// What its CLEAR leaves out.
    clear: Option<Checksum>,
    puts: Vec<String>,
    removes: usize,
    last: OpId,
}

impl Sent {
    fn of(line: &DataLine<'_>) -> Result<Self> {
        let mut sent = Self { clear: None, puts: Vec::new(), removes: 0, last: OpId::ZERO };
        for (index, operation) in line.operations.iter().enumerate() {
            match &operation.body {
                Body::Clear => {
                    ensure!(index == 0, "a CLEAR within a line");
                    sent.clear = Some(operation.checksum);
                }
                Body::Put { row, .. } => sent.puts.push(row.object_id.clone().into_owned()),
                Body::Remove { .. } => sent.removes += 1,
                Body::Move => ensure!(operation.checksum == Checksum::ZERO, "a MOVE with a sum"),
            }
            sent.last = operation.op_id;
        }
        Ok(sent)
    }

    /// How many rows of its base a client has after it; 0 if it is not of a base.
    fn rows(&self) -> u32 {
        self.last.as_marker().map_or(0, |(_, rows)| rows)
    }
}

/// The whole data lines among these lines.
fn sent(lines: &str) -> Result<Vec<Sent>> {
    let mut sent = Vec::new();
    let whole = lines.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for line in whole.lines() {
        if let SyncLine::Data(line) = SyncLine::parse(line.as_bytes())? {
            sent.push(Sent::of(&line)?);
        }
    }
    Ok(sent)
}

/// The whole data lines that went through, of all connections in their order.
fn data_lines(proxy: &RecordingProxy) -> Result<Vec<Sent>> {
    let mut lines = Vec::new();
    for stream in proxy.streams() {
        lines.extend(sent(&stream)?);
    }
    Ok(lines)
}
