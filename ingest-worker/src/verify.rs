//! Compares the store with its source, while everything runs.
//!
//! # What is compared
//!
//! A *place* is a row in a bucket, or the answer of a row to a parameter lookup. Both sides say what is
//! there: the source by the evaluation of its rows with the stored sync config, the store by the
//! operations of its buckets. The comparison also adds up each bucket's checksums.
//!
//! # Why a difference is one
//!
//! The source changes meanwhile, and the store follows. One round takes these steps, in this order:
//!
//! 1. `C`: the visible checkpoint.
//! 2. `S`: a snapshot of the source in which all transactions have ended that had begun before it was
//!    taken. The rows are read in it. Everything in `C` was committed before, so `S` sees it.
//! 3. A ticket is taken, as for a write checkpoint, and the store must reach it. Everything that `S` sees
//!    was committed before the ticket, so each checkpoint from here on contains it.
//! 4. The buckets are read at such checkpoints `D`, as histories from `C` on.
//!
//! In the order of commits, `S` lies between `C` and `D`. A store without a fault has passed the content
//! that `S` shows. So a place is *equal* if its history from `C` to `D` has that content. It is *different*
//! if its history has one content from `C` to `D`, and that is another one. Nothing that happened
//! meanwhile can explain that, so there are no false alarms. If the history has several contents and not
//! that one, the round says nothing: transactions that are stored together leave one operation, and a
//! new base may have replaced the log. Such places are compared again.
//!
//! Snapshots may not settle, while a transaction stays in progress for long. Then the second step is taken
//! without them, equal places are equal nevertheless, and no difference is sure.
//!
//! A difference that stays is found: as long as neither side changes the place, every round finds it
//! different. If either side does change it, the content of the whole row is replaced.
//!
//! # Repair
//!
//! Only the worker writes buckets. A repair is a request in the source's log, as a logical message: see
//! [`CopyRequest`]. The worker ends its run at the request, and the next run copies the table behind the
//! visibility barrier. A request that the worker has not reached when it is killed is sent to it again.
//!
//! # Rounds
//!
//! The first round sorts all places into temporary files, so its memory is bounded. The following ones
//! look only at the places that were not equal, with their data. A difference is reported only if one of
//! them confirms it.

mod checkpoint;
mod error;
mod options;
mod place;
mod report;
mod round;
mod scope;
mod sides;
mod source_side;
mod store_side;
mod subject;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidewater_storage::Storage;
use tokio::time::Instant;

pub use error::VerifyError;
pub use options::{VerifyOptions, VerifyProgress};
pub use report::{
    ChangedColumn, DamagedBucket, Difference, DifferenceKind, DifferencePlace, RepairedTable,
    VerifiedTable, VerifyReport,
};
pub use scope::Selection;

use crate::replication::wal_message::CopyRequest;
use crate::source::database::Database;
use crate::start::stored::read_stored_generation;
use crate::verify::checkpoint::View;
use crate::verify::round::{Comparison, Suspect, TRANSACTION_PATIENCE};
use crate::verify::scope::Scope;
use crate::verify::source_side::SourceSession;
use crate::verify::subject::Subject;

