//! Bases, as official SDKs receive them: as data lines.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tidewater_protocol::{Body, BucketPosition, Checksum, DataLine, OpId, StreamRequest, SyncLine};
use tidewater_storage::{BucketKey, Embedded, OpLog};
use tidewater_tests::{
    DevOptions, Endpoints, OfficialSdk, Postgres, RecordingProxy, SdkClient, Settings, StreamLimit,
    Tidewater, Transport, eventually,
};

/// Timeout of each wait. The SDK retries after five seconds.
const SOON: Duration = Duration::from_secs(120);

/// Default number of rows in a frame of the builder.
const FRAME_ROWS: u32 = 10_000;

const CONFIG: &str = "
config:
  edition: 3
streams:
  todos:
    auto_subscribe: true
    query: SELECT id, description, position FROM todos
";

/// SQL for the position of the SDK in its only bucket.
const POSITION: &str = "SELECT CAST(last_op AS TEXT) AS op FROM ps_buckets WHERE name != '$local'";

/// Each line of a base ends in a marker. A client whose connection is cut resumes after its last
/// whole line: the connection is cut at the end of a line, within a later line, and within the first
/// line of a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_of_a_base_that_is_cut_anywhere_resumes_after_the_last_whole_line() -> Result<()>
{
    let rows = 2 * FRAME_ROWS + FRAME_ROWS / 2;
    let server = Server::start(rows, &[]).await?;

    // After this the base leaves out operations, so its remainder is not zero.
    server.postgres.execute("UPDATE todos SET description = description || '!'").await?;
    server.wait_for_base(|line| line.remainder.is_some_and(|sum| sum != Checksum::ZERO)).await?;

    let devices = clients()?.into_iter().map(|client| cut_download(&server, client, rows));
    futures::future::try_join_all(devices).await.map(drop)
}

async fn cut_download(server: &Server, client: SdkClient, rows: u32) -> Result<()> {
    let (proxy, mut sdk) = server.device(client).await?;
    // The first line of each connection is the checkpoint.
    let cuts = [
        StreamLimit { lines: 2, bytes: 0 },
        StreamLimit { lines: 2, bytes: 100_000 },
        StreamLimit { lines: 1, bytes: 1_000 },
    ];
    proxy.limit_streams(Some(cuts[0]));
    sdk.connect().await?;

    for (number, cut) in cuts.into_iter().enumerate() {
        let connection = number + 1;
        eventually("the stream to stop", SOON, async || {
            let streams = proxy.streams();
            let Some(stream) = streams.get(number) else { return Ok(None) };
            let (whole, part) = stream.rsplit_once('\n').context("no line")?;
            let is_reached = whole.lines().count() == cut.lines && part.len() == cut.bytes;
            Ok(is_reached.then_some(()))
        })
        .await?;

        // The SDK may not have stored the last line yet.
        let marker = data_lines(&proxy)?.last().map(|line| line.last).context("no line")?;
        sdk.wait_for(POSITION, &json!([{"op": marker.to_string()}]), SOON).await?;

        proxy.limit_streams(cuts.get(connection).copied());
        proxy.cut_connections();
        let next = eventually("the SDK to connect again", SOON, async || {
            Ok(proxy.stream_requests()?.get(connection).cloned())
        })
        .await?;
        let positions: Vec<OpId> = next.buckets.iter().map(|bucket| bucket.after).collect();
        ensure!(positions == [marker], "{client:?}, cut {number}: {positions:?}, not {marker}");
    }

    server.wait_until_equal(&mut sdk).await?;
    let status = sdk.status().await?;
    assert_eq!(status["connected"], json!(true));
    assert_eq!(status["downloadError"], Value::Null);
    // After a checksum mismatch the SDK would have requested the whole bucket again.
    assert_eq!(proxy.stream_requests()?.len(), cuts.len() + 1, "{client:?}");

    let lines = data_lines(&proxy)?;
    let seen: Vec<_> = lines.iter().map(|line| (line.is_clear(), line.rows())).collect();
    assert_eq!(seen, [(true, FRAME_ROWS), (false, 2 * FRAME_ROWS), (false, rows)], "{client:?}");
    let sent: Vec<&String> = lines.iter().flat_map(|line| &line.puts).collect();
    let distinct: BTreeSet<&String> = sent.iter().copied().collect();
    assert_eq!(sent.len(), rows as usize, "{client:?}");
    assert_eq!(distinct.len(), rows as usize, "{client:?}");
    Ok(())
}

