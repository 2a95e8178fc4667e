//! Lines that are ready to be sent.

use bytes::Bytes;
use metrics::counter;
use tidewater_protocol::{LineFormat, SyncLine, write_line};

use super::data_line::{DamagedSegment, Written};
use crate::metrics::{SENT_BYTES, SENT_LINES, SENT_OPERATIONS};
use crate::stream_log::StreamTally;

/// Lines that wait to be pulled as one chunk. It holds whole lines only.
pub(super) struct ChunkBuffer {
    format: LineFormat,
    bytes: Vec<u8>,
    lines: u64,
    operations: u64,
    rows: u64,
}

impl ChunkBuffer {
    pub(super) fn new(format: LineFormat) -> Self {
        Self { format, bytes: Vec::new(), lines: 0, operations: 0, rows: 0 }
    }

    /// Appends a line.
    pub(super) fn push(&mut self, line: &SyncLine<'_>) {
        write_line(&mut self.bytes, line, self.format);
        self.lines += 1;
        if let SyncLine::Snapshot(snapshot) = line {
            self.rows += snapshot.rows;
        }
    }

    /// Appends a data line by `write`, which returns what it has written. If it fails, the
    /// buffer stays as it was: a part of a line must not reach the client.
    pub(super) fn write_data(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<Written, DamagedSegment>,
    ) -> Result<(), DamagedSegment> {
        let length_before = self.bytes.len();

        match write(&mut self.bytes) {
            Ok(Written { operations, rows }) => {
                self.lines += 1;
                self.operations += operations;
                self.rows += rows;
                Ok(())
            }
            Err(damaged) => {
                self.bytes.truncate(length_before);
                Err(damaged)
            }
        }
    }

    /// Returns the number of bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes all lines as one chunk, and counts them as sent. The buffer keeps no memory, because
    /// most streams are idle most of the time.
    pub(super) fn take(&mut self, tally: &StreamTally) -> Bytes {
        let taken = std::mem::replace(self, Self::new(self.format));
        counter!(SENT_LINES).increment(taken.lines);
        counter!(SENT_OPERATIONS).increment(taken.operations);
        counter!(SENT_BYTES).increment(taken.bytes.len() as u64);
        tally.add_operations(taken.operations, taken.rows);
        taken.bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_line_that_fails_leaves_no_bytes() {
        let mut buffer = ChunkBuffer::new(LineFormat::Json);
        buffer.push(&SyncLine::TokenExpiresIn(5));
        let failed = buffer.write_data(|out| {
            out.extend_from_slice(b"{\"data\":");
            Err(DamagedSegment::Content)
        });
        assert!(failed.is_err());
        assert_eq!(&buffer.take(&StreamTally::default())[..], b"{\"token_expires_in\":5}\n");
        assert!(buffer.is_empty());
    }
}
