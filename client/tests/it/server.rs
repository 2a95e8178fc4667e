//! A scripted sync server and backend, speaking real HTTP.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tidewater_client::{LocalOp, LocalTransaction};
use tidewater_protocol::{
    Body as OpBody, BucketDescription, Checkpoint, CheckpointComplete, CheckpointDiff, Checksum,
    DataLine, LineFormat, OpId, Operation, Priority, RowKey, StreamRequest, SyncLine, write_line,
};
use tokio::sync::watch;

use crate::snapshots::{self, Published, SnapshotFault};

/// Operations in one data line.
const LINE_OPERATIONS: usize = 10;

pub(crate) type Rows = BTreeMap<String, BTreeMap<String, Value>>;

/// The source database: every operation that ever was.
#[derive(Default)]
pub(crate) struct Source {
    last_op: i64,
    logs: BTreeMap<String, Vec<Operation<'static>>>,
    write_checkpoint: i64,
    /// Write checkpoints are given out but not shown, as if replication had not passed them yet.
    pub(crate) withhold_write_checkpoints: bool,
    shown_write_checkpoint: Option<i64>,
    /// The published snapshot of each bucket.
    snapshots: BTreeMap<String, Published>,
}

pub(crate) fn op(id: i64) -> OpId {
    OpId::from_i64(id).unwrap()
}

impl Source {
    fn push(&mut self, bucket: &str, body: OpBody<'static>) {
        self.last_op += 1;
        let operation =
            Operation { op_id: op(self.last_op), checksum: body.checksum().unwrap(), body };
        self.logs.entry(bucket.to_owned()).or_default().push(operation);
    }

    pub(crate) fn put(&mut self, bucket: &str, table: &str, id: &str, data: &Value) {
        let row = RowKey::new(table, id, "k").into_owned();
        self.push(bucket, OpBody::Put { row, data: data.to_string().into() });
    }

    pub(crate) fn remove(&mut self, bucket: &str, table: &str, id: &str) {
        let row = RowKey::new(table, id, "k").into_owned();
        self.push(bucket, OpBody::Remove { row });
    }

    /// Publishes a snapshot of the bucket's current rows.
    pub(crate) fn publish_snapshot(&mut self, bucket: &str) {
        self.snapshots.insert(bucket.to_owned(), Published::of(bucket, &self.logs[bucket]));
    }

    /// Returns the bytes of a bucket's published file, to be damaged.
    pub(crate) fn snapshot_bytes(&mut self, bucket: &str) -> &mut Vec<u8> {
        &mut self.snapshots.get_mut(bucket).unwrap().content
    }

    /// Returns the file of a published snapshot by its id.
    pub(crate) fn content(&self, id: &str) -> Option<Vec<u8>> {
        let published = self.snapshots.values().find(|published| published.line.id == id)?;
        Some(published.content.clone())
    }

    pub(crate) fn remove_bucket(&mut self, bucket: &str) {
        self.logs.remove(bucket);
    }

    /// Returns the rows that a client with all buckets must show.
    pub(crate) fn rows(&self) -> Rows {
        let mut latest = BTreeMap::new();
        for (bucket, log) in &self.logs {
            for operation in log {
                let (row, data) = match &operation.body {
                    OpBody::Put { row, data } => (row, Some(data)),
                    OpBody::Remove { row } => (row, None),
                    OpBody::Move | OpBody::Clear => continue,
                };
                let key = (row.object_type.to_string(), row.object_id.to_string(), bucket);
                match data {
                    Some(data) => latest.insert(key, (operation.op_id, data.to_string())),
                    None => latest.remove(&key),
                };
            }
        }

        let mut rows: BTreeMap<_, BTreeMap<_, (OpId, Value)>> = BTreeMap::new();
        for ((table, id, _), (op_id, data)) in latest {
            let entry = rows.entry(table).or_default().entry(id).or_default();
            if op_id > entry.0 {
                *entry = (op_id, serde_json::from_str(&data).unwrap());
            }
        }

        rows.into_iter()
            .map(|(table, rows)| {
                let values = rows.into_iter().map(|(id, (_, data))| (id, data));
                (table, values.collect())
            })
            .collect()
    }

