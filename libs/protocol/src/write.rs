//! Writing lines of the sync stream, as JSON or as BSON.

use serde::Serialize;

use crate::bson::{BsonWriter, OpenDocument};
use crate::line::{DataLine, SyncLine};
use crate::op_id::OpId;
use crate::operation::{Body, Operation, RowKey};

/// The form of the lines of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// JSON, each line followed by a newline. The values of a row are a JSON string (`raw_data`),
    /// which all current clients request.
    Json,
    /// JSON in which the values of a row are a nested object, for old clients.
    NestedJson,
    /// BSON documents, one after another. The values of a row are a JSON string.
    Bson,
}

/// Appends a line to `out`. Nothing is written for [`SyncLine::Unknown`].
///
/// # Panics
/// Never panics: writes to a `Vec` succeed, all keys are strings, and a line has less than 2 GiB.
pub fn write_line(out: &mut Vec<u8>, line: &SyncLine<'_>, format: LineFormat) {
    match line {
        SyncLine::Checkpoint(checkpoint) => write_one(out, format, "checkpoint", checkpoint),
        SyncLine::CheckpointDiff(diff) => write_one(out, format, "checkpoint_diff", diff),

        SyncLine::Data(DataLine { bucket, operations }) => {
            let after = operations.first().map_or(OpId::ZERO, |first| first.op_id);
            let next = operations.last().map_or(after, |last| last.op_id);
            let mut writer = DataLineWriter::begin(out, bucket, after, format);
            operations.iter().for_each(|operation| writer.push(operation));
            writer.finish(next, false);
        }

        SyncLine::Snapshot(snapshot) => write_one(out, format, "snapshot", snapshot),
        SyncLine::CheckpointComplete(done) => write_one(out, format, "checkpoint_complete", done),
        SyncLine::PartialCheckpointComplete(done) => {
            write_one(out, format, "partial_checkpoint_complete", done);
        }
        SyncLine::TokenExpiresIn(seconds) => write_one(out, format, "token_expires_in", seconds),
        SyncLine::Unknown => {}
    }
}

/// Writes a line with one member.
fn write_one(out: &mut Vec<u8>, format: LineFormat, key: &str, value: &impl Serialize) {
    match format {
        LineFormat::Json | LineFormat::NestedJson => {
            out.extend_from_slice(b"{\"");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            write_json(out, value);
            out.extend_from_slice(b"}\n");
        }
        // By way of JSON, so that both forms have the same members with the same values.
        LineFormat::Bson => {
            let value = serde_json::to_value(value).expect("all keys are strings");
            let mut writer = BsonWriter::new(out);
            let line = writer.begin();
            writer.value(key, &value);
            writer.end(line);
        }
    }
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
    operations: usize,
    open: OpenLine,
}

/// The parts of a line that its end must close.
#[derive(Clone, Copy, Debug)]
enum OpenLine {
    Json { nested: bool },
    Bson { line: OpenDocument, content: OpenDocument, operations: OpenDocument },
}

impl<'a> DataLineWriter<'a> {
    /// Begins a line. `after` is the client's position before it; clients ignore it, and it helps
    /// people who read the stream.
    pub fn begin(out: &'a mut Vec<u8>, bucket: &str, after: OpId, format: LineFormat) -> Self {
        let open = match format {
            LineFormat::Json | LineFormat::NestedJson => {
                out.extend_from_slice(b"{\"data\":{\"bucket\":");
                write_json(out, bucket);
                out.extend_from_slice(b",\"after\":");
                write_json(out, &after);
                out.extend_from_slice(b",\"data\":[");
                OpenLine::Json { nested: format == LineFormat::NestedJson }
            }
            LineFormat::Bson => {
                let mut writer = BsonWriter::new(out);
                let line = writer.begin();
                let content = writer.begin_document("data");
                writer.string("bucket", bucket);
                write_op_id(&mut writer, "after", after);
                let operations = writer.begin_array("data");
                OpenLine::Bson { line, content, operations }
            }
        };
        Self { out, operations: 0, open }
    }

    /// Appends an operation. The caller pushes operations in ascending order of their ids.
    pub fn push(&mut self, operation: &Operation<'_>) {
        let (name, row, data) = match &operation.body {
            Body::Put { row, data } => ("PUT", Some(row), Some(&**data)),
            Body::Remove { row } => ("REMOVE", Some(row), None),
            Body::Move => ("MOVE", None, None),
            Body::Clear => ("CLEAR", None, None),
        };
        let parts = Parts { operation, name, row, data };
        match self.open {
            OpenLine::Json { nested } => self.push_json(&parts, nested),
            OpenLine::Bson { .. } => self.push_bson(&parts),
        }
        self.operations += 1;
    }

