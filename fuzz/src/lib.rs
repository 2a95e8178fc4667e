//! One function for each parser of foreign bytes. Each takes any input, never panics, and returns
//! whether the parser accepted it.

use std::io::Write;

use bytes::Bytes;
use tidewater_protocol::{Checksum, OpId, SyncLine};
use tidewater_snapshot::{ExpectedFile, Snapshot};
use tidewater_storage::{SegmentReader, VersionedRecord};
use tidewater_sync_config::SyncConfig;

/// A parser's name, which is that of its folder of seeds, and the function that runs it.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All targets.
pub const TARGETS: [Target; 8] = [
    ("copy_text", copy_text),
    ("pgoutput", pgoutput),
    ("segment", segment),
    ("snapshot_file", snapshot_file),
    ("sql", sql),
    ("sync_config", sync_config),
    ("sync_line", sync_line),
    ("versioned_record", versioned_record),
];

/// Reads a row in the text form of COPY.
pub fn copy_text(data: &[u8]) -> bool {
    tidewater_ingest_worker::fuzzing::read_copy_row(data)
}

/// Decodes a message of `pgoutput`, with all values of its rows.
pub fn pgoutput(data: &[u8]) -> bool {
    tidewater_ingest_worker::fuzzing::decode_pgoutput(data)
}

/// Reads all operations of a stored segment.
pub fn segment(data: &[u8]) -> bool {
    SegmentReader::new(data).all(|operation| operation.is_ok())
}

/// Decodes a stored record with versions. An accepted one must encode to the same bytes.
pub fn versioned_record(data: &[u8]) -> bool {
    let Ok(record) = VersionedRecord::decode(&Bytes::copy_from_slice(data)) else { return false };
    assert_eq!(record.encode(), data, "a record does not survive its encoding");
    true
}

/// Opens a downloaded snapshot file and reads all of its rows.
pub fn snapshot_file(data: &[u8]) -> bool {
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return false };
    if file.write_all(data).is_err() {
        return false;
    }

    let expected = ExpectedFile {
        bucket: "seed[]",
        to: OpId::from_i64(7).expect("7 is an op id"),
        checksum: Checksum(0),
        raw_bytes: data.len() as u64,
    };
    let Ok(snapshot) = Snapshot::open(file.path(), &expected) else { return false };
    snapshot.for_each_row(|_| Ok::<_, tidewater_snapshot::SnapshotError>(())).is_ok()
}

/// Parses a line of a sync stream.
pub fn sync_line(data: &[u8]) -> bool {
    SyncLine::parse(data).is_ok()
}

/// Compiles a sync config.
pub fn sync_config(data: &[u8]) -> bool {
    std::str::from_utf8(data).is_ok_and(|yaml| SyncConfig::compile(yaml).is_ok())
}

/// Compiles a sync config with one query.
pub fn sql(data: &[u8]) -> bool {
    let Ok(query) = std::str::from_utf8(data) else { return false };
    // A JSON text is also a quoted scalar of YAML.
    let query = serde_json::Value::from(query);
    let yaml = format!("config:\n  edition: 3\nstreams:\n  s:\n    query: {query}\n");
    SyncConfig::compile(&yaml).is_ok()
}
