//! Writing lines of the sync stream as JSON.

use serde::Serialize;

use crate::line::{DataLine, SyncLine};
use crate::op_id::OpId;
use crate::operation::{Body, Operation};

/// The form in which the values of a row are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowData {
    /// JSON string (`raw_data`). All current clients request it.
    Text,
    /// Nested object, for old clients.
    Nested,
}

/// Appends a line and its newline to `out`. Rows are written as [`RowData::Text`]. Nothing is
/// written for [`SyncLine::Unknown`].
///
/// # Panics
/// Never panics: writes to a `Vec` succeed, and all keys are strings.
pub fn write_line(out: &mut Vec<u8>, line: &SyncLine<'_>) {
    match line {
        SyncLine::Checkpoint(checkpoint) => write_one(out, "checkpoint", checkpoint),
        SyncLine::CheckpointDiff(diff) => write_one(out, "checkpoint_diff", diff),

        SyncLine::Data(DataLine { bucket, operations }) => {
            let after = operations.first().map_or(OpId::ZERO, |first| first.op_id);
            let next = operations.last().map_or(after, |last| last.op_id);
            let mut writer = DataLineWriter::begin(out, bucket, after, RowData::Text);
            operations.iter().for_each(|operation| writer.push(operation));
            writer.finish(next, false);
        }

        SyncLine::Snapshot(snapshot) => write_one(out, "snapshot", snapshot),
        SyncLine::CheckpointComplete(done) => write_one(out, "checkpoint_complete", done),
        SyncLine::PartialCheckpointComplete(done) => {
            write_one(out, "partial_checkpoint_complete", done);
        }
        SyncLine::TokenExpiresIn(seconds) => write_one(out, "token_expires_in", seconds),
        SyncLine::Unknown => {}
    }
}

/// Writes a line with one member.
fn write_one(out: &mut Vec<u8>, key: &str, value: &impl Serialize) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
    write_json(out, value);
    out.extend_from_slice(b"}\n");
}

fn write_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("writes to a Vec succeed, and all keys are strings");
}

/// A writer of one `data` line, operation by operation, into the caller's buffer.
///
/// A line that was begun must be finished: without [`DataLineWriter::finish`] the buffer holds a
/// part of a line.
#[derive(Debug)]
pub struct DataLineWriter<'a> {
    out: &'a mut Vec<u8>,
    row_data: RowData,
    is_empty: bool,
}

impl<'a> DataLineWriter<'a> {
    /// Begins a line. `after` is the client's position before it; clients ignore it, and it helps
    /// people who read the stream.
    pub fn begin(out: &'a mut Vec<u8>, bucket: &str, after: OpId, row_data: RowData) -> Self {
        out.extend_from_slice(b"{\"data\":{\"bucket\":");
        write_json(out, bucket);
        out.extend_from_slice(b",\"after\":");
        write_json(out, &after);
        out.extend_from_slice(b",\"data\":[");
        Self { out, row_data, is_empty: true }
    }

    /// Appends an operation. The caller pushes operations in ascending order of their ids.
    pub fn push(&mut self, operation: &Operation<'_>) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }

        self.out.extend_from_slice(b"{\"op_id\":");
        write_json(self.out, &operation.op_id);

        let (name, row, data) = match &operation.body {
            Body::Put { row, data } => ("PUT", Some(row), Some(data)),
            Body::Remove { row } => ("REMOVE", Some(row), None),
            Body::Move => ("MOVE", None, None),
            Body::Clear => ("CLEAR", None, None),
        };
        self.member("op", name);

        if let Some(row) = row {
            self.member("object_type", &row.object_type);
            self.member("object_id", &row.object_id);
        }

        self.out.extend_from_slice(b",\"checksum\":");
        write_json(self.out, &operation.checksum);
        if let Some(row) = row {
            self.member("subkey", &row.subkey);
        }

        match (data, self.row_data) {
            (Some(data), RowData::Text) => self.member("data", data),
            (Some(data), RowData::Nested) => {
                self.out.extend_from_slice(b",\"data\":");
                self.out.extend_from_slice(data.as_bytes());
            }
            (None, _) => self.out.extend_from_slice(b",\"data\":null"),
        }
        self.out.push(b'}');
    }

    /// Ends the line. `next_after` is the client's position after it, and `has_more` tells whether
    /// more of the bucket follows. Clients ignore both.
    pub fn finish(self, next_after: OpId, has_more: bool) {
        self.out.extend_from_slice(b"],\"next_after\":");
        write_json(self.out, &next_after);
        self.out.extend_from_slice(b",\"has_more\":");
        write_json(self.out, &has_more);
        self.out.extend_from_slice(b"}}\n");
    }

    fn member(&mut self, key: &str, text: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        write_json(self.out, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Checksum;
    use crate::operation::RowKey;

    fn id(id: i64) -> OpId {
        OpId::from_i64(id).unwrap()
    }

    fn line(row_data: RowData) -> String {
        let mut out = Vec::new();
        let row = RowKey::new("todos", "t\"1", "k");
        let body = Body::Put { row: row.clone(), data: r#"{"id":"t\"1","n":1.0}"#.into() };
        let mut writer = DataLineWriter::begin(&mut out, "b[]", id(4), row_data);
        writer.push(&Operation { op_id: id(5), checksum: Checksum(9), body });
        let body = Body::Remove { row };
        writer.push(&Operation { op_id: id(6), checksum: Checksum(8), body });
        writer.push(&Operation { op_id: id(7), checksum: Checksum(7), body: Body::Clear });
        writer.finish(id(7), true);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_are_written_as_json_strings() {
        let expected = concat!(
            r#"{"data":{"bucket":"b[]","after":"4","data":["#,
            r#"{"op_id":"5","op":"PUT","object_type":"todos","object_id":"t\"1","checksum":9,"#,
            r#""subkey":"k","data":"{\"id\":\"t\\\"1\",\"n\":1.0}"},"#,
            r#"{"op_id":"6","op":"REMOVE","object_type":"todos","object_id":"t\"1","checksum":8,"#,
            r#""subkey":"k","data":null},"#,
            r#"{"op_id":"7","op":"CLEAR","checksum":7,"data":null}"#,
            "],\"next_after\":\"7\",\"has_more\":true}}\n"
        );
        assert_eq!(line(RowData::Text), expected);
    }

    #[test]
    fn rows_are_written_as_nested_objects_for_old_clients() {
        assert!(line(RowData::Nested).contains(r#""subkey":"k","data":{"id":"t\"1","n":1.0}}"#));
    }
}
