//! What a client of the sync protocol holds, kept by the rules of the official SDKs.
//!
//! Written for clarity: rows in maps, sums added up as lines arrive. It takes nothing on trust: a
//! line that breaks a rule, or a sum that does not meet, is an error and so fails the test.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use tidewater_protocol::{
    Body, BucketDescription, BucketPosition, Checksum, DataLine, OpId, Operation, Priority, RowKey,
    SyncLine,
};

/// Visible rows: their columns, by object type and object id.
pub type Rows = BTreeMap<(String, String), Map<String, Value>>;

/// A checkpoint that is complete.
#[derive(Clone, Debug)]
pub struct Completed {
    /// Its position.
    pub last_op_id: OpId,
    /// The greatest acknowledged write checkpoint.
    pub write_checkpoint: Option<OpId>,
    /// What an app would see.
    pub rows: Arc<Rows>,
}

/// What a line did.
#[derive(Clone, Debug)]
pub enum LineEffect {
    /// A checkpoint was announced or changed.
    Announced,
    /// Operations were stored.
    Stored {
        /// How many.
        operations: usize,
    },
    /// Buckets up to a priority are complete.
    Partial(Priority),
    /// All is complete.
    Complete(Completed),
    /// The token expires in so many seconds.
    TokenExpiresIn(i64),
    /// Nothing.
    Ignored,
}

/// The buckets of one client; what it would keep on disk.
#[derive(Clone, Debug, Default)]
pub struct LocalBuckets {
    buckets: BTreeMap<String, Bucket>,
    /// Of the present connection.
    announced: Option<Announced>,
}

#[derive(Clone, Debug)]
struct Announced {
    last_op_id: OpId,
    write_checkpoint: Option<OpId>,
    buckets: BTreeMap<String, BucketDescription>,
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    /// Everything up to it is there.
    position: OpId,
    rows: BTreeMap<RowKey<'static>, Stored>,
    /// Sum of what is no row any more.
    superseded: Checksum,
}

#[derive(Clone, Debug)]
struct Stored {
    op_id: OpId,
    checksum: Checksum,
    data: String,
}

impl LocalBuckets {
    /// What to send with a request. Begins a new connection.
    pub fn connect(&mut self) -> Vec<BucketPosition> {
        self.announced = None;
        let position = |(name, bucket): (&String, &Bucket)| BucketPosition {
            name: name.clone(),
            after: bucket.position,
        };
        self.buckets.iter().map(position).collect()
    }

    /// Takes one line.
    ///
    /// # Errors
    /// When it breaks a rule of the protocol, or a checksum does not meet.
    pub fn apply(&mut self, line: &[u8]) -> Result<LineEffect> {
        match SyncLine::parse(line)? {
            SyncLine::Checkpoint(checkpoint) => {
                let described = by_name(checkpoint.buckets)?;
                self.buckets.retain(|name, _| described.contains_key(name));
                self.announced = Some(Announced {
                    last_op_id: checkpoint.last_op_id,
                    write_checkpoint: checkpoint.write_checkpoint,
                    buckets: described,
                });
                Ok(LineEffect::Announced)
            }
            SyncLine::CheckpointDiff(diff) => {
                let announced = self.announced.as_mut().context("a diff before a checkpoint")?;
                ensure!(diff.last_op_id >= announced.last_op_id, "the checkpoint went back");
                announced.last_op_id = diff.last_op_id;
                announced.write_checkpoint = diff.write_checkpoint;
                for name in &diff.removed_buckets {
                    ensure!(announced.buckets.remove(name).is_some(), "'{name}' was not there");
                    self.buckets.remove(name);
                }
                announced.buckets.extend(by_name(diff.updated_buckets)?);
                Ok(LineEffect::Announced)
            }
            SyncLine::Data(line) => self.store(&line),
            SyncLine::PartialCheckpointComplete(partial) => {
                self.complete(Some(partial.priority), partial.last_op_id)?;
                Ok(LineEffect::Partial(partial.priority))
            }
            SyncLine::CheckpointComplete(complete) => {
                self.complete(None, complete.last_op_id)?;
                let announced = self.announced.as_ref().context("no checkpoint")?;
                Ok(LineEffect::Complete(Completed {
                    last_op_id: announced.last_op_id,
                    write_checkpoint: announced.write_checkpoint,
                    rows: Arc::new(self.rows()?),
                }))
            }
            SyncLine::TokenExpiresIn(seconds) => Ok(LineEffect::TokenExpiresIn(seconds)),
            SyncLine::Snapshot(_) => bail!("a snapshot line that was not asked for"),
            SyncLine::Unknown => Ok(LineEffect::Ignored),
        }
    }

    fn store(&mut self, line: &DataLine<'_>) -> Result<LineEffect> {
        let announced = self.announced.as_ref().context("data before a checkpoint")?;
        let name = &line.bucket;
        ensure!(announced.buckets.contains_key(name), "data of '{name}', which was not announced");
        let bucket = self.buckets.entry(name.clone()).or_default();
        let mut previous = None;
        for operation in &line.operations {
            // A base's rows may come below the position, after the CLEAR which opens it.
            let op_id = operation.op_id;
            if matches!(operation.body, Body::Clear) {
                previous = None;
            } else {
                ensure!(previous < Some(op_id), "'{name}': op ids do not ascend at {op_id}");
                previous = Some(op_id);
            }
            bucket.apply(operation)?;
        }
        if let Some(last) = line.operations.last() {
            bucket.position = last.op_id;
        }
        Ok(LineEffect::Stored { operations: line.operations.len() })
    }

