//! A device without a server: what the tests of publishing share.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use rusqlite::types::FromSql;
use tempfile::TempDir;
use tidewater_protocol::{
    Body, BucketDescription, Checkpoint, Checksum, DataLine, OpId, Operation, Priority, RowKey,
    SnapshotFile, SnapshotLine,
};
use tidewater_snapshot::{
    SnapshotHeader, SnapshotOptions, SnapshotRow, SnapshotWriter, WrittenFile, unpack_frame,
};

use super::*;
use crate::core::LocalBucket;
use crate::db::database::Writers;
use crate::db::snapshot_files;
use crate::lock::lock;

mod cases;
mod model;
mod row_cases;
mod snapshots;

/// A database with its publisher.
struct Device {
    database: Database,
    publisher: Mutex<CheckpointPublisher>,
}

impl Device {
    fn open(dir: &TempDir, schema: &str) -> Self {
        Self::open_at(&dir.path().join("app.db"), schema)
    }

    fn open_at(path: &Path, schema: &str) -> Self {
        let schema = Schema::parse(schema).unwrap();
        let database = Database::open(path, &schema).unwrap();
        let publisher = Mutex::new(CheckpointPublisher::new(&database, &schema).unwrap());
        Self { database, publisher }
    }

    fn writers(&self) -> MutexGuard<'_, Writers> {
        self.database.writers()
    }

    fn publisher(&self) -> MutexGuard<'_, CheckpointPublisher> {
        lock(&self.publisher)
    }

    fn publish(&self, checkpoint: &Checkpoint) -> Result<Publication, PublishError> {
        self.publisher().publish(&mut self.writers().sync, checkpoint)
    }

    /// Returns the first column of the first row.
    fn query<T: FromSql>(&self, sql: &str) -> T {
        self.database.read(|db| db.query_row(sql, [], |row| row.get(0))).unwrap()
    }

    /// Runs a local transaction of one statement.
    fn write(&self, sql: &str) -> rusqlite::Result<()> {
        self.writers().write(|tx| tx.execute_batch(sql)).map(|_| ())
    }

    /// Does what the upload of all local writes and its acknowledgement do.
    fn acknowledge_local_writes(&self) {
        let sql = "DELETE FROM _tw_queue; UPDATE _tw_state SET gate = 0";
        self.writers().sync.execute_batch(sql).unwrap();
    }

    fn bucket(&self, name: &str) -> LocalBucket {
        staging::load(&self.writers().sync).unwrap().remove(name).unwrap_or_default()
    }

    /// Stages a line and the bucket's state after it.
    fn stage(&self, line: &DataLine<'_>, after: LocalBucket) -> rusqlite::Result<()> {
        let writers = &mut *self.writers();
        let tx = writers.sync.transaction()?;
        staging::stage(&tx, &mut writers.staging, line, after)?;
        tx.commit()
    }

    /// Stages a snapshot as a fetch would, with its files. Only a verified one is not hashed again.
    fn stage_snapshot(
        &self,
        bucket: &str,
        rows: &[TestRow],
        after: LocalBucket,
        is_verified: bool,
    ) -> SnapshotLine {
        let line = write_snapshot(&self.publisher().snapshots.files, bucket, rows, after);
        let text = serde_json::to_string(&line).unwrap();
        let mut writers = self.writers();
        let tx = writers.sync.transaction().unwrap();
        staging::stage_snapshot(&tx, bucket, &text, after).unwrap();
        tx.commit().unwrap();

        if is_verified {
            self.publisher().note_verified(text);
        }
        line
    }
}

fn op(id: i64) -> OpId {
    OpId::from_i64(id).unwrap()
}

/// Adds a line to a bucket's state, as the core does.
fn add_line(state: &mut LocalBucket, line: &DataLine<'_>) {
    for operation in &line.operations {
        match operation.body {
            Body::Clear => state.sum = operation.checksum,
            Body::Put { .. } | Body::Remove { .. } | Body::Move => state.sum += operation.checksum,
        }
        state.position = operation.op_id;
    }
}

fn describe(bucket: &str, checksum: Checksum) -> BucketDescription {
    BucketDescription {
        bucket: bucket.to_owned(),
        checksum,
        count: 0,
        priority: Priority::default(),
        subscriptions: vec![],
    }
}

fn checkpoint_at(last_op_id: OpId, buckets: Vec<BucketDescription>) -> Checkpoint {
    Checkpoint { last_op_id, write_checkpoint: None, buckets, streams: vec![] }
}

/// A row of a snapshot: type, id and subkey; op id; JSON text.
#[derive(Clone, Debug)]
struct TestRow {
    key: [String; 3],
    op_id: OpId,
    data: String,
}

impl TestRow {
    fn put(&self) -> Operation<'_> {
        let row = RowKey::new(&self.key[0], &self.key[1], &self.key[2]);
        let body = Body::Put { row, data: self.data.as_str().into() };
        Operation { op_id: self.op_id, checksum: body.checksum().unwrap(), body }
    }
}

/// Writes the files of a snapshot to where a fetch puts them.
fn write_snapshot(
    files: &SnapshotFiles,
    bucket: &str,
    rows: &[TestRow],
    at: LocalBucket,
) -> SnapshotLine {
    let dir = TempDir::new().unwrap();
    let header = SnapshotHeader { bucket: bucket.to_owned(), to: at.position, checksum: at.sum };
    let options = SnapshotOptions { frame_raw_bytes: 10_000, ..SnapshotOptions::default() };
    let mut writer = SnapshotWriter::create(dir.path(), &header, &options).unwrap();

    let mut sorted: Vec<_> = rows.iter().collect();
    sorted.sort_by_key(|row| &row.key);
    for row in sorted {
        writer
            .push(&SnapshotRow {
                object_type: &row.key[0],
                object_id: &row.key[1],
                subkey: &row.key[2],
                op_id: row.op_id,
                checksum: row.put().checksum,
                data: &row.data,
            })
            .unwrap();
    }

    let written = writer.finish().unwrap();
    let line = SnapshotLine {
        bucket: bucket.to_owned(),
        id: format!("{}", at.position.get()),
        to: at.position,
        checksum: at.sum,
        rows: rows.len() as u64,
        count: rows.len() as u64,
        files: written.iter().map(announce_file).collect(),
    };
    for (number, file) in written.iter().enumerate() {
        let path = files.path(&line, number);
        files.prepare(&path, &line.files[number]).unwrap();
        unpack_file(file, &path);
    }
    line
}

fn announce_file(file: &WrittenFile) -> SnapshotFile {
    SnapshotFile { url: String::new(), raw_bytes: file.raw_bytes, frames: file.frames.clone() }
}

fn unpack_file(file: &WrittenFile, path: &Path) {
    let packed = fs::read(&file.path).unwrap();
    let mut start = 0;
    let mut offset = 0;

    for frame in &file.frames {
        let end = start + usize::try_from(frame.bytes).unwrap();
        let raw = unpack_frame(&packed[start..end], frame).unwrap();
        snapshot_files::write_frame(path, offset, &raw).unwrap();
        start = end;
        offset += frame.raw_bytes;
    }
}
