//! Sends a bucket line by line: reads the store, proves completeness, writes lines.

use bytes::Bytes;
use tidewater_protocol::{Checksum, LineFormat, OpId, SyncLine};
use tidewater_storage::{
    BaseReader, BrokenChain, FramePosition, ObjectStore, OpLog, SegmentChain, StorageError,
};

use super::bucket_cursor::{BasePosition, BucketCursor, LogPosition, Position};
use super::chunk_buffer::ChunkBuffer;
use super::data_line::{self, DamagedSegment};
use super::send_plan::SendPlan;
use super::snapshot_line::snapshot_line;
use crate::snapshot_url::SnapshotAddresses;

/// Bytes of segments that are read at a time: those of one line. A client that reads slowly costs
/// one page of memory and one line.
const PAGE_BYTES_MAX: usize = data_line::LINE_BYTES_MAX;

/// The destination and form of lines.
pub(super) struct LineOutput<'a> {
    pub(super) checkpoint: OpId,
    pub(super) format: LineFormat,
    /// Set if the client takes snapshots as files.
    pub(super) snapshots: Option<SnapshotAddresses<'a>>,
    pub(super) buffer: &'a mut ChunkBuffer,
}

/// The reason why a line cannot be sent.
pub(super) enum SendError {
    /// A read missed something that the proof needs, or the builder has deleted it: read again.
    Broken(BrokenChain),
    /// A storage call failed.
    Storage(StorageError),
    /// Stored operations do not match their checksums.
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

impl From<DamagedSegment> for SendError {
    fn from(damaged: DamagedSegment) -> Self {
        Self::Damaged(damaged)
    }
}

/// Sends one line of a bucket. Returns whether the client now has the whole bucket, which is proved
/// before the line is written.
pub(super) async fn send_line<S: ObjectStore + OpLog>(
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

/// Sends the next frame of a base, or all of the base as files.
async fn send_base<S: ObjectStore>(
    storage: &S,
    bucket: &mut BucketCursor,
    output: LineOutput<'_>,
) -> Result<bool, SendError> {
    let Position::Base(position) = &mut bucket.position else { return Ok(false) };
    let Some((open, place)) = open_base(storage, position).await? else {
        // No line ever ended after this number of rows, so the client's rows are not a part of the
        // base, whatever its position says.
        bucket.restart();
        return Ok(false);
    };

    // The base proves the bucket alone if there is no log after it. Else the log is sent next, and
    // proves the rest: its chain starts at the base's end with the base's sum.
    let after_base = SegmentChain::at_segment_end(position.base.to, position.base.checksum);
    let is_whole_bucket = after_base.has_reached(&bucket.head);
    if is_whole_bucket {
        after_base.verify_end(&bucket.head)?;
    }

    if let Some(addresses) = output.snapshots
        && position.is_untouched()
        && position.base.files > 0
    {
        let line = snapshot_line(storage, addresses, &bucket.name, &open).await?;
        output.buffer.push(&SyncLine::Snapshot(line));
        bucket.position = Position::Log(LogPosition { chain: after_base, clear: false });
        return Ok(is_whole_bucket);
    }

    // A base without rows has no frame, and neither has a client that was cut off after the last.
    let (rows, next) = if open.ends_at(place) {
        (Bytes::new(), place)
    } else {
        open.frame(storage, place).await?.ok_or(BrokenChain(position.base.to))?
    };
    let is_last_frame = open.ends_at(next);

    if position.clear || place != next {
        let line = data_line::LineParams {
            bucket: &bucket.name,
            after: if position.clear { OpId::ZERO } else { open.marker(place) },
            clear: position.clear.then_some(position.base.remainder),
            has_more: !(is_last_frame && is_whole_bucket),
            format: output.format,
        };
        let marker = open.marker(next);
        output.buffer.write_data(|out| data_line::write_base_rows(out, &line, &rows, marker))?;
    }

    if is_last_frame {
        bucket.position = Position::Log(LogPosition { chain: after_base, clear: false });
        return Ok(is_whole_bucket);
    }
    // The next line begins at the marker that this line ended with.
    position.rows = next.rows;
    position.clear = false;
    position.open = Some((open, next));
    Ok(false)
}

/// Returns the base's manifest and the place of its next frame. `None` if no frame ends at the
/// client's position.
async fn open_base<S: ObjectStore>(
    storage: &S,
    position: &mut BasePosition,
) -> Result<Option<(BaseReader, FramePosition)>, SendError> {
    if let Some(open) = position.open.take() {
        return Ok(Some(open));
    }
    let open = BaseReader::open(storage, &position.base).await?;
    let open = open.ok_or(BrokenChain(position.base.to))?;
    let place = open.after(position.rows);
    Ok(place.map(|place| (open, place)))
}

/// Sends the next segments of the log.
async fn send_log<S: OpLog>(
    storage: &S,
    plan: &mut SendPlan,
    bucket: &mut BucketCursor,
    log: LogPosition,
    output: LineOutput<'_>,
) -> Result<bool, SendError> {
    let head = bucket.head;
    if !log.chain.has_reached(&head) {
        read_page(storage, plan, bucket, log.chain, output.checkpoint).await?;
    }

    let segments = plan.page.make_contiguous();
    let segments = &segments[..data_line::count_that_fits(segments)];
    if let Some(first) = segments.first()
        && !log.chain.is_exact()
        && !data_line::begins_after(first, log.chain.last)
    {
        // Every line ends where a segment ends. A position in the middle of one was never sent, so
        // the client's rows are not a prefix of this log.
        bucket.restart();
        plan.page.clear();
        plan.read_upto = OpId::ZERO;
        return Ok(false);
    }

    // The proof comes before the line: each segment names the operation and the sum before it, so
    // a missing segment breaks the chain. At its end the chain must meet the head, op id and sum.
    let mut chain = log.chain;
    for segment in segments {
        chain = chain.append(segment)?;
    }
    let is_whole_bucket = chain.has_reached(&head);
    if is_whole_bucket {
        chain.verify_end(&head)?;
    }

    if log.clear || !segments.is_empty() {
        let line = data_line::LineParams {
            bucket: &bucket.name,
            after: log.chain.last,
            clear: log.clear.then_some(Checksum::ZERO),
            has_more: !is_whole_bucket,
            format: output.format,
        };
        output.buffer.write_data(|out| data_line::write_segments(out, &line, segments))?;
    }

    // The position moves only now that the line is in the buffer. A failure before leaves both as
    // they were, and the line is made again.
    let sent = segments.len();
    plan.page.drain(..sent);
    bucket.position = Position::Log(LogPosition { chain, clear: false });
    Ok(is_whole_bucket)
}

/// Reads segments until the page holds a committed one.
async fn read_page<S: OpLog>(
    storage: &S,
    plan: &mut SendPlan,
    bucket: &BucketCursor,
    chain: SegmentChain,
    checkpoint: OpId,
) -> Result<(), SendError> {
    // A client that has just received a base needs nothing of the log before the base's end.
    plan.read_upto = plan.read_upto.max(chain.last);

    while plan.page.is_empty() {
        let after = plan.read_upto;
        let read = storage.segments(&bucket.key, after, checkpoint, PAGE_BYTES_MAX).await?;
        plan.read_upto = read.segments.last().map_or(after, |segment| segment.last);

        // Segments of crashed runs lie between the committed ones. They never become visible.
        let segments = read.segments.into_iter();
        plan.page.extend(segments.filter(|segment| plan.committed_ops.is_committed(segment.last)));

        if plan.page.is_empty() && !read.has_more {
            return Err(SendError::Broken(BrokenChain(chain.last)));
        }
    }
    Ok(())
}