    /// Checks the sums of the buckets up to a priority, or of all.
    fn complete(&mut self, up_to: Option<Priority>, last_op_id: OpId) -> Result<()> {
        let announced = self.announced.as_ref().context("a completion before a checkpoint")?;
        ensure!(last_op_id == announced.last_op_id, "completed {last_op_id}, not announced");
        for (name, described) in &announced.buckets {
            if up_to.is_some_and(|priority| described.priority > priority) {
                continue;
            }
            let bucket = self.buckets.entry(name.clone()).or_default();
            let (sum, expected) = (bucket.sum(), described.checksum);
            ensure!(sum == expected, "'{name}': sum {sum}, announced {expected} at {last_op_id}");
            bucket.position = last_op_id;
        }
        Ok(())
    }

    /// A row that is in several buckets has the value of its latest operation.
    fn rows(&self) -> Result<Rows> {
        let mut latest: BTreeMap<(&str, &str), &Stored> = BTreeMap::new();
        for (key, stored) in self.buckets.values().flat_map(|bucket| &bucket.rows) {
            let row = latest.entry((&key.object_type, &key.object_id)).or_insert(stored);
            if stored.op_id > row.op_id {
                *row = stored;
            }
        }
        let read = |((object_type, id), stored): ((&str, &str), &Stored)| {
            let data = serde_json::from_str(&stored.data)
                .with_context(|| format!("data of {object_type} {id} is no JSON object"))?;
            Ok(((object_type.to_owned(), id.to_owned()), data))
        };
        latest.into_iter().map(read).collect()
    }
}

impl Bucket {
    fn apply(&mut self, operation: &Operation<'_>) -> Result<()> {
        if let Some(proper) = operation.body.checksum() {
            ensure!(operation.checksum == proper, "checksum of operation {}", operation.op_id);
        }
        match &operation.body {
            Body::Put { row, data } => {
                let stored = Stored {
                    op_id: operation.op_id,
                    checksum: operation.checksum,
                    data: data.clone().into_owned(),
                };
                if let Some(former) = self.rows.insert(row.clone().into_owned(), stored) {
                    self.superseded += former.checksum;
                }
            }
            Body::Remove { row } => {
                if let Some(former) = self.rows.remove(&row.clone().into_owned()) {
                    self.superseded += former.checksum;
                }
                self.superseded += operation.checksum;
            }
            Body::Move => self.superseded += operation.checksum,
            Body::Clear => {
                self.rows.clear();
                self.superseded = operation.checksum;
            }
        }
        Ok(())
    }

    fn sum(&self) -> Checksum {
        self.rows.values().map(|stored| stored.checksum).sum::<Checksum>() + self.superseded
    }
}

fn by_name(buckets: Vec<BucketDescription>) -> Result<BTreeMap<String, BucketDescription>> {
    let mut names = BTreeMap::new();
    for bucket in buckets {
        if let Some(twice) = names.insert(bucket.bucket.clone(), bucket) {
            bail!("bucket '{}' is announced twice", twice.bucket);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(op_id: i64, id: &str, data: &str) -> (String, Checksum) {
        let row = RowKey::new("t", id, "k");
        let sum = Body::Put { row, data: data.into() }.checksum().unwrap();
        let data = Value::from(data);
        let line = format!(
            r#"{{"op_id":"{op_id}","op":"PUT","object_type":"t","object_id":"{id}","subkey":"k","checksum":{},"data":{data}}}"#,
            sum.0
        );
        (line, sum)
    }

    fn checkpoint(last: i64, sum: Checksum) -> String {
        format!(
            r#"{{"checkpoint":{{"last_op_id":"{last}","buckets":[{{"bucket":"b","checksum":{}}}]}}}}"#,
            sum.0
        )
    }

    fn data(operations: &[&str]) -> String {
        format!(r#"{{"data":{{"bucket":"b","data":[{}]}}}}"#, operations.join(","))
    }

    fn run(local: &mut LocalBuckets, lines: &[String]) -> Result<LineEffect> {
        local.connect();
        lines.iter().try_fold(LineEffect::Ignored, |_, line| local.apply(line.as_bytes()))
    }

    #[test]
    fn a_superseded_row_counts_in_the_sum_and_is_not_seen() {
        let mut local = LocalBuckets::default();
        let (first, a) = put(1, "x", r#"{"id":"x","n":1}"#);
        let (second, b) = put(2, "x", r#"{"id":"x","n":2}"#);
        let complete = r#"{"checkpoint_complete":{"last_op_id":"7"}}"#.to_owned();
        let lines = [checkpoint(7, a + b), data(&[&first, &second]), complete];
        let Ok(LineEffect::Complete(done)) = run(&mut local, &lines) else { panic!() };
        assert_eq!(done.rows[&("t".to_owned(), "x".to_owned())]["n"], 2);
        assert_eq!(local.connect()[0].after.get(), 7, "the checkpoint's position, not the row's");
    }

    #[test]
    fn a_wrong_sum_is_an_error() {
        let (first, a) = put(1, "x", "{}");
        let complete = r#"{"checkpoint_complete":{"last_op_id":"7"}}"#.to_owned();
        let lines = [checkpoint(7, a + Checksum(1)), data(&[&first]), complete];
        assert!(run(&mut LocalBuckets::default(), &lines).is_err());
    }

    #[test]
    fn a_bucket_that_is_no_longer_named_is_gone() {
        let mut local = LocalBuckets::default();
        let (first, a) = put(1, "x", "{}");
        run(&mut local, &[checkpoint(7, a), data(&[&first])]).unwrap();
        let none = r#"{"checkpoint":{"last_op_id":"8","buckets":[]}}"#.to_owned();
        run(&mut local, &[none]).unwrap();
        assert_eq!(local.connect(), []);
    }
}