    fn describe(&self, bucket: &str) -> BucketDescription {
        let log = &self.logs[bucket];
        BucketDescription {
            bucket: bucket.to_owned(),
            checksum: log.iter().map(|operation| operation.checksum).sum(),
            count: log.len() as u64,
            priority: Priority::default(),
            subscriptions: vec![],
        }
    }

    fn descriptions(&self) -> BTreeMap<String, BucketDescription> {
        self.logs.keys().map(|name| (name.clone(), self.describe(name))).collect()
    }
}

/// Faults to inject. Each happens once.
#[derive(Default)]
pub(crate) struct Faults {
    /// The statuses of the next stream requests.
    pub(crate) refuse_streams: VecDeque<u16>,
    /// The numbers of lines after which the next streams are cut.
    pub(crate) cut_after_lines: VecDeque<usize>,
    /// Half a line is sent before the cut.
    pub(crate) cut_within_line: bool,
    /// The next checkpoint line has one wrong checksum.
    pub(crate) wrong_checksum: bool,
    /// The next data line has one altered operation.
    pub(crate) altered_operation: bool,
    /// The remaining life of the token, sent after the next complete checkpoint.
    pub(crate) token_expires_in: Option<i64>,
    /// The stream ends after each complete checkpoint.
    pub(crate) end_when_complete: bool,
    /// The backend's answers to the next uploads. `None` is a reply that is lost after the effect.
    pub(crate) uploads: VecDeque<Option<(u16, &'static str)>>,
    /// The fates of the next requests for ranges of snapshots.
    pub(crate) snapshots: VecDeque<SnapshotFault>,
    /// The statuses of the next requests for write checkpoints.
    pub(crate) refuse_write_checkpoints: VecDeque<u16>,
}

/// Everything that the server was asked.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) streams: Vec<StreamRequest>,
    pub(crate) tokens: Vec<String>,
    /// Every upload request, repeats included.
    pub(crate) uploads: Vec<LocalTransaction>,
    pub(crate) upload_tokens: Vec<String>,
    /// The uploads that took effect.
    pub(crate) applied: Vec<(String, i64)>,
    pub(crate) write_checkpoints: usize,
    /// The starts of the requested ranges: all, and those sent to their end.
    pub(crate) ranges: Vec<u64>,
    pub(crate) ranges_sent: Vec<u64>,
}

pub(crate) struct Server {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) source: Mutex<Source>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) seen: Mutex<Seen>,
    changed: watch::Sender<u64>,
    /// The number of lines sent on all streams.
    lines_sent: watch::Sender<usize>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let shared = Arc::new(Shared {
            source: Mutex::default(),
            faults: Mutex::default(),
            seen: Mutex::default(),
            changed: watch::channel(0).0,
            lines_sent: watch::channel(0).0,
        });

        let router = Router::new()
            .route("/sync/stream", post(stream))
            .route("/write-checkpoint2.json", get(write_checkpoint))
            .route("/upload", post(upload))
            .route("/snapshot/{id}", get(snapshots::serve))
            .route("/fine", get(async || "a page"))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, shared }
    }

    pub(crate) fn upload_url(&self) -> String {
        format!("{}/upload", self.url)
    }

    /// Changes the source in one transaction.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Source) -> T) -> T {
        let result = change(&mut self.shared.source.lock().unwrap());
        self.shared.changed.send_modify(|version| *version += 1);
        result
    }

    pub(crate) fn rows(&self) -> Rows {
        self.shared.source.lock().unwrap().rows()
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults.lock().unwrap()
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.seen.lock().unwrap()
    }

    /// Returns the number of lines sent, to be read or awaited.
    pub(crate) fn lines_sent(&self) -> watch::Receiver<usize> {
        self.shared.lines_sent.subscribe()
    }

    /// Lets replication pass all write checkpoints.
    pub(crate) fn release_write_checkpoints(&self) {
        self.change(|source| {
            source.withhold_write_checkpoints = false;
            source.shown_write_checkpoint = Some(source.write_checkpoint);
        });
    }
}

fn token(headers: &HeaderMap) -> String {
    headers["authorization"].to_str().unwrap().to_owned()
}

