//! The limits of what one row may become: the number of its buckets, and the bytes in all of them.

use tidewater_sync_config::{BucketRow, RowOutput, UnionEvaluator};

/// Buckets that one row may be in, over all queries. A change of the row writes an operation and a head
/// for each, and its record names them all, at some 60 bytes each. So 10,000 buckets are 20,000 writes
/// and a record of 0.6 MB, which is written again with each change.
pub(crate) const BUCKETS_PER_ROW_MAX: usize = 10_000;
/// Bytes of one row in all of its buckets, each of which stores the row. Everyone waits while a change of
/// the row is stored, and each version takes so much of the store until it is compacted. 128 MiB let a
/// row of 13 kB be in 10,000 buckets, and one of 1 MB in 128.
pub(crate) const BYTES_PER_ROW_MAX: usize = 128 << 20;

/// A limit that a row exceeds. The row cannot be synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FanOutError {
    /// The row is in too many buckets.
    #[error(
        "it would be in {0} buckets, and one row may be in {BUCKETS_PER_ROW_MAX}; sync what so many \
         users share by a bucket that they have in common"
    )]
    Buckets(usize),
    /// The row is too long for its number of buckets.
    #[error(
        "it would take {bytes} bytes in its {buckets} buckets, and one row may take \
         {BYTES_PER_ROW_MAX}; move long columns to a table of their own, or sync the row by a bucket \
         that its users have in common"
    )]
    Bytes {
        /// The bytes in all buckets.
        bytes: usize,
        /// The number of buckets.
        buckets: usize,
    },
}

/// Keeps a row within the limits, and returns why a part of it is not synced.
///
/// A row beyond a limit is in no bucket: devices lose its former content, and never have a part of the new
/// one. Its answers to lookups are small, and concern other rows. Each config has the limits to itself, or
/// a new one could take rows from those that it shares the table with.
pub(crate) fn keep_limits(evaluator: &UnionEvaluator, output: &mut RowOutput) -> Vec<String> {
    let mut problems = output.errors().to_vec();
    for part in evaluator.parts() {
        let rows = output.buckets().filter(|row| part.contains(row));
        if let Err(error) = check_fan_out(rows) {
            problems = vec![error.to_string()];
            output.leave_buckets(|row| part.contains(row));
        }
    }
    problems
}

fn check_fan_out<'a>(rows: impl Iterator<Item = BucketRow<'a>>) -> Result<(), FanOutError> {
    let mut buckets = 0;
    let mut bytes = 0_usize;
    for row in rows {
        buckets += 1;
        bytes = bytes.saturating_add(row.data.len());
    }

    if buckets > BUCKETS_PER_ROW_MAX {
        return Err(FanOutError::Buckets(buckets));
    }
    if bytes > BYTES_PER_ROW_MAX {
        return Err(FanOutError::Bytes { bytes, buckets });
    }
    Ok(())
}
