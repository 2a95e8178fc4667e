//! A client that validates checksums as official SDKs do.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidewater_protocol::{
    Body, BucketDescription, Checksum, DataLine, OpId, Operation, Priority, RowKey, SyncLine,
};

use crate::server::{Lines, Next, Server};

/// The state of a device, over all of its connections.
#[derive(Default)]
pub(crate) struct Device {
    pub(crate) buckets: BTreeMap<String, Held>,
    announced: BTreeMap<String, BucketDescription>,
    checkpoint: OpId,
    pub(crate) write_checkpoint: Option<OpId>,
    pub(crate) completed: Option<OpId>,
}

#[derive(Default)]
pub(crate) struct Held {
    /// Winning operations by row.
    rows: BTreeMap<RowKey<'static>, (OpId, Checksum, String)>,
    /// Checksum of superseded operations.
    add: Checksum,
    last: OpId,
}

impl Device {
    pub(crate) fn request(&self) -> Value {
        let buckets = self.buckets.iter();
        let buckets: Vec<_> =
            buckets.map(|(name, held)| json!({ "name": name, "after": held.last })).collect();
        json!({ "buckets": buckets, "raw_data": true, "client_id": "c1" })
    }

    pub(crate) async fn connect(&self, server: &Server, token: &str) -> Lines {
        server.stream(token, &self.request()).await
    }

    /// Applies one line.
    pub(crate) fn take(&mut self, line: &[u8]) {
        match SyncLine::parse(line).unwrap() {
            SyncLine::Checkpoint(checkpoint) => {
                self.checkpoint = checkpoint.last_op_id;
                self.write_checkpoint = checkpoint.write_checkpoint;
                self.announced =
                    checkpoint.buckets.into_iter().map(|b| (b.bucket.clone(), b)).collect();
                self.buckets.retain(|name, _| self.announced.contains_key(name));
            }

            SyncLine::CheckpointDiff(diff) => {
                self.checkpoint = diff.last_op_id;
                self.write_checkpoint = diff.write_checkpoint;
                for bucket in diff.updated_buckets {
                    self.announced.insert(bucket.bucket.clone(), bucket);
                }
                for name in diff.removed_buckets {
                    assert!(self.announced.remove(&name).is_some(), "{name} was not announced");
                    self.buckets.remove(&name);
                }
            }

            SyncLine::Data(line) => self.store(line),

            SyncLine::PartialCheckpointComplete(done) => {
                assert_eq!(done.last_op_id, self.checkpoint);
                self.validate(Some(done.priority));
            }

            SyncLine::CheckpointComplete(done) => {
                assert_eq!(done.last_op_id, self.checkpoint);
                self.validate(None);
                self.completed = Some(self.checkpoint);
            }

            SyncLine::TokenExpiresIn(_) => {}
            SyncLine::Snapshot(_) | SyncLine::Unknown => {
                panic!("{}", String::from_utf8_lossy(line))
            }
        }
    }

    fn store(&mut self, line: DataLine<'_>) {
        assert!(self.announced.contains_key(&line.bucket), "{} was not announced", line.bucket);
        let held = self.buckets.entry(line.bucket).or_default();
        let mut before = OpId::ZERO;
        for operation in line.operations {
            assert!(operation.op_id > before, "operations ascend within a line");
            before = operation.op_id;
            held.apply(operation, self.checkpoint);
        }
        held.last = before;
    }

    fn validate(&mut self, upto: Option<Priority>) {
        for (name, announced) in &self.announced {
            if upto.is_some_and(|upto| announced.priority > upto) {
                continue;
            }
            let held = self.buckets.entry(name.clone()).or_default();
            let sum = held.rows.values().map(|(_, sum, _)| *sum).sum::<Checksum>() + held.add;
            assert_eq!(sum, announced.checksum, "sum of {name} at {}", self.checkpoint);
            held.last = self.checkpoint;
        }
    }

    /// Returns `text` of each row of a bucket, by id.
    pub(crate) fn rows(&self, bucket: &str) -> BTreeMap<String, String> {
        let rows = self.buckets.get(bucket).into_iter().flat_map(|held| &held.rows);
        rows.map(|(key, (_, _, data))| {
            let data: Value = serde_json::from_str(data).unwrap();
            (key.object_id.to_string(), data["text"].as_str().unwrap().to_owned())
        })
        .collect()
    }

    /// Applies lines until a checkpoint is complete. Returns the lines.
    pub(crate) async fn until_complete(&mut self, lines: &mut Lines) -> Vec<Value> {
        self.completed = None;
        let mut seen = Vec::new();
        while self.completed.is_none() {
            match lines.next().await {
                Next::Line(line) => {
                    self.take(&line);
                    seen.push(serde_json::from_slice(&line).unwrap());
                }
                end @ (Next::End | Next::Cut) => panic!("{end:?} after {seen:?}"),
            }
        }
        seen
    }

    /// Connects, applies lines until a checkpoint is complete, and disconnects.
    pub(crate) async fn sync(&mut self, server: &Server, token: &str) -> Vec<Value> {
        let mut lines = self.connect(server, token).await;
        self.until_complete(&mut lines).await
    }
}

impl Held {
    fn apply(&mut self, operation: Operation<'_>, checkpoint: OpId) {
        let Operation { op_id, checksum, body } = operation;
        assert!(op_id <= checkpoint, "operation {op_id} is above the checkpoint {checkpoint}");

        match body {
            Body::Put { row, data } => {
                let value = (op_id, checksum, data.into_owned());
                if let Some((_, former, _)) = self.rows.insert(row.into_owned(), value) {
                    self.add += former;
                }
            }
            Body::Remove { row } => {
                if let Some((_, former, _)) = self.rows.remove(&row.into_owned()) {
                    self.add += former;
                }
                self.add += checksum;
            }
            Body::Move => self.add += checksum,
            Body::Clear => {
                self.rows.clear();
                self.add = checksum;
            }
        }
    }

    /// Returns rows that no server ever sent.
    pub(crate) fn foreign(last: OpId) -> Self {
        let row = RowKey::new("rows", "ghost", "ghost").into_owned();
        let data = r#"{"id":"ghost","text":"ghost"}"#.to_owned();
        Self { rows: [(row, (last, Checksum(7), data))].into(), add: Checksum(9), last }
    }
}

/// Returns the kinds of lines, in order.
pub(crate) fn kinds(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line.as_object().unwrap().keys().next().unwrap().as_str()).collect()
}