/// Fault F26. A device that was offline longer than the horizon starts again from a base, and deleted
/// rows disappear. A device that was offline for a shorter time receives the changes only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_below_the_floor_receives_the_base_and_one_above_it_the_changes() -> Result<()> {
    let server = Server::start(2_000, &["--log-horizon", "0s", "--delete-grace", "0s"]).await?;
    server.wait_for_base(|_| true).await?;

    let mut devices = Vec::new();
    for client in clients()? {
        let (proxy, mut sdk) = server.device(client).await?;
        sdk.connect().await?;
        server.wait_until_equal(&mut sdk).await?;

        let lines = data_lines(&proxy)?;
        let seen: Vec<_> = lines.iter().map(|line| (line.is_clear(), line.rows())).collect();
        assert_eq!(seen, [(true, 2_000)], "{client:?}");
        sdk.disconnect().await?;
        devices.push((client, proxy, sdk));
    }

    let old = server.position().await?;
    let changes = "BEGIN;
        DELETE FROM todos WHERE position <= 100;
        UPDATE todos SET description = 'changed' WHERE position BETWEEN 101 AND 700;
        INSERT INTO todos SELECT 'new' || n, 'new', 2000 + n FROM generate_series(1, 50) n;
        COMMIT";
    server.postgres.execute(changes).await?;
    server.wait_until_compacted(&old).await?;
    for (client, proxy, sdk) in &mut devices {
        let lines = server.catch_up(sdk, proxy, &old).await?;
        assert_eq!(lines.len(), 1, "{client:?}");
        assert!(lines[0].remainder.is_some_and(|sum| sum != Checksum::ZERO), "{client:?}");
        assert_eq!(lines[0].rows(), 1_950, "{client:?}");
        assert_eq!(lines[0].puts.len(), 1_950, "{client:?}");
        assert_eq!(lines[0].removes, 0, "{client:?}");
    }

    let recent = server.position().await?;
    let changes = "BEGIN;
        DELETE FROM todos WHERE position = 101;
        UPDATE todos SET description = 'again' WHERE position BETWEEN 102 AND 104;
        COMMIT";
    server.postgres.execute(changes).await?;
    for (client, proxy, sdk) in &mut devices {
        let lines = server.catch_up(sdk, proxy, &recent).await?;
        let puts: usize = lines.iter().map(|line| line.puts.len()).sum();
        let removes: usize = lines.iter().map(|line| line.removes).sum();
        assert_eq!(puts, 3, "{client:?}");
        assert_eq!(removes, 1, "{client:?}");
        assert!(!lines.iter().any(SentLine::is_clear), "{client:?}");
    }
    Ok(())
}

/// Returns the SDKs under test. The tests read their requests and lines, which only HTTP shows.
fn clients() -> Result<Vec<SdkClient>> {
    let mut clients = SdkClient::chosen(&Settings::from_env()?);
    clients.retain(|client| client.transport == Transport::Http);
    Ok(clients)
}

