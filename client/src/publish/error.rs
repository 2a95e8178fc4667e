//! Errors of publishing, by what happens next.

use rusqlite::ErrorCode;
use tidewater_protocol::ErrorChain;
use tidewater_snapshot::SnapshotError;

use super::packs;
use crate::db::table_plan::TablePlan;

/// An error of publishing. The database is as it was before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The app's tables refuse a row: the app's schema has to change.
    #[error("table {table} refuses row '{id}': {reason}")]
    Refused { table: String, id: String, reason: String },
    /// Another process has opened the file with a changed schema: the app has to open it again.
    #[error("the schema was changed by another process: open the database again")]
    SchemaChanged,
    /// The files of a bucket's snapshot cannot be used: the bucket is downloaded again.
    #[error("the snapshot of bucket {bucket} cannot be used: {reason}")]
    Snapshot { bucket: String, reason: String },
    /// The database failed: tried again later.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The device's disk failed: tried again later.
    #[error("cannot use a file of a snapshot")]
    File(#[source] std::io::Error),
}

impl PublishError {
    pub(super) fn refused(plan: &TablePlan, id: &str, reason: String) -> Self {
        Self::Refused { table: plan.name.clone(), id: id.to_owned(), reason }
    }
}

/// An error of merging one file, before it is decided whose fault it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum MergeError {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    File(#[from] std::io::Error),
}

impl MergeError {
    /// Sorts the error: damage of the file names the bucket, anything else is the device's.
    pub(super) fn of_bucket(self, bucket: &str) -> PublishError {
        match self {
            Self::Snapshot(error) => PublishError::Snapshot {
                bucket: bucket.to_owned(),
                reason: ErrorChain(&error).to_string(),
            },
            Self::Sqlite(error) if is_damage(&error) => {
                PublishError::Snapshot { bucket: bucket.to_owned(), reason: error.to_string() }
            }
            Self::Sqlite(error) => PublishError::Sqlite(error),
            Self::File(error) => PublishError::File(error),
        }
    }
}

impl From<packs::InsertError> for MergeError {
    fn from(error: packs::InsertError) -> Self {
        match error {
            packs::InsertError::File(error) => Self::File(error),
            packs::InsertError::Sqlite(error) => Self::Sqlite(error),
        }
    }
}

/// Returns whether the app's tables refused a row.
pub(super) fn is_constraint(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
