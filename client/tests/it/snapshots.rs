//! Buckets that come as snapshots, over real HTTP with ranges.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tempfile::TempDir;
use tidewater_client::{
    Client, ClientError, FixedToken, Options, ProblemKind, SyncReport, TransferMethod,
};
use tidewater_protocol::{Body as OpBody, Checksum, OpId, Operation, SnapshotFile, SnapshotLine};
use tidewater_snapshot::{SnapshotHeader, SnapshotOptions, SnapshotRow, SnapshotWriter};

use crate::app::{SCHEMA, connect, open, open_with, open_with_options, rows, until, until_equal};
use crate::server::{Server, Shared};

/// The fate of a request for a range of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotFault {
    /// It is answered.
    None,
    /// It is refused with a status.
    Status(u16),
    /// The connection breaks within the body.
    Cut,
    /// It gets no answer, as long as the client waits.
    Stall,
}

/// A snapshot and its one file.
pub(crate) struct Published {
    pub(crate) line: SnapshotLine,
    pub(crate) content: Vec<u8>,
}

impl Published {
    pub(crate) fn of(bucket: &str, log: &[Operation<'static>]) -> Self {
        let mut live = BTreeMap::new();
        for operation in log {
            match &operation.body {
                OpBody::Put { row, data } => live.insert(row, (operation, data)),
                OpBody::Remove { row } => live.remove(row),
                OpBody::Move | OpBody::Clear => None,
            };
        }

        let to = log.last().map_or(OpId::ZERO, |last| last.op_id);
        let checksum: Checksum = log.iter().map(|operation| operation.checksum).sum();
        let dir = TempDir::new().unwrap();
        let header = SnapshotHeader { bucket: bucket.to_owned(), to, checksum };
        let options = SnapshotOptions { frame_raw_bytes: 8_192, ..SnapshotOptions::default() };
        let mut writer = SnapshotWriter::create(dir.path(), &header, &options).unwrap();

        for (row, (operation, data)) in &live {
            writer
                .push(&SnapshotRow {
                    object_type: &row.object_type,
                    object_id: &row.object_id,
                    subkey: &row.subkey,
                    op_id: operation.op_id,
                    checksum: operation.checksum,
                    data,
                })
                .unwrap();
        }

        let [file] = writer.finish().unwrap().try_into().unwrap();
        let id = format!("{bucket}-{to}");
        let url = format!("/snapshot/{id}");
        let content = std::fs::read(&file.path).unwrap();
        let files = vec![SnapshotFile { url, raw_bytes: file.raw_bytes, frames: file.frames }];
        let bucket = bucket.to_owned();
        let count = log.len() as u64;
        let rows = live.len() as u64;
        Self { line: SnapshotLine { bucket, id, to, checksum, rows, count, files }, content }
    }
}

pub(crate) async fn serve(
    State(shared): State<Arc<Shared>>,
    UrlPath(id): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    assert!(!headers.contains_key("authorization"), "the address is the permission");
    let range = headers["range"].to_str().unwrap().strip_prefix("bytes=").unwrap();
    let (first, last) = range.split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    let last: usize = last.parse().unwrap();
    shared.seen.lock().unwrap().ranges.push(first as u64);
    let fault = shared.faults.lock().unwrap().snapshots.pop_front();
    let Some(content) = shared.source.lock().unwrap().content(&id) else {
        return StatusCode::NOT_FOUND.into_response();
    };

    if first >= content.len() {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }

    let part = Bytes::from(content[first..content.len().min(last + 1)].to_vec());
    let half = part.slice(..part.len() / 2);
    let body = match fault.unwrap_or(SnapshotFault::None) {
        SnapshotFault::Status(status) => {
            return StatusCode::from_u16(status).unwrap().into_response();
        }
        SnapshotFault::Cut => {
            let parts = [Ok(half), Err(std::io::Error::other("cut"))];
            Body::from_stream(futures::stream::iter(parts))
        }
        SnapshotFault::Stall => {
            std::future::pending::<()>().await;
            Body::empty()
        }
        SnapshotFault::None => {
            shared.seen.lock().unwrap().ranges_sent.push(first as u64);
            Body::from(part.clone())
        }
    };

    let range = format!("bytes {first}-{}/{}", first + part.len() - 1, content.len());
    let reply = Response::builder().status(StatusCode::PARTIAL_CONTENT);
    reply.header("content-range", range).body(body).unwrap()
}

/// Starts a server with a snapshot of many frames, and operations after it.
async fn server() -> Server {
    let server = Server::start().await;
    server.change(|source| {
        for n in 0..2_000 {
            let row =
                json!({"id": format!("t{n:04}"), "title": format!("todo {n}"), "done": n % 2});
            source.put("a", "todos", &format!("t{n:04}"), &row);
        }
        source.remove("a", "todos", "t0005");
        source.put("a", "unknown", "u1", &json!({"id": "u1", "x": [1]}));
        source.publish_snapshot("a");
        source.put("a", "todos", "t0003", &json!({"id": "t0003", "title": "later", "done": true}));
        source.remove("a", "todos", "t0004");
        source.put("b", "lists", "l1", &json!({"id": "l1", "name": "groceries"}));
    });

    server
}

async fn sync_once(client: &Client, server: &Server) -> Result<SyncReport, ClientError> {
    client.sync_once(&server.url, Arc::new(FixedToken("t".into())), None, None).await
}

fn has_files(database: &Path) -> bool {
    let mut folder = database.as_os_str().to_owned();
    folder.push("-snapshots");
    std::fs::read_dir(folder).is_ok_and(|files| files.count() > 0)
}

fn shown(server: &Server) -> crate::server::Rows {
    let mut rows = crate::app::visible(server.rows());
    // SQLite has no booleans.
    rows.get_mut("todos").unwrap().get_mut("t0003").unwrap()["done"] = json!(1);
    rows
}

#[tokio::test]
async fn a_bucket_comes_as_a_snapshot_and_later_operations() {
    let dir = TempDir::new().unwrap();
    let server = server().await;
    let path = dir.path().join("app.db");
    let client = open(&path);
    let report = sync_once(&client, &server).await.unwrap();
    let methods =
        [("a".to_owned(), TransferMethod::SnapshotMerged), ("b".to_owned(), TransferMethod::Lines)];
    assert_eq!(report.buckets, methods.into());
    assert_eq!(rows(&client), shown(&server));
    assert!(!has_files(&path));
    assert!(server.seen().ranges.len() > 10);
    assert_eq!(report.operations, 2_000 + 2 + 1);

    // Positions and checksums are as after lines: only new operations follow.
    server.change(|source| source.remove("a", "todos", "t0003"));
    let report = sync_once(&client, &server).await.unwrap();
    assert_eq!((report.operations, report.rows), (1, 1));
    assert_eq!(report.buckets["a"], TransferMethod::Lines);
    assert_eq!(client.status().borrow().checksum_mismatches, 0);
}

#[tokio::test]
async fn without_snapshots_the_same_rows_come_in_lines() {
    let dir = TempDir::new().unwrap();
    let server = server().await;
    let options = Options { snapshots: false, ..Options::default() };
    let client = open_with_options(&dir.path().join("app.db"), SCHEMA, options);
    let report = sync_once(&client, &server).await.unwrap();
    assert_eq!(report.buckets["a"], TransferMethod::Lines);
    assert_eq!(rows(&client), shown(&server));
    assert!(server.seen().ranges.is_empty());
    assert_eq!(server.seen().streams[0].tidewater, None);
}

#[tokio::test]
async fn a_fetch_that_is_cut_or_whose_address_expires_is_resumed() {
    use SnapshotFault::{Cut, None, Status};
    for fault in [Cut, Status(403), Status(404), Status(503)] {
        let dir = TempDir::new().unwrap();
        let server = server().await;
        server.faults().snapshots.extend([None, None, None, None, None, None, fault]);
        let client = open(&dir.path().join("app.db"));
        let report = sync_once(&client, &server).await.unwrap();
        assert_eq!(report.buckets["a"], TransferMethod::SnapshotMerged);
        assert_eq!(rows(&client), shown(&server));
        let seen = server.seen();
        assert_eq!(seen.streams.len(), 2, "{fault:?}");

        let mut sent = seen.ranges_sent.clone();
        let all = sent.len();
        sent.sort_unstable();
        sent.dedup();
        // The ranges in flight at the fault may have been dropped, and are fetched again.
        assert!(all - sent.len() < 4, "{fault:?}: {all} sent, {} of them new", sent.len());
    }
}

#[tokio::test]
async fn a_fetch_is_resumed_after_a_restart() {
    use SnapshotFault::{None, Stall};
    let dir = TempDir::new().unwrap();
    let server = server().await;
    let path = dir.path().join("app.db");
    server.faults().snapshots.extend([None; 8].into_iter().chain([Stall; 4]));
    let client = open(&path);
    connect(&client, &server);
    until(&client, |status| status.downloading.is_some_and(|progress| progress.downloaded > 500))
        .await;

    // During the fetch the app may read, write and disconnect.
    client.write(|tx| tx.execute("INSERT INTO lists VALUES ('mine', 'x')", [])).unwrap();
    until(&client, |status| status.queue_length == 0).await;
    client.disconnect().await;
    drop(client);
    assert!(has_files(&path));
    let before = server.seen().ranges_sent.len();
    assert!(before >= 8, "{before}");
    let client = open(&path);
    connect(&client, &server);
    until(&client, |status| status.published > 0).await;
    assert_eq!(rows(&client), shown(&server));
    let mut sent = server.seen().ranges_sent.clone();
    let all = sent.len();
    sent.sort_unstable();
    sent.dedup();
    assert!(all - sent.len() < 4, "{all} sent, {} of them new", sent.len());
    client.disconnect_and_clear().await.unwrap();
    assert!(!has_files(&path));
}

#[tokio::test]
async fn a_damaged_snapshot_is_reported_with_a_remedy_and_nothing_is_lost() {
    let dir = TempDir::new().unwrap();
    let server = server().await;
    let damages: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.truncate(bytes.len() - 5),
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle..middle + 40].fill(7);
        },
    ];

    for (at, damage) in damages.into_iter().enumerate() {
        server.change(|source| {
            source.publish_snapshot("a");
            damage(source.snapshot_bytes("a"));
        });
        let path = dir.path().join(format!("{at}.db"));
        let options = Options { failures_max: 2, ..Options::default() };
        let client = open_with_options(&path, SCHEMA, options.clone());
        client.write(|tx| tx.execute("INSERT INTO lists VALUES ('mine', 'x')", [])).unwrap();
        connect(&client, &server);
        let status = until(&client, |status| status.download_problem.is_some()).await;
        let problem = status.download_problem.unwrap();
        assert_eq!(problem.kind, ProblemKind::Checksum);
        assert!(problem.message.contains("--no-snapshots"), "{}", problem.message);
        assert!(rows(&client)["lists"].contains_key("mine"));
        client.disconnect().await;
        drop(client);
        let other = dir.path().join(format!("{at}-once.db"));
        let other = open_with_options(&other, SCHEMA, options.clone());
        let error = sync_once(&other, &server).await.unwrap_err().to_string();
        assert!(error.contains("the snapshot of bucket a is damaged"), "{error}");
        let client = open_with_options(&path, SCHEMA, Options { snapshots: false, ..options });
        connect(&client, &server);
        until(&client, |status| status.published > 0).await;
        assert_eq!(rows(&client), shown(&server));
        client.disconnect().await;
        assert!(!has_files(&path), "files of an unused snapshot are removed");
    }
}

