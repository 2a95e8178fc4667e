//! The mapping of errors of SQLite and the file system to errors of the ports.

use std::io::{self, ErrorKind};

use rusqlite::{Error, ErrorCode};

use crate::error::StorageError;

/// Maps an error before the commit: nothing was written.
pub(super) fn of_sqlite(error: Error) -> StorageError {
    if is_about_a_value(&error) {
        return StorageError::Damaged("row", error.into());
    }
    if matches!(error, Error::SqlInputError { .. }) {
        return StorageError::Damaged("database", error.into());
    }

    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StorageError::Full(error.into()),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            StorageError::Refused(error.into())
        }
        // SQLite returns the generic error code for SQL that does not match the tables.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => {
            StorageError::Damaged("database", error.into())
        }
        _ => StorageError::Unavailable(error.into()),
    }
}

/// Maps an error of the commit. That nothing was written is certain only if SQLite did not start the
/// commit, or if the disk was full.
pub(super) fn of_commit(error: Error) -> StorageError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DiskFull | ErrorCode::ReadOnly) => {
            of_sqlite(error)
        }
        _ => StorageError::Unknown(error.into()),
    }
}

/// Maps an error of the file system.
pub(super) fn of_file(error: io::Error) -> StorageError {
    let kind = error.kind();
    if matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        StorageError::Full(error.into())
    } else if matches!(kind, ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) {
        StorageError::Refused(error.into())
    } else {
        StorageError::Unavailable(error.into())
    }
}

fn is_about_a_value(error: &Error) -> bool {
    matches!(
        error,
        Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..)
    )
}