/// Pauses between two rounds: the first, and the longest.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
const ROUND_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Compares the store with its source. With `options.repair`, tables with differences are copied again,
/// and compared again.
///
/// # Errors
/// When one of them cannot be read, when the worker does not follow the source, or when tables change
/// meanwhile.
pub async fn verify<S: Storage>(
    storage: &S,
    options: &VerifyOptions,
    on_progress: &(dyn Fn(VerifyProgress) + Send + Sync),
) -> Result<VerifyReport, VerifyError> {
    let source = SourceSession::open(&options.database, &options.publication).await?;
    let control = storage.control().await?.ok_or(VerifyError::NoCheckpoint)?;
    source.must_be(&control.source).await?;
    if control.visible.is_none() {
        return Err(VerifyError::NoCheckpoint);
    }

    let mut found = Box::pin(compare(storage, &source, options, on_progress)).await?;
    let Some(repair_timeout) = options.repair else { return Ok(found.report) };
    let mut repaired = Vec::new();
    // By difference first: devices receive nothing but what differs. If a stored source row is right and
    // the bucket beneath it is not, only storing all rows again helps.
    for replaces_rows in [false, true] {
        // Removing rows means reading their buckets.
        if replaces_rows && !found.report.damaged.is_empty() {
            break;
        }
        if found.tables.is_empty() {
            break;
        }
        for (table, name) in found.tables {
            let one = RepairedTable { name, replaced_rows: replaces_rows };
            on_progress(VerifyProgress::Repairing(one.clone()));
            repaired.push(one);
            let request = CopyRequest { table, replaces_rows };
            source.request_copy(&control.source.slot, request).await?;
            // The ticket stands behind the request in the log. The worker does not pass the request
            // before the copy has begun, and its copy is visible before anything behind it.
            View::after_now(storage, repair_timeout).await?;
        }
        found = Box::pin(compare(storage, &source, options, on_progress)).await?;
    }
    Ok(VerifyReport { repaired, ..found.report })
}

/// Asks the worker to copy all of its tables again, and returns their number. Rows are compared with what is
/// stored of them, so devices receive what differs. It does not wait for the worker.
///
/// # Errors
/// When the store or the source cannot be read, and when the store was filled from another source.
pub async fn copy_again<S: Storage>(
    storage: &S,
    database: &Database,
    publication: &str,
) -> Result<usize, VerifyError> {
    let source = SourceSession::open(database, publication).await?;
    let control = storage.control().await?.ok_or(VerifyError::NoCheckpoint)?;
    source.must_be(&control.source).await?;
    let stored = read_stored_generation(storage, Some(&control)).await?;
    let stored = stored.ok_or(VerifyError::NoCheckpoint)?;

    let tables: Vec<u32> = stored.copy.tables.iter().flatten().map(|table| table.oid).collect();
    for &table in &tables {
        let request = CopyRequest { table, replaces_rows: false };
        source.request_copy(&control.source.slot, request).await?;
    }
    Ok(tables.len())
}

/// The outcome of one comparison.
struct Compared {
    report: VerifyReport,
    /// The ids and names of tables with differences.
    tables: BTreeMap<u32, String>,
}

async fn compare<S: Storage>(
    storage: &S,
    source: &SourceSession,
    options: &VerifyOptions,
    on_progress: &(dyn Fn(VerifyProgress) + Send + Sync),
) -> Result<Compared, VerifyError> {
    // A worker that does not run is noticed before anything is read.
    on_progress(VerifyProgress::Waiting);
    let view = View::after_now(storage, options.timeout).await?;
    let snapshot = source.begin(TRANSACTION_PATIENCE.min(options.timeout)).await?;
    let subject = Subject::read(storage, &view, &source.tables().await?).await?;
    let scope = Scope::new(&options.selection, &subject)?;
    let comparison = Comparison { storage, source, subject: &subject, scope: &scope, options };

    let (mut report, mut suspects) =
        Box::pin(comparison.whole(&view, snapshot, on_progress)).await?;
    let deadline = Instant::now() + options.timeout;
    let mut pause = ROUND_PAUSE;
    while !suspects.is_empty() {
        on_progress(VerifyProgress::Again(suspects.len()));
        suspects = Box::pin(comparison.again(suspects, &mut report)).await?;
        if suspects.is_empty() || Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(pause).await;
        pause = ROUND_PAUSE_MAX.min(pause * 2);
    }

    comparison.must_be_unchanged().await?;
    report.undecided = suspects.into_iter().map(Suspect::into_difference).collect();
    report.differences.sort_by(|one, other| one.place.cmp(&other.place));
    report.undecided.sort_by(|one, other| one.place.cmp(&other.place));

    let names: BTreeSet<_> =
        report.differences.iter().filter_map(|difference| difference.table.as_ref()).collect();
    let tables = subject.tables.iter().map(|table| (table.table.oid, table.table.display_name()));
    let tables = tables.filter(|(_, name)| names.contains(name)).collect();
    Ok(Compared { report, tables })
}
