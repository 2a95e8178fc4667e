//! The exact stored form of everything that is encoded in this crate, as `LAYOUT.md` specifies it.
//! A store that an older version wrote must stay readable: a difference here is a new layout.

use bytes::Bytes;
use expect_test::{Expect, expect};
use tidewater_protocol::{Body, Checksum, Epoch, OpId, Operation, RowKey, SnapshotFrame};

use crate::{
    Base, BaseManifest, BucketHead, BucketKey, Catalog, Generation, GenerationId, LookupKey,
    Numbering, RetiredBase, RowsFrame, SegmentWriter, Tag, Ticket, TimedOp, TypedFile, Version,
    VersionedRecord, WriteRequest, WriteRequests, answer_name,
};

fn op(epoch: u32, sequence: u64) -> OpId {
    OpId::new(Epoch::new(epoch).unwrap(), sequence)
}

fn check(stored: &str, expected: &Expect) {
    expected.assert_eq(stored);
}

fn check_bytes(stored: &[u8], expected: &Expect) {
    let lines: Vec<String> = stored
        .chunks(16)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "))
        .collect();
    expected.assert_eq(&lines.join("\n"));
}

fn base() -> Base {
    Base {
        to: op(1, 9),
        checksum: Checksum(7),
        remainder: Checksum(2),
        rows: 10,
        count: 20,
        name: "snapshots/x/1".into(),
        marker: 77,
        files: 1,
        frames: 2,
    }
}