/// PostgreSQL with a table of to-dos, and `tidewater dev` with its builder.
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

    /// Creates an empty device and the proxy through which it connects.
    async fn device(&self, client: SdkClient) -> Result<(RecordingProxy, OfficialSdk)> {
        let proxy = RecordingProxy::start(self.tidewater.url()).await?;
        proxy.request_plain_streams();
        let endpoints = Endpoints {
            sync: proxy.url().to_owned(),
            // The device does not write.
            backend: String::new(),
            token: self.tidewater.token("u1")?,
        };

        let tables = json!({"todos": {"description": "text", "position": "integer"}});
        let sdk = OfficialSdk::open(client, &tables, &endpoints).await?;
        Ok((proxy, sdk))
    }

    /// Waits until the device has the rows of PostgreSQL.
    ///
    /// It polls sums, which are short, and then compares all rows once.
    async fn wait_until_equal(&self, sdk: &mut OfficialSdk) -> Result<()> {
        let sums = "SELECT count(*) AS n, sum(position) AS positions,
                    sum(length(description)) AS lengths FROM todos";
        sdk.wait_for(sums, &self.json_of(sums).await?, SOON).await?;

        let rows = "SELECT id, description, position FROM todos";
        let expected = self.json_of(&format!("{rows} ORDER BY id COLLATE \"C\"")).await?;
        let expected = expected.as_array().context("no list of rows")?;
        let shown = sdk.query(&format!("{rows} ORDER BY id")).await?;
        let differs = shown.iter().zip(expected).find(|(shown, expected)| shown != expected);
        ensure!(differs.is_none() && shown.len() == expected.len(), "{differs:?}");
        Ok(())
    }

    /// Returns the rows of a query in PostgreSQL as a JSON array.
    async fn json_of(&self, query: &str) -> Result<Value> {
        let sql = format!("SELECT json_agg(t)::text FROM ({query}) t");
        Ok(serde_json::from_str(&self.postgres.value(&sql).await?)?)
    }

    /// Connects a device that was offline. Returns the lines that it receives until it is up to date.
    async fn catch_up(
        &self,
        sdk: &mut OfficialSdk,
        proxy: &RecordingProxy,
        from: &BucketPosition,
    ) -> Result<Vec<SentLine>> {
        let requests = proxy.stream_requests()?.len();
        let lines = data_lines(proxy)?.len();
        sdk.connect().await?;
        self.wait_until_equal(sdk).await?;

        let request = proxy.stream_requests()?.get(requests).cloned().context("no request")?;
        ensure!(request.buckets == [from.clone()], "{:?}, not {from:?}", request.buckets);
        sdk.disconnect().await?;
        Ok(data_lines(proxy)?.split_off(lines))
    }

    /// Waits until a new device receives nothing but a base whose first line satisfies a condition.
    async fn wait_for_base(&self, condition: impl Fn(&SentLine) -> bool) -> Result<()> {
        eventually("a base", SOON, async || {
            let lines = sent_lines(&self.stream_from(&[]).await?)?;
            let are_of_base = lines.iter().all(|line| line.last.as_marker().is_some());
            Ok(lines.first().filter(|first| are_of_base && condition(first)).map(drop))
        })
        .await
    }

    /// Waits until the floor is above a position, and the segments up to the position are deleted.
    async fn wait_until_compacted(&self, position: &BucketPosition) -> Result<()> {
        let storage = Embedded::open(&self.tidewater.data_dir())?;
        let (name, params) = position.name.split_once('[').context("no parameters")?;
        let (_, tag) = name.rsplit_once('.').context("no tag")?;
        let key = BucketKey::from_stored(&format!("{tag}[{params}"));
        eventually("the floor to rise", SOON, async || {
            let stream = self.stream_from(std::slice::from_ref(position)).await?;
            let starts_again = sent_lines(&stream)?.first().is_some_and(SentLine::is_clear);
            let page = storage.segments(&key, OpId::ZERO, position.after, 1).await?;
            Ok((starts_again && page.segments.is_empty()).then_some(()))
        })
        .await
    }

    /// Returns the bucket position of a device that is up to date.
    async fn position(&self) -> Result<BucketPosition> {
        for line in self.stream_from(&[]).await?.lines() {
            if let SyncLine::Checkpoint(checkpoint) = SyncLine::parse(line.as_bytes())? {
                let name = checkpoint.buckets.first().context("no bucket")?.bucket.clone();
                return Ok(BucketPosition { name, after: checkpoint.last_op_id });
            }
        }
        bail!("the stream has no checkpoint")
    }

    /// Returns the stream of a client with these positions, until the client is up to date.
    async fn stream_from(&self, buckets: &[BucketPosition]) -> Result<String> {
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
        bail!("the stream ended before a complete checkpoint")
    }
}

/// The parts of a data line that these tests compare.
struct SentLine {
    /// The checksum of a CLEAR at the start of the line.
    remainder: Option<Checksum>,
    puts: Vec<String>,
    removes: usize,
    last: OpId,
}

impl SentLine {
    fn of(line: &DataLine<'_>) -> Result<Self> {
        let mut sent = Self { remainder: None, puts: Vec::new(), removes: 0, last: OpId::ZERO };

        for (index, operation) in line.operations.iter().enumerate() {
            match &operation.body {
                Body::Clear => {
                    ensure!(index == 0, "a CLEAR within a line");
                    sent.remainder = Some(operation.checksum);
                }
                Body::Put { row, .. } => sent.puts.push(row.object_id.clone().into_owned()),
                Body::Remove { .. } => sent.removes += 1,
                Body::Move => {
                    ensure!(operation.checksum == Checksum::ZERO, "a MOVE with a checksum");
                }
            }
            sent.last = operation.op_id;
        }
        Ok(sent)
    }

    fn is_clear(&self) -> bool {
        self.remainder.is_some()
    }

    /// Returns the number of rows of the base that a client has after the line, and 0 if the line is
    /// not part of a base.
    fn rows(&self) -> u32 {
        self.last.as_marker().map_or(0, |(_, rows)| rows)
    }
}

/// Returns the data lines of a stream, without an incomplete last line.
fn sent_lines(stream: &str) -> Result<Vec<SentLine>> {
    let mut sent = Vec::new();
    let whole = stream.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for line in whole.lines() {
        if let SyncLine::Data(line) = SyncLine::parse(line.as_bytes())? {
            sent.push(SentLine::of(&line)?);
        }
    }
    Ok(sent)
}

/// Returns the data lines of all connections, in their order.
fn data_lines(proxy: &RecordingProxy) -> Result<Vec<SentLine>> {
    let mut lines = Vec::new();
    for stream in proxy.streams() {
        lines.extend(sent_lines(&stream)?);
    }
    Ok(lines)
}