#[tokio::test]
async fn a_snapshot_is_deferred_until_it_contains_the_local_writes() {
    let dir = TempDir::new().unwrap();
    let server = server().await;
    let path = dir.path().join("app.db");
    server.change(|source| source.withhold_write_checkpoints = true);
    let client = open(&path);
    let write = "INSERT INTO todos (id, title) VALUES ('t0001', 'mine'), ('new', 'mine')";
    client.write(|tx| tx.execute(write, [])).unwrap();
    connect(&client, &server);
    until(&client, |status| status.queue_length == 0).await;
    until(&client, |status| status.downloading.is_none() && status.checkpoint.is_none()).await;
    client.disconnect().await;
    assert_eq!(rows(&client)["todos"].len(), 2);
    drop(client);

    // While it waits the app is updated: its schema gains a column.
    let schema = SCHEMA.replace("list_id TEXT)", "list_id TEXT, added TEXT)");
    let client = open_with(&path, &schema);
    server.release_write_checkpoints();
    server.change(|source| {
        source.put("a", "todos", "t0002", &json!({"id": "t0002", "title": "b", "added": "c"}));
    });
    connect(&client, &server);
    until(&client, |status| status.published > 0).await;

    for (sql, count) in [
        ("SELECT count(*) FROM todos WHERE added = 'c'", 1),
        ("SELECT count(*) FROM todos WHERE title = 'mine'", 2),
        ("SELECT count(*) FROM todos", 1_999),
    ] {
        let found: i64 = client.read(|db| db.query_row(sql, [], |row| row.get(0))).unwrap();
        assert_eq!(found, count, "{sql}");
    }
    assert!(!has_files(&path));
}

#[tokio::test]
async fn a_bucket_with_visible_rows_is_replaced_by_its_snapshot() {
    let dir = TempDir::new().unwrap();
    let server = server().await;
    let client = open(&dir.path().join("app.db"));
    connect(&client, &server);
    until(&client, |status| status.published == 1).await;
    client.disconnect().await;
    server.change(|source| {
        source.remove("a", "todos", "t0003");
        source.put("a", "todos", "t0007", &json!({"id": "t0007", "title": "changed"}));
        source.publish_snapshot("a");
        source.put("b", "todos", "t0008", &json!({"id": "t0008", "title": "twice"}));
    });

    connect(&client, &server);
    until_equal(&client, &server).await;
    assert_eq!(client.status().borrow().checksum_mismatches, 0);
}