async fn stream(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(request): Json<StreamRequest>,
) -> Response {
    {
        let mut seen = shared.seen.lock().unwrap();
        seen.tokens.push(token(&headers));
        seen.streams.push(request.clone());
    }

    let refused = shared.faults.lock().unwrap().refuse_streams.pop_front();
    if let Some(status) = refused {
        let error = json!({"error": {"code": "PSYNC_S2101", "description": "refused by script"}});
        return (StatusCode::from_u16(status).unwrap(), Json(error)).into_response();
    }

    let (sender, body) = mpsc::channel::<Result<Bytes, std::io::Error>>(0);
    let lines_left = shared.faults.lock().unwrap().cut_after_lines.pop_front();
    let mut connection = Connection {
        positions: request.buckets.into_iter().map(|b| (b.name, b.after.get())).collect(),
        known: None,
        takes_snapshots: request.tidewater.is_some_and(|known| known.snapshots > 0),
        lines_left,
        sender,
        shared,
    };

    tokio::spawn(async move {
        // An error means that the script cut the stream, or that the client is gone.
        let _ = connection.serve().await;
    });

    Body::from_stream(body.chain(futures::stream::empty())).into_response()
}

/// One stream.
struct Connection {
    shared: Arc<Shared>,
    sender: mpsc::Sender<Result<Bytes, std::io::Error>>,
    /// The position of each bucket.
    positions: HashMap<String, i64>,
    /// The buckets and the write checkpoint as last announced.
    known: Option<(BTreeMap<String, BucketDescription>, Option<i64>)>,
    takes_snapshots: bool,
    /// The number of lines until the cut.
    lines_left: Option<usize>,
}

/// The stream was cut by the script, or the client is gone.
struct Cut;