    fn push_json(&mut self, parts: &Parts<'_>, nested: bool) {
        if self.operations > 0 {
            self.out.push(b',');
        }
        self.out.extend_from_slice(b"{\"op_id\":");
        write_json(self.out, &parts.operation.op_id);
        self.member("op", parts.name);

        if let Some(row) = parts.row {
            self.member("object_type", &row.object_type);
            self.member("object_id", &row.object_id);
        }

        self.out.extend_from_slice(b",\"checksum\":");
        write_json(self.out, &parts.operation.checksum);
        if let Some(row) = parts.row {
            self.member("subkey", &row.subkey);
        }

        match parts.data {
            Some(data) if nested => {
                self.out.extend_from_slice(b",\"data\":");
                self.out.extend_from_slice(data.as_bytes());
            }
            Some(data) => self.member("data", data),
            None => self.out.extend_from_slice(b",\"data\":null"),
        }
        self.out.push(b'}');
    }

    fn push_bson(&mut self, parts: &Parts<'_>) {
        let mut writer = BsonWriter::new(self.out);
        let item = writer.begin_item(self.operations);
        write_op_id(&mut writer, "op_id", parts.operation.op_id);
        writer.string("op", parts.name);

        if let Some(row) = parts.row {
            writer.string("object_type", &row.object_type);
            writer.string("object_id", &row.object_id);
        }

        writer.integer("checksum", parts.operation.checksum.0.into());
        if let Some(row) = parts.row {
            writer.string("subkey", &row.subkey);
        }

        match parts.data {
            Some(data) => writer.string("data", data),
            None => writer.null("data"),
        }
        writer.end(item);
    }

    /// Ends the line. `next_after` is the client's position after it, and `has_more` tells whether
    /// more of the bucket follows. Clients ignore both.
    ///
    /// # Panics
    /// If a line of BSON has 2 GiB or more. Callers limit the size of a line.
    pub fn finish(self, next_after: OpId, has_more: bool) {
        match self.open {
            OpenLine::Json { .. } => {
                self.out.extend_from_slice(b"],\"next_after\":");
                write_json(self.out, &next_after);
                self.out.extend_from_slice(b",\"has_more\":");
                write_json(self.out, &has_more);
                self.out.extend_from_slice(b"}}\n");
            }
            OpenLine::Bson { line, content, operations } => {
                let mut writer = BsonWriter::new(self.out);
                writer.end(operations);
                write_op_id(&mut writer, "next_after", next_after);
                writer.boolean("has_more", has_more);
                writer.end(content);
                writer.end(line);
            }
        }
    }

    fn member(&mut self, key: &str, text: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        write_json(self.out, text);
    }
}

/// An operation, taken apart.
struct Parts<'a> {
    operation: &'a Operation<'a>,
    name: &'static str,
    row: Option<&'a RowKey<'a>>,
    data: Option<&'a str>,
}

/// Op ids are decimal strings in BSON, too.
fn write_op_id(writer: &mut BsonWriter<'_>, name: &str, id: OpId) {
    writer.string(name, itoa::Buffer::new().format(id.get()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Checksum;
    use crate::operation::RowKey;

    fn id(id: i64) -> OpId {
        OpId::from_i64(id).unwrap()
    }

    fn line(format: LineFormat) -> Vec<u8> {
        let mut out = Vec::new();
        let row = RowKey::new("todos", "t\"1", "k");
        let body = Body::Put { row: row.clone(), data: r#"{"id":"t\"1","n":1.0}"#.into() };
        let mut writer = DataLineWriter::begin(&mut out, "b[]", id(4), format);
        writer.push(&Operation { op_id: id(5), checksum: Checksum(9), body });
        let body = Body::Remove { row };
        writer.push(&Operation { op_id: id(6), checksum: Checksum(8), body });
        writer.push(&Operation { op_id: id(7), checksum: Checksum(7), body: Body::Clear });
        writer.finish(id(7), true);
        out
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
        assert_eq!(String::from_utf8(line(LineFormat::Json)).unwrap(), expected);
    }

    #[test]
    fn rows_are_written_as_nested_objects_for_old_clients() {
        let line = String::from_utf8(line(LineFormat::NestedJson)).unwrap();
        assert!(line.contains(r#""subkey":"k","data":{"id":"t\"1","n":1.0}}"#));
    }
}
