//! The buckets of a client, updated by the rules of the official SDKs.
//!
//! [`LocalBuckets::apply`] takes the lines of a stream one by one. It verifies each of them: a line
//! that violates the protocol, or a checksum that differs, is an error and fails the test.

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

/// A complete checkpoint.
#[derive(Clone, Debug)]
pub struct Completed {
    /// Op id of the checkpoint.
    pub last_op_id: OpId,
    /// The greatest acknowledged write checkpoint.
    pub write_checkpoint: Option<OpId>,
    /// The rows that an app shows at the checkpoint.
    pub rows: Arc<Rows>,
}

impl Completed {
    /// Returns a row by its object type and object id.
    #[must_use]
    pub fn row(&self, object_type: &str, id: &str) -> Option<&Map<String, Value>> {
        self.rows.get(&(object_type.to_owned(), id.to_owned()))
    }

    /// Returns whether the checkpoint acknowledges a write checkpoint.
    #[must_use]
    pub fn acknowledges(&self, number: i64) -> bool {
        self.write_checkpoint.is_some_and(|acknowledged| acknowledged.get() >= number)
    }
}

/// The effect of a line on the buckets.
#[derive(Clone, Debug)]
pub enum LineEffect {
    /// A checkpoint was announced or changed.
    Announced,
    /// Operations were stored.
    Stored {
        /// Number of stored operations.
        operations: usize,
    },
    /// The buckets up to a priority are complete.
    Partial(Priority),
    /// All buckets are complete.
    Complete(Completed),
    /// Seconds until the token expires.
    TokenExpiresIn(i64),
    /// The line is of an unknown kind and has no effect.
    Ignored,
}

/// The buckets that a client stores on disk.
#[derive(Clone, Debug, Default)]
pub struct LocalBuckets {
    buckets: BTreeMap<String, Bucket>,
    /// The checkpoint that the current connection has announced.
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
    /// Op id up to which all operations are stored.
    position: OpId,
    rows: BTreeMap<RowKey<'static>, Stored>,
    /// Sum of the checksums of operations that are no current row.
    superseded: Checksum,
}

#[derive(Clone, Debug)]
struct Stored {
    op_id: OpId,
    checksum: Checksum,
    data: String,
}

impl LocalBuckets {
    /// Begins a new connection. Returns the bucket positions for its request.
    pub fn connect(&mut self) -> Vec<BucketPosition> {
        self.announced = None;
        let buckets = self.buckets.iter();
        buckets
            .map(|(name, bucket)| BucketPosition { name: name.clone(), after: bucket.position })
            .collect()
    }

    /// Applies one line of the stream.
    ///
    /// # Errors
    /// Fails when the line violates the protocol, or when a checksum differs.
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
                    ensure!(
                        announced.buckets.remove(name).is_some(),
                        "the diff removes '{name}', which was not announced"
                    );
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
            SyncLine::Snapshot(_) => bail!("a snapshot line that was not requested"),
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
            // The rows of a base may have op ids below the position, after the CLEAR that opens it.
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

    /// Verifies the checksums of the buckets up to a priority, or of all buckets.
    fn complete(&mut self, up_to: Option<Priority>, last_op_id: OpId) -> Result<()> {
        let announced = self.announced.as_ref().context("a completion before a checkpoint")?;
        ensure!(
            last_op_id == announced.last_op_id,
            "{last_op_id} is complete, but {} was announced",
            announced.last_op_id
        );

        for (name, described) in &announced.buckets {
            if up_to.is_some_and(|priority| described.priority > priority) {
                continue;
            }
            let bucket = self.buckets.entry(name.clone()).or_default();
            let sum = bucket.checksum();
            let expected = described.checksum;
            ensure!(
                sum == expected,
                "'{name}' has checksum {sum}, and not the announced {expected}, at {last_op_id}"
            );
            bucket.position = last_op_id;
        }
        Ok(())
    }

    /// Returns the visible rows. A row in several buckets has the value of its latest operation.
    fn rows(&self) -> Result<Rows> {
        let mut latest: BTreeMap<(&str, &str), &Stored> = BTreeMap::new();
        for (key, stored) in self.buckets.values().flat_map(|bucket| &bucket.rows) {
            let row = latest.entry((&key.object_type, &key.object_id)).or_insert(stored);
            if stored.op_id > row.op_id {
                *row = stored;
            }
        }

        let mut rows = Rows::new();
        for ((object_type, id), stored) in latest {
            let data = serde_json::from_str(&stored.data)
                .with_context(|| format!("data of {object_type} {id} is no JSON object"))?;
            rows.insert((object_type.to_owned(), id.to_owned()), data);
        }
        Ok(rows)
    }
}

impl Bucket {
    fn apply(&mut self, operation: &Operation<'_>) -> Result<()> {
        if let Some(proper) = operation.body.checksum() {
            ensure!(
                operation.checksum == proper,
                "operation {} has a wrong checksum",
                operation.op_id
            );
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

    fn checksum(&self) -> Checksum {
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
    fn a_superseded_row_is_part_of_the_checksum_and_invisible() {
        let mut local = LocalBuckets::default();
        let (first, a) = put(1, "x", r#"{"id":"x","n":1}"#);
        let (second, b) = put(2, "x", r#"{"id":"x","n":2}"#);
        let complete = r#"{"checkpoint_complete":{"last_op_id":"7"}}"#.to_owned();
        let lines = [checkpoint(7, a + b), data(&[&first, &second]), complete];
        let Ok(LineEffect::Complete(done)) = run(&mut local, &lines) else { panic!() };
        assert_eq!(done.rows[&("t".to_owned(), "x".to_owned())]["n"], 2);
        assert_eq!(local.connect()[0].after.get(), 7, "the position is that of the checkpoint");
    }

    #[test]
    fn a_wrong_checksum_is_an_error() {
        let (first, a) = put(1, "x", "{}");
        let complete = r#"{"checkpoint_complete":{"last_op_id":"7"}}"#.to_owned();
        let lines = [checkpoint(7, a + Checksum(1)), data(&[&first]), complete];
        assert!(run(&mut LocalBuckets::default(), &lines).is_err());
    }

    #[test]
    fn a_bucket_that_the_checkpoint_does_not_list_is_dropped() {
        let mut local = LocalBuckets::default();
        let (first, a) = put(1, "x", "{}");
        run(&mut local, &[checkpoint(7, a), data(&[&first])]).unwrap();
        let none = r#"{"checkpoint":{"last_op_id":"8","buckets":[]}}"#.to_owned();
        run(&mut local, &[none]).unwrap();
        assert_eq!(local.connect(), []);
    }
}
