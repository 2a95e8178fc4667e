//! Segments as `data` lines.

use tidewater_protocol::{Body, Checksum, DataLineWriter, OpId, Operation, RowData};
use tidewater_storage::{Segment, SegmentError, SegmentReader};

/// A line ends at the first segment end beyond this: a line is one transaction on the device, and
/// what a server keeps for a client that reads slowly.
const LINE_OPS_MAX: u64 = 10_000;
const LINE_BYTES_MAX: usize = 4 << 20;

/// Op id of the CLEAR that begins a bucket anew. It is of no epoch, hence never a position of our
/// history: a client that is cut off right after it is cleared again.
const CLEAR_OP_ID: OpId = match OpId::from_i64(1) {
    Some(id) => id,
    None => OpId::ZERO,
};

/// A stored segment that does not hold what it claims to hold.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DamagedSegment {
    #[error("a segment cannot be read")]
    Payload(#[from] SegmentError),
    #[error("a segment's operations are not those it claims to hold")]
    Content,
}

/// How many of the segments go into one line: at least one, and whole ones only.
pub(crate) fn count_that_fits(segments: &[Segment]) -> usize {
    let (mut ops, mut bytes) = (0, 0);
    let fits = |segment: &&Segment| {
        ops += segment.count;
        bytes += segment.payload.len();
        ops <= LINE_OPS_MAX && bytes <= LINE_BYTES_MAX
    };
    segments.iter().take_while(fits).count().max(1).min(segments.len())
}

/// What a line is about.
pub(crate) struct LineParams<'a> {
    pub(crate) bucket: &'a str,
    /// Where the client stands.
    pub(crate) after: OpId,
    /// Set if what it holds is void: the sum of what the line leaves out.
    pub(crate) clear: Option<Checksum>,
    /// Whether more lines of the bucket follow.
    pub(crate) has_more: bool,
    pub(crate) row_data: RowData,
}

/// Appends one line with all operations of the segments, and checks that they are what the
/// segments' own fields say.
pub(crate) fn write_segments(
    out: &mut Vec<u8>,
    line: &LineParams<'_>,
    segments: &[Segment],
) -> Result<(), DamagedSegment> {
    let payload: usize = segments.iter().map(|segment| segment.payload.len()).sum();
    let ops = segments.iter().map(|segment| usize::try_from(segment.count).unwrap_or(0));
    out.reserve(payload + payload / 4 + ops.sum::<usize>() * 128 + 256);
    let mut writer = DataLineWriter::begin(out, line.bucket, line.after, line.row_data);
    let mut last = line.after;
    if let Some(checksum) = line.clear {
        writer.push(&Operation { op_id: CLEAR_OP_ID, checksum, body: Body::Clear });
        last = CLEAR_OP_ID;
    }
    for segment in segments {
        let mut sum = Checksum::ZERO;
        for operation in SegmentReader::new(&segment.payload) {
            let operation = operation?;
            if operation.op_id <= last {
                return Err(DamagedSegment::Content);
            }
            last = operation.op_id;
            sum += operation.checksum;
            writer.push(&operation);
        }
        if sum != segment.sum || last != segment.last {
            return Err(DamagedSegment::Content);
        }
    }
    writer.finish(last, line.has_more);
    Ok(())
}

/// Appends one line with rows of a base, as their frame holds them. It ends with a MOVE whose op
/// id is the marker: what clients remember as their position is the last op id of a line, and that
/// of a row would not tell which of the rows they have.
pub(crate) fn write_base_rows(
    out: &mut Vec<u8>,
    line: &LineParams<'_>,
    rows: &[u8],
    marker: OpId,
) -> Result<(), DamagedSegment> {
    out.reserve(rows.len() * 2 + 256);
    let mut writer = DataLineWriter::begin(out, line.bucket, line.after, line.row_data);
    if let Some(checksum) = line.clear {
        writer.push(&Operation { op_id: CLEAR_OP_ID, checksum, body: Body::Clear });
    }
    for operation in SegmentReader::new(rows) {
        writer.push(&operation?);
    }
    writer.push(&Operation { op_id: marker, checksum: Checksum::ZERO, body: Body::Move });
    writer.finish(marker, line.has_more);
    Ok(())
}

/// Whether the segment's operations all lie behind a position: else the position is in its middle.
pub(crate) fn begins_after(segment: &Segment, after: OpId) -> bool {
    let first = SegmentReader::new(&segment.payload).next();
    first.is_some_and(|first| first.is_ok_and(|first| first.op_id > after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidewater_protocol::{Epoch, RowKey};
    use tidewater_storage::{BucketKey, SegmentWriter};

    fn segment(count: u64, bytes: usize) -> Segment {
        Segment {
            bucket: BucketKey::from_stored("aaaaaa[]"),
            last: OpId::ZERO,
            prev: OpId::ZERO,
            sum_before: Checksum::ZERO,
            sum: Checksum::ZERO,
            count,
            payload: vec![0; bytes].into(),
        }
    }

    fn check(segments: &[(u64, usize)], expected: usize) {
        let segments: Vec<_> = segments.iter().map(|&(ops, bytes)| segment(ops, bytes)).collect();
        assert_eq!(count_that_fits(&segments), expected);
    }

    #[test]
    fn a_line_takes_small_segments_together_and_a_large_one_alone() {
        check(&[], 0);
        check(&[(1, 10)], 1);
        check(&[(4_000, 10), (4_000, 10), (4_000, 10)], 2);
        check(&[(10_000, 10), (1, 10)], 1);
        check(&[(20_000, 10), (1, 10)], 1);
        check(&[(1, 3 << 20), (1, 1 << 20), (1, 1)], 2);
        check(&[(1, 5 << 20), (1, 1)], 1);
    }

    /// A segment of three rows, as the worker writes it.
    fn written() -> Segment {
        let mut writer = SegmentWriter::default();
        for number in 1..=3_u8 {
            let id = number.to_string();
            let row = RowKey::new("rows", &id, "k");
            let body = Body::Put { row, data: "{}".into() };
            let op_id = OpId::new(Epoch::new(1).unwrap(), number.into());
            writer.push(&Operation { op_id, checksum: body.checksum().unwrap(), body });
        }
        writer.finish(BucketKey::from_stored("aaaaaa[]"), OpId::ZERO, Checksum::ZERO)
    }

    #[test]
    fn a_segment_that_holds_something_else_is_refused() {
        let sent = |segment: Segment| {
            let (bucket, after, row_data) = ("b[]", OpId::ZERO, RowData::Text);
            let line = LineParams { bucket, after, clear: None, has_more: false, row_data };
            write_segments(&mut Vec::new(), &line, &[segment]).is_ok()
        };
        assert!(sent(written()));
        assert!(!sent(Segment { sum: Checksum(1), ..written() }));
        assert!(!sent(Segment { last: OpId::ZERO, ..written() }));
        let payload = written().payload;
        assert!(!sent(Segment { payload: payload.slice(..payload.len() - 1), ..written() }));
        assert!(!sent(Segment { payload: payload.slice(..0), ..written() }));
        let mut changed = payload.to_vec();
        changed[2] ^= 1; // Within the first checksum.
        assert!(!sent(Segment { payload: changed.into(), ..written() }));
    }

    #[test]
    fn the_op_id_of_a_clear_is_of_no_epoch() {
        assert_eq!(CLEAR_OP_ID.epoch(), Some(Epoch::ZERO));
        assert_eq!(CLEAR_OP_ID.get(), 1);
    }
}
