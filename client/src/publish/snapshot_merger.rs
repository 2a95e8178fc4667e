//! Opens the files of fetched snapshots and merges their rows within the publishing transaction.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rusqlite::{Connection, Transaction};
use tidewater_protocol::{ErrorChain, SnapshotLine};
use tidewater_snapshot::Snapshot;

use super::error::PublishError;
use super::file_merger::FileMerger;
use super::open_file::OpenFile;
use crate::db::snapshot_files::{self, SnapshotFiles, expected};
use crate::db::table_plan::TablePlans;
use crate::db::wal_checkpointer::AUTOCHECKPOINT_PAGES;

/// The number of files attached at once. SQLite attaches 10 databases at most, unless it is built
/// otherwise; further files are read row by row.
pub(super) const ATTACHED_MAX: usize = 8;
/// The number of rows from which on an empty table is filled without its indexes, which are created
/// again in the same transaction, and from which on copies are packed. Below it the overhead is
/// greater than the gain.
const BULK_ROWS: u64 = 5_000;

/// The state about snapshot files that lasts from one publication to the next.
#[derive(Debug)]
pub(super) struct SnapshotMerger {
    pub(super) files: SnapshotFiles,
    /// Lines whose files this process has fetched and verified. Files of other lines are hashed
    /// again: a loss of power may have taken what was never synced to the disk.
    verified: HashSet<String>,
    /// [`BULK_ROWS`], except in tests.
    pub(super) bulk_rows: u64,
}

/// The files of snapshots that wait to be published, open for reading.
#[derive(Debug)]
pub(super) struct AttachedSnapshots {
    files: Vec<OpenFile>,
    /// The names under which files are attached.
    schemas: Vec<String>,
    bulk_rows: u64,
}

/// The result of merging snapshots.
#[derive(Debug, Default)]
pub(super) struct MergeStats {
    /// The app's tables that changed.
    pub(super) tables: BTreeSet<String>,
    /// The number of rows copied on the fast path. Others are counted when they are published.
    pub(super) rows: u64,
    pub(super) buckets: BTreeSet<String>,
}

impl SnapshotMerger {
    pub(super) fn new(files: SnapshotFiles) -> Self {
        Self { files, verified: HashSet::new(), bulk_rows: BULK_ROWS }
    }

    /// Notes that the files of this line are complete and their hashes are right.
    pub(super) fn note_verified(&mut self, line: String) {
        self.verified.insert(line);
    }

    /// Removes all files. No snapshot waits any more.
    pub(super) fn clear(&mut self) -> std::io::Result<()> {
        self.verified.clear();
        self.files.clear()
    }

    /// Opens and attaches the files of all snapshots that wait.
    pub(super) fn attach(
        &mut self,
        connection: &Connection,
    ) -> Result<AttachedSnapshots, PublishError> {
        let mut attached =
            AttachedSnapshots { files: Vec::new(), schemas: Vec::new(), bulk_rows: self.bulk_rows };

        match self.attach_into(connection, &mut attached) {
            Ok(()) => Ok(attached),
            // The files that are attached already must not stay attached.
            Err(error) => {
                attached.detach(connection)?;
                Err(error)
            }
        }
    }

    fn attach_into(
        &mut self,
        connection: &Connection,
        attached: &mut AttachedSnapshots,
    ) -> Result<(), PublishError> {
        for StagedSnapshot { bucket, bucket_name, line: text } in staged_snapshots(connection)? {
            let unusable =
                |reason: String| PublishError::Snapshot { bucket: bucket_name.clone(), reason };
            let line: SnapshotLine =
                serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))?;
            let is_verified = self.verified.contains(&text);

            for (number, file) in line.files.iter().enumerate() {
                let path = self.files.path(&line, number);
                let is_complete = is_verified
                    || snapshot_files::is_complete(&path, file)
                        .map_err(|error| unusable(error.to_string()))?;
                if !is_complete {
                    return Err(unusable("a file is damaged".to_owned()));
                }

                let snapshot = Snapshot::open(&path, &expected(&line, file.raw_bytes))
                    .map_err(|error| unusable(ErrorChain(&error).to_string()))?;
                let schema = match path.to_str() {
                    Some(path) => attached.attach_file(connection, path)?,
                    None => None,
                };
                attached.files.push(OpenFile {
                    bucket,
                    bucket_name: bucket_name.clone(),
                    line: text.clone(),
                    path,
                    snapshot,
                    schema,
                });
            }
            // All files of the line are complete, so they are not hashed again.
            self.verified.insert(text);
        }

        if !attached.schemas.is_empty() {
            // The hashes were right, but the server may have built the file wrongly: SQLite checks
            // its pages. And the commit skips the WAL checkpoint (see `wal_checkpointer.rs`).
            connection
                .execute_batch("PRAGMA cell_size_check = ON; PRAGMA wal_autocheckpoint = 0")?;
        }
        Ok(())
    }
}

struct StagedSnapshot {
    bucket: i64,
    bucket_name: String,
    line: String,
}

/// Returns the snapshots that wait to be published.
fn staged_snapshots(connection: &Connection) -> rusqlite::Result<Vec<StagedSnapshot>> {
    let mut select = connection.prepare_cached(
        "SELECT bucket, name, line FROM _tw_snapshots \
         JOIN _tw_buckets ON _tw_buckets.id = _tw_snapshots.bucket ORDER BY bucket",
    )?;
    select
        .query_map([], |row| {
            Ok(StagedSnapshot { bucket: row.get(0)?, bucket_name: row.get(1)?, line: row.get(2)? })
        })?
        .collect()
}

impl AttachedSnapshots {
    /// Attaches a file, and returns its name. Returns `None` if too many are attached already.
    fn attach_file(
        &mut self,
        connection: &Connection,
        path: &str,
    ) -> rusqlite::Result<Option<String>> {
        if self.schemas.len() >= ATTACHED_MAX {
            return Ok(None);
        }

        let schema = format!("_tw_snapshot_{}", self.schemas.len());
        connection.execute(&format!("ATTACH ?1 AS {schema}"), [path])?;
        self.schemas.push(schema.clone());
        Ok(Some(schema))
    }

    /// Detaches all files and restores the connection's settings.
    pub(super) fn detach(self, connection: &Connection) -> rusqlite::Result<()> {
        if !self.schemas.is_empty() {
            connection.execute_batch(&format!(
                "PRAGMA cell_size_check = OFF; PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT_PAGES}"
            ))?;
        }

        self.schemas
            .iter()
            .try_for_each(|schema| connection.execute_batch(&format!("DETACH {schema}")))
    }

    /// Merges the rows of all files into the app's tables.
    pub(super) fn merge(
        &self,
        tx: &Transaction<'_>,
        plans: &TablePlans,
    ) -> Result<MergeStats, PublishError> {
        let mut stats = MergeStats::default();
        // Clearing unlisted buckets may have removed some since the files were opened.
        let waiting: BTreeMap<i64, String> = staged_snapshots(tx)?
            .into_iter()
            .map(|snapshot| (snapshot.bucket, snapshot.line))
            .collect();

        for file in &self.files {
            if waiting.get(&file.bucket) != Some(&file.line) {
                continue;
            }

            let merged = FileMerger::new(tx, plans, file, self.bulk_rows)?.run()?;
            stats.tables.extend(merged.tables);
            stats.rows += merged.rows;
            stats.buckets.insert(file.bucket_name.clone());
        }
        Ok(stats)
    }
}
