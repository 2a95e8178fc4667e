//! Sending the operations of a bucket, line by line.

use std::collections::VecDeque;
use std::sync::Arc;

use tidewater_protocol::{OpId, RowData, SyncLine, write_line};
use tidewater_storage::{
    BaseReader, BrokenChain, CommittedOps, Segment, SegmentChain, Storage, StorageError,
};

use super::bucket_cursor::{BasePosition, BucketCursor, LogPosition, Position};
use super::data_line::{self, DamagedSegment};
use super::snapshot_line::snapshot_line;
use crate::snapshot_url::SnapshotUrls;

/// Payload of the segments read at a time.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// The way to a checkpoint.
pub(crate) struct SendPlan {
    pub(crate) committed_ops: Arc<CommittedOps>,
    /// Buckets that are behind, most urgent first: indices.
    pub(crate) queue: VecDeque<usize>,
    /// Segments read and not yet sent, of the first in the queue.
    pub(crate) page: VecDeque<Segment>,
    /// Keys up to it have been read; dead segments may end a page.
    pub(crate) read_upto: OpId,
    pub(crate) attempts: u32,
}

/// What is being sent, and where it is written.
pub(crate) struct LineOutput<'a> {
    pub(crate) checkpoint: OpId,
    pub(crate) row_data: RowData,
    /// Set if the client takes snapshots as files.
    pub(crate) snapshots: Option<&'a SnapshotUrls>,
    pub(crate) out: &'a mut Vec<u8>,
}

/// Why a line cannot be sent.
pub(crate) enum SendError {
    Broken(BrokenChain),
    Storage(StorageError),
    Damaged(DamagedSegment),
}

impl From<StorageError> for SendError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<BrokenChain> for SendError {
    fn from(broken: BrokenChain) -> Self {
        Self::Broken(broken)
    }
}

/// Sends one line of a bucket, and proves the whole of it when that was the last. Returns whether
/// it was.
pub(crate) async fn send_line<S: Storage>(
    storage: &S,
    plan: &mut SendPlan,
    bucket: &mut BucketCursor,
    output: LineOutput<'_>,
) -> Result<bool, SendError> {
    match bucket.position {
        Position::Base(_) => send_base(storage, bucket, output).await,
        Position::Log(log) => send_log(storage, plan, bucket, log, output).await,
    }
}

/// Sends the next frame of a base, or all of it as files.
async fn send_base<S: Storage>(
    storage: &S,
    bucket: &mut BucketCursor,
    output: LineOutput<'_>,
) -> Result<bool, SendError> {
    let Position::Base(position) = &mut bucket.position else { return Ok(false) };
    let gone = BrokenChain(position.base.to);
    let (open, place) = match position.open.take() {
        Some(open) => open,
        None => {
            let open = BaseReader::open(storage, &position.base).await?.ok_or(gone)?;
            let Some(place) = open.after(position.rows) else {
                // No line of ours ends there: whatever the client holds, it is not a part of it.
                bucket.restart();
                return Ok(false);
            };
            (open, place)
        }
    };
    let behind = SegmentChain::at_segment_end(position.base.to, position.base.checksum);
    let done = behind.has_reached(&bucket.head);
    if done {
        behind.verify_end(&bucket.head)?;
    }
    if let Some(urls) = output.snapshots
        && position.is_untouched()
        && position.base.files > 0
    {
        let line = snapshot_line(storage, urls, &bucket.name, &open).await?;
        write_line(output.out, &SyncLine::Snapshot(line));
        bucket.position = Position::Log(LogPosition { chain: behind, clear: false });
        return Ok(done);
    }
    let (rows, next) = if open.ends_at(place) {
        (bytes::Bytes::new(), place)
    } else {
        open.frame(storage, place).await?.ok_or(gone)?
    };
    let is_last = open.ends_at(next);
    let line = data_line::LineParams {
        bucket: &bucket.name,
        after: if position.clear { OpId::ZERO } else { open.marker(place) },
        clear: position.clear.then_some(position.base.remainder),
        has_more: !(is_last && done),
        row_data: output.row_data,
    };
    if position.clear || place != next {
        let before = output.out.len();
        let written = data_line::write_base_rows(output.out, &line, &rows, open.marker(next));
        if let Err(damaged) = written {
            output.out.truncate(before);
            return Err(SendError::Damaged(damaged));
        }
    }
    if is_last {
        bucket.position = Position::Log(LogPosition { chain: behind, clear: false });
        return Ok(done);
    }
    (position.rows, position.clear) = (next.rows, false);
    position.open = Some((open, next));
    Ok(false)
}

async fn send_log<S: Storage>(
    storage: &S,
    plan: &mut SendPlan,
    bucket: &mut BucketCursor,
    log: LogPosition,
    output: LineOutput<'_>,
) -> Result<bool, SendError> {
    let head = bucket.head;
    // What comes before a base is not worth reading.
    plan.read_upto = plan.read_upto.max(log.chain.last);
    while plan.page.is_empty() && !log.chain.has_reached(&head) {
        let (after, upto) = (plan.read_upto, output.checkpoint);
        let page = storage.segments(&bucket.key, after, upto, PAGE_BYTES_MAX).await?;
        plan.read_upto = page.segments.last().map_or(after, |segment| segment.last);
        let live = page
            .segments
            .into_iter()
            .filter(|segment| plan.committed_ops.is_committed(segment.last));
        plan.page.extend(live);
        if plan.page.is_empty() && !page.has_more {
            return Err(SendError::Broken(BrokenChain(log.chain.last)));
        }
    }
    let mut chain = log.chain;
    let segments = plan.page.make_contiguous();
    let segments = &segments[..data_line::count_that_fits(segments)];
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
        chain = chain.append(segment)?;
    }
    let done = chain.has_reached(&head);
    if done {
        chain.verify_end(&head)?;
    }
    if log.clear || !segments.is_empty() {
        let line = data_line::LineParams {
            bucket: &bucket.name,
            after: log.chain.last,
            clear: log.clear.then_some(tidewater_protocol::Checksum::ZERO),
            has_more: !done,
            row_data: output.row_data,
        };
        let before = output.out.len();
        if let Err(damaged) = data_line::write_segments(output.out, &line, segments) {
            output.out.truncate(before);
            return Err(SendError::Damaged(damaged));
        }
    }
    let count = segments.len();
    plan.page.drain(..count);
    bucket.position = Position::Log(LogPosition { chain, clear: false });
    Ok(done)
}

impl BasePosition {
    /// Whether the client has nothing of it yet.
    fn is_untouched(&self) -> bool {
        self.clear && self.rows == 0
    }
}
