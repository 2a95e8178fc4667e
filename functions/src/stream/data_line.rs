//! Segments of the log, and frames of a base, as `data` lines.

use tidewater_protocol::{Body, Checksum, DataLineWriter, LineFormat, OpId, Operation};
use tidewater_storage::{Segment, SegmentError, SegmentReader};

/// Number of operations from which a line takes no further segment. The device applies a line in one
/// transaction, during which the app cannot write.
const LINE_OPS_MAX: u64 = 10_000;

/// Bytes of segments from which a line takes no further segment. The server keeps one line in memory
/// for each client that reads slowly.
pub(super) const LINE_BYTES_MAX: usize = 4 << 20;

/// Op id of the CLEAR at the beginning of a bucket. It belongs to no epoch, so it is never a valid
/// position: a client that is cut off after the CLEAR alone is cleared again.
const CLEAR_OP_ID: OpId = match OpId::from_i64(1) {
    Some(id) => id,
    None => OpId::ZERO,
};

/// The reason why stored operations cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DamagedSegment {
    /// The payload cannot be decoded.
    #[error("a segment cannot be read")]
    Payload(#[from] SegmentError),
    /// The operations contradict the segment's own fields.
    #[error("a segment's operations do not match its checksum or op ids")]
    Content,
}

/// The fields of a line.
pub(super) struct LineParams<'a> {
    pub(super) bucket: &'a str,
    /// The client's position.
    pub(super) after: OpId,
    /// Set if the client's rows are void: the checksum of everything that the line leaves out.
    pub(super) clear: Option<Checksum>,
    /// Set if more lines of the bucket follow.
    pub(super) has_more: bool,
    pub(super) format: LineFormat,
}

/// The content of a line that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) operations: u64,
    /// Operations that are PUTs.
    pub(super) rows: u64,
}

impl Written {
    fn count(&mut self, operation: &Operation<'_>) {
        self.operations += 1;
        self.rows += u64::from(matches!(operation.body, Body::Put { .. }));
    }
}

/// Returns how many of the segments go into one line: whole ones only, and at least one.
pub(super) fn count_that_fits(segments: &[Segment]) -> usize {
    let mut ops = 0;
    let mut bytes = 0;
    for (index, segment) in segments.iter().enumerate() {
        ops += segment.count;
        bytes += segment.payload.len();
        if ops > LINE_OPS_MAX || bytes > LINE_BYTES_MAX {
            return index.max(1);
        }
    }
    segments.len()
}

/// Appends one line with all operations of the segments, and checks them against the segments' own
/// fields.
pub(super) fn write_segments(
    out: &mut Vec<u8>,
    line: &LineParams<'_>,
    segments: &[Segment],
) -> Result<Written, DamagedSegment> {
    // An estimate of the line's size: the payload with escaped quotes, and 128 bytes of fields for
    // each operation.
    let payload: usize = segments.iter().map(|segment| segment.payload.len()).sum();
    let count: u64 = segments.iter().map(|segment| segment.count).sum();
    out.reserve(payload + payload / 4 + usize::try_from(count).unwrap_or(0) * 128 + 256);

    let mut writer = DataLineWriter::begin(out, line.bucket, line.after, line.format);
    let mut last = line.after;
    if let Some(checksum) = line.clear {
        writer.push(&Operation { op_id: CLEAR_OP_ID, checksum, body: Body::Clear });
        last = CLEAR_OP_ID;
    }

    let mut written = Written::default();
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
            written.count(&operation);
        }
        if sum != segment.sum || last != segment.last {
            return Err(DamagedSegment::Content);
        }
    }
    writer.finish(last, line.has_more);
    Ok(written)
}

/// Appends one line with rows of a base, as stored in a frame.
///
/// The line ends with a MOVE whose op id is the marker. A client remembers the last op id of a line
/// as its position, and a row's op id would not say how many rows of the base it has.
pub(super) fn write_base_rows(
    out: &mut Vec<u8>,
    line: &LineParams<'_>,
    rows: &[u8],
    marker: OpId,
) -> Result<Written, DamagedSegment> {
    out.reserve(rows.len() * 2 + 256);
    let mut writer = DataLineWriter::begin(out, line.bucket, line.after, line.format);
    if let Some(checksum) = line.clear {
        writer.push(&Operation { op_id: CLEAR_OP_ID, checksum, body: Body::Clear });
    }

    let mut written = Written::default();
    for operation in SegmentReader::new(rows) {
        let operation = operation?;
        writer.push(&operation);
        written.count(&operation);
    }
    writer.push(&Operation { op_id: marker, checksum: Checksum::ZERO, body: Body::Move });
    writer.finish(marker, line.has_more);
    Ok(written)
}

/// Returns whether all operations of the segment come after a position. Otherwise the position is in
/// the segment's middle.
pub(super) fn begins_after(segment: &Segment, after: OpId) -> bool {
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
    fn small_segments_share_a_line_and_a_large_one_has_its_own() {
        check(&[], 0);
        check(&[(1, 10)], 1);
        check(&[(4_000, 10), (4_000, 10), (4_000, 10)], 2);
        check(&[(10_000, 10), (1, 10)], 1);
        check(&[(20_000, 10), (1, 10)], 1);
        check(&[(1, 3 << 20), (1, 1 << 20), (1, 1)], 2);
        check(&[(1, 5 << 20), (1, 1)], 1);
    }

    /// Returns a segment of three rows, as the worker writes it.
    fn valid_segment() -> Segment {
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

    /// Returns whether a line with the segment can be written.
    fn is_sent(segment: Segment) -> bool {
        let line = LineParams {
            bucket: "b[]",
            after: OpId::ZERO,
            clear: None,
            has_more: false,
            format: LineFormat::Json,
        };
        write_segments(&mut Vec::new(), &line, &[segment]).is_ok()
    }

    #[test]
    fn a_segment_that_contradicts_its_fields_is_refused() {
        assert!(is_sent(valid_segment()));
        assert!(!is_sent(Segment { sum: Checksum(1), ..valid_segment() }));
        assert!(!is_sent(Segment { last: OpId::ZERO, ..valid_segment() }));

        let payload = valid_segment().payload;
        assert!(!is_sent(Segment {
            payload: payload.slice(..payload.len() - 1),
            ..valid_segment()
        }));
        assert!(!is_sent(Segment { payload: payload.slice(..0), ..valid_segment() }));

        let mut changed = payload.to_vec();
        changed[2] ^= 1; // Within the first checksum.
        assert!(!is_sent(Segment { payload: changed.into(), ..valid_segment() }));
    }

    #[test]
    fn the_op_id_of_a_clear_belongs_to_no_epoch() {
        assert_eq!(CLEAR_OP_ID.epoch(), Some(Epoch::ZERO));
        assert_eq!(CLEAR_OP_ID.get(), 1);
    }
}