impl Connection {
    async fn serve(&mut self) -> Result<(), Cut> {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.mark_unchanged();
            for line in self.lines() {
                self.send(line).await?;
            }

            let (token_expires_in, is_last) = {
                let mut faults = self.shared.faults.lock().unwrap();
                (faults.token_expires_in.take(), faults.end_when_complete)
            };
            if let Some(seconds) = token_expires_in {
                let mut line = Vec::new();
                write_line(&mut line, &SyncLine::TokenExpiresIn(seconds), LineFormat::Json);
                self.send(line).await?;
            }
            if is_last || changed.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    async fn send(&mut self, line: Vec<u8>) -> Result<(), Cut> {
        if self.lines_left == Some(0) {
            if self.shared.faults.lock().unwrap().cut_within_line {
                let half = line[..line.len() / 2].to_vec();
                let _ = self.sender.send(Ok(half.into())).await;
            }
            let _ = self.sender.send(Err(std::io::Error::other("cut"))).await;
            return Err(Cut);
        }

        self.lines_left = self.lines_left.map(|left| left - 1);
        self.sender.send(Ok(line.into())).await.map_err(|_| Cut)?;
        self.shared.lines_sent.send_modify(|lines| *lines += 1);

        Ok(())
    }

    /// Returns all lines from the announcement of a checkpoint to its completion.
    fn lines(&mut self) -> Vec<Vec<u8>> {
        let source = self.shared.source.lock().unwrap();
        let mut faults = self.shared.faults.lock().unwrap();
        let now = (source.descriptions(), source.shown_write_checkpoint);
        if self.known.as_ref() == Some(&now) {
            return Vec::new();
        }

        let last_op_id = op(source.last_op);
        let write_checkpoint = now.1.map(op);
        let mut lines = Vec::new();

        let mut buckets: Vec<_> = now.0.values().cloned().collect();
        if std::mem::take(&mut faults.wrong_checksum)
            && let Some(bucket) = buckets.first_mut()
        {
            bucket.checksum += Checksum(1);
        }

        match &self.known {
            None => push_line(
                &mut lines,
                &SyncLine::Checkpoint(Checkpoint {
                    last_op_id,
                    write_checkpoint,
                    buckets,
                    streams: vec![],
                }),
            ),
            Some((before, _)) => {
                let removed: Vec<_> =
                    before.keys().filter(|name| !now.0.contains_key(*name)).cloned().collect();
                for name in &removed {
                    self.positions.remove(name);
                }
                buckets.retain(|bucket| before.get(&bucket.bucket) != Some(bucket));
                push_line(
                    &mut lines,
                    &SyncLine::CheckpointDiff(CheckpointDiff {
                        last_op_id,
                        write_checkpoint,
                        updated_buckets: buckets,
                        removed_buckets: removed,
                    }),
                );
            }
        }

        for (bucket, log) in &source.logs {
            let mut after = self.positions.get(bucket).copied().unwrap_or_default();
            if let Some(published) = source.snapshots.get(bucket)
                && self.takes_snapshots
                && after < published.line.to.get()
            {
                push_line(&mut lines, &SyncLine::Snapshot(published.line.clone()));
                after = published.line.to.get();
            }

            let news: Vec<_> =
                log.iter().filter(|operation| operation.op_id.get() > after).cloned().collect();
            for chunk in news.chunks(LINE_OPERATIONS) {
                let mut operations = chunk.to_vec();
                if std::mem::take(&mut faults.altered_operation)
                    && let OpBody::Put { data, .. } = &mut operations[0].body
                {
                    *data = r#"{"title":"forged"}"#.into();
                }
                push_line(
                    &mut lines,
                    &SyncLine::Data(DataLine { bucket: bucket.clone(), operations }),
                );
            }
            self.positions.insert(bucket.clone(), source.last_op);
        }

        push_line(&mut lines, &SyncLine::CheckpointComplete(CheckpointComplete { last_op_id }));
        self.known = Some(now);
        lines
    }
}

async fn write_checkpoint(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let refused = shared.faults.lock().unwrap().refuse_write_checkpoints.pop_front();
    if let Some(status) = refused {
        return StatusCode::from_u16(status).unwrap().into_response();
    }

    assert!(query.contains_key("client_id"));
    shared.seen.lock().unwrap().write_checkpoints += 1;
    let number = {
        let mut source = shared.source.lock().unwrap();
        source.write_checkpoint += 1;
        if !source.withhold_write_checkpoints {
            source.shown_write_checkpoint = Some(source.write_checkpoint);
        }
        source.write_checkpoint
    };

    shared.changed.send_modify(|version| *version += 1);
    Json(json!({"data": {"write_checkpoint": number.to_string()}})).into_response()
}

async fn upload(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(transaction): Json<LocalTransaction>,
) -> Response {
    let key = (transaction.client_id.clone(), transaction.transaction_id);
    assert_eq!(headers["idempotency-key"].to_str().unwrap(), format!("{}/{}", key.0, key.1));
    let script = {
        let mut seen = shared.seen.lock().unwrap();
        seen.uploads.push(transaction.clone());
        seen.upload_tokens.push(token(&headers));
        shared.faults.lock().unwrap().uploads.pop_front()
    };

    if let Some(Some((status, body))) = script {
        let mut headers = HeaderMap::new();
        match status {
            429 => drop(headers.insert("retry-after", "1".parse().unwrap())),
            302 => drop(headers.insert("location", "/fine".parse().unwrap())),
            _ => {}
        }
        return (StatusCode::from_u16(status).unwrap(), headers, body).into_response();
    }

    let is_new = {
        let mut seen = shared.seen.lock().unwrap();
        let is_new = !seen.applied.contains(&key);
        if is_new {
            seen.applied.push(key);
        }
        is_new
    };

    if is_new {
        apply(&mut shared.source.lock().unwrap(), &transaction);
        shared.changed.send_modify(|version| *version += 1);
    }

    if script == Some(None) {
        // The reply is lost: the connection breaks before its body.
        let broken = futures::stream::once(async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Err::<Bytes, _>(std::io::Error::other("lost"))
        });
        let reply = Response::builder().status(500).body(Body::from_stream(broken));
        return reply.unwrap();
    }

    StatusCode::OK.into_response()
}

/// Applies an upload to the bucket `mine`.
fn apply(source: &mut Source, transaction: &LocalTransaction) {
    for operation in &transaction.operations {
        let table = &operation.table;
        let id = &operation.id;

        let before = source.rows().get(table).and_then(|rows| rows.get(id)).cloned();

        match operation.op {
            LocalOp::Put => source.put("mine", table, id, &json!(operation.data)),
            LocalOp::Patch => {
                let mut row = before.unwrap_or_else(|| json!({}));
                for (column, value) in &operation.data {
                    row[column] = value.clone();
                }
                source.put("mine", table, id, &row);
            }
            LocalOp::Delete => source.remove("mine", table, id),
        }
    }
}

fn push_line(lines: &mut Vec<Vec<u8>>, line: &SyncLine<'_>) {
    let mut out = Vec::new();
    write_line(&mut out, line, LineFormat::Json);
    lines.push(out);
}
