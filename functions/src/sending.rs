//! Sending the operations of a bucket, line by line.

use std::collections::VecDeque;
use std::sync::Arc;

use tidewater_protocol::{OpId, RowData};
use tidewater_storage::{Limits, Segment, Storage, StorageError};

use crate::chain::Broken;
use crate::data_line::{self, Damaged};
use crate::served::Served;

/// Payload of the segments read at a time.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// The way to a checkpoint.
pub(crate) struct Plan {
    pub(crate) limits: Arc<Limits>,
    /// Buckets that are behind, most urgent first: indices.
    pub(crate) queue: VecDeque<usize>,
    /// Segments read and not yet sent, of the first in the queue.
    pub(crate) page: VecDeque<Segment>,
    /// Keys up to it have been read; dead segments may end a page.
    pub(crate) read_upto: OpId,
    pub(crate) attempts: u32,
}

/// What is being sent, and where it is written.
pub(crate) struct Output<'a> {
    pub(crate) checkpoint: OpId,
    pub(crate) row_data: RowData,
    pub(crate) out: &'a mut Vec<u8>,
}

/// Why a line cannot be sent.
pub(crate) enum SendError {
    Broken(Broken),
    Storage(StorageError),
    Damaged(Damaged),
}

/// Sends one line of a bucket, and proves the whole of it when that was the last. Returns whether
/// it was.
pub(crate) async fn send_line<S: Storage>(
    storage: &S,
    plan: &mut Plan,
    bucket: &mut Served,
    output: Output<'_>,
) -> Result<bool, SendError> {
    let head = bucket.head;
    while plan.page.is_empty() && !bucket.chain.has_reached(&head) {
        let (after, upto) = (plan.read_upto, output.checkpoint);
        let page = storage.segments(&bucket.key, after, upto, PAGE_BYTES_MAX).await;
        let page = page.map_err(SendError::Storage)?;
        plan.read_upto = page.segments.last().map_or(after, |segment| segment.last);
        let live = page.segments.into_iter().filter(|segment| plan.limits.live(segment.last));
        plan.page.extend(live);
        if plan.page.is_empty() && !page.has_more {
            return Err(SendError::Broken(Broken(bucket.chain.last)));
        }
    }
    let mut chain = bucket.chain;
    let segments = plan.page.make_contiguous();
    let segments = &segments[..data_line::fitting(segments)];
    if let Some(first) = segments.first()
        && !chain.is_exact()
        && !data_line::begins_after(first, chain.last)
    {
        // No line of ours ends there: whatever the client holds, it is not a prefix of the log.
        bucket.restart();
        plan.page.clear();
        plan.read_upto = OpId::ZERO;
        return Ok(false);
    }
    for segment in segments {
        chain = chain.followed_by(segment).map_err(SendError::Broken)?;
    }
    let done = chain.has_reached(&head);
    if done {
        chain.ends_at(&head).map_err(SendError::Broken)?;
    }
    if bucket.clear || !segments.is_empty() {
        let line = data_line::Line {
            bucket: &bucket.name,
            after: bucket.chain.last,
            clear: bucket.clear,
            has_more: !done,
            row_data: output.row_data,
        };
        let before = output.out.len();
        if let Err(damaged) = data_line::write(output.out, &line, segments) {
            output.out.truncate(before);
            return Err(SendError::Damaged(damaged));
        }
    }
    let count = segments.len();
    plan.page.drain(..count);
    bucket.chain = chain;
    bucket.clear = false;
    Ok(done)
}