#[test]
fn a_versioned_record_keeps_its_bytes() {
    let versions = vec![
        Version { op: op(2, 3), value: None },
        Version { op: op(1, 2), value: Some(Bytes::from_static(b"value")) },
    ];
    let record = VersionedRecord { floor: op(1, 1), versions };
    check_bytes(
        &record.encode(),
        &expect![[r#"
        01 00 00 00 00 01 00 00 03 00 00 00 00 02 00 00
        ff ff ff ff 02 00 00 00 00 01 00 00 05 00 00 00
        76 61 6c 75 65"#]],
    );
}

#[test]
fn a_bucket_head_keeps_its_bytes() {
    let head = BucketHead { last: op(1, 2), sum: Checksum(0x0403_0201), count: 5 };
    check_bytes(
        &head.encode(),
        &expect![[r#"
        02 00 00 00 00 01 00 00 01 02 03 04 05 00 00 00
        00 00 00 00"#]],
    );
}

#[test]
fn a_segment_keeps_its_bytes() {
    let mut writer = SegmentWriter::default();
    let row = RowKey::new("todos", "t1", "s");
    let bodies = [
        Body::Put { row: row.clone(), data: "{}".into() },
        Body::Remove { row },
        Body::Put { row: RowKey::new("lists", "", ""), data: "".into() },
        Body::Move,
        Body::Clear,
    ];

    for (sequence, body) in (1..).zip(bodies) {
        let checksum = Checksum(0x0403_0200 + u32::try_from(sequence).unwrap());
        writer.push(&Operation { op_id: op(1, sequence * 100), checksum, body });
    }

    check_bytes(
        &writer.into_payload(),
        &expect![[r#"
        e4 80 80 80 80 20 01 01 02 03 04 05 74 6f 64 6f
        73 02 74 31 01 73 02 7b 7d 64 82 02 02 03 04 02
        74 31 01 73 64 01 03 02 03 04 05 6c 69 73 74 73
        00 00 00 64 03 04 02 03 04 64 04 05 02 03 04"#]],
    );
}

#[test]
fn a_generation_keeps_its_fields() {
    let generation = Generation {
        id: GenerationId(Epoch::new(3).unwrap()),
        identity: "hash".into(),
        sync_config: "streams: {}".into(),
        definitions: vec![Tag::from_bits(1)],
        lookups: vec![Tag::from_bits(2)],
        rows_of: Some(GenerationId(Epoch::new(2).unwrap())),
        definition_numbers: Numbering::assign(vec![None], 1).unwrap(),
        lookup_numbers: Numbering::first(1).unwrap(),
        retired_at: Some(1_800_000_000),
    };

    check(
        &serde_json::to_string_pretty(&generation).unwrap(),
        &expect![[r#"
        {
          "id": 3,
          "identity": "hash",
          "sync_config": "streams: {}",
          "definitions": [
            "baaaaa"
          ],
          "lookups": [
            "caaaaa"
          ],
          "rows_of": 2,
          "definition_numbers": {
            "numbers": [
              1
            ],
            "next": 2
          },
          "lookup_numbers": {
            "numbers": [
              0
            ],
            "next": 1
          },
          "retired_at": 1800000000
        }"#]],
    );
}

#[test]
fn write_requests_keep_their_fields() {
    let entries = vec![WriteRequest { number: 4, ticket: Ticket(9) }];
    let requests = WriteRequests { revision: 2, entries };

    check(
        &serde_json::to_string_pretty(&requests).unwrap(),
        &expect![[r#"
        {
          "revision": 2,
          "entries": [
            {
              "number": 4,
              "ticket": 9
            }
          ]
        }"#]],
    );
}

#[test]
fn a_catalog_keeps_its_fields() {
    let catalog = Catalog {
        floor: op(1, 3),
        base: Some(base()),
        retired: vec![RetiredBase { base: base(), delete_at: 1_800_000_001 }],
        published: vec![TimedOp { op: op(1, 4), time: 1_800_000_002 }],
        covered: vec![TimedOp { op: op(1, 5), time: 1_800_000_003 }],
    };

    check(
        std::str::from_utf8(&catalog.encode()).unwrap(),
        &expect![[
            r#"{"floor":"1099511627779","base":{"to":"1099511627785","checksum":7,"remainder":2,"rows":10,"count":20,"name":"snapshots/x/1","marker":77,"files":1,"frames":2},"retired":[{"to":"1099511627785","checksum":7,"remainder":2,"rows":10,"count":20,"name":"snapshots/x/1","marker":77,"files":1,"frames":2,"delete_at":1800000001}],"marks":[{"op":"1099511627780","time":1800000002}],"covered":[{"op":"1099511627781","time":1800000003}]}"#
        ]],
    );
    check(
        std::str::from_utf8(&Catalog::default().encode()).unwrap(),
        &expect![[r#"{"floor":"0"}"#]],
    );
}

#[test]
fn a_base_manifest_keeps_its_fields() {
    let frames = vec![SnapshotFrame { bytes: 5, raw_bytes: 6, sha256: "ab".into() }];
    let manifest = BaseManifest {
        rows: vec![RowsFrame { bytes: 1, raw_bytes: 2, rows: 3, sum: Checksum(4) }],
        files: vec![TypedFile { bytes: 5, raw_bytes: 6, rows: 3, frames }],
    };
    check(
        std::str::from_utf8(&manifest.encode()).unwrap(),
        &expect![[
            r#"{"rows":[{"bytes":1,"raw_bytes":2,"rows":3,"sum":4}],"files":[{"bytes":5,"raw_bytes":6,"rows":3,"frames":[{"bytes":5,"raw_bytes":6,"sha256":"ab"}]}]}"#
        ]],
    );
}

#[test]
fn names_keep_their_text() {
    let tag = Tag::from_bits(0x1234_5678);
    let names = [
        BucketKey::new(&tag, "[\"u1\",7]").to_string(),
        LookupKey::new(&tag, "[\"u1\"]").as_str().to_owned(),
        answer_name(3, "[1]", 0xABCD).to_string(),
        base().manifest(),
        base().rows_object(),
        base().file(0),
    ];

    check(
        &names.join("\n"),
        &expect![[r#"
        2vxidj["u1",7]
        2vxidj["u1"]
        3.[1].abcd
        snapshots/x/1/manifest
        snapshots/x/1/rows
        snapshots/x/1/file-0"#]],
    );
}
