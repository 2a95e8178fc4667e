use proptest::collection::vec;
use proptest::prelude::*;
use tidewater_protocol::Epoch;

use super::*;
use crate::Tag;

type Row = (String, String, String);

#[derive(Clone, Debug)]
enum Entry {
    Put(Row, String),
    Remove(Row),
    Move,
    Clear,
}

fn row() -> impl Strategy<Value = Row> {
    (prop_oneof!["", "todos", "lists", "\\PC{0,4}"], "\\PC{0,20}", "\\PC{0,4}")
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        5 => (row(), "\\PC{0,300}").prop_map(|(row, data)| Entry::Put(row, data)),
        3 => row().prop_map(Entry::Remove),
        1 => Just(Entry::Move),
        1 => Just(Entry::Clear),
    ]
}

fn key(row: &Row) -> RowKey<'_> {
    RowKey::new(&row.0, &row.1, &row.2)
}

fn body(entry: &Entry) -> Body<'_> {
    match entry {
        Entry::Put(row, data) => Body::Put { row: key(row), data: data.into() },
        Entry::Remove(row) => Body::Remove { row: key(row) },
        Entry::Move => Body::Move,
        Entry::Clear => Body::Clear,
    }
}

/// Returns operations with these distances between their op ids.
fn operations(entries: &[(u64, u32, Entry)]) -> Vec<Operation<'_>> {
    let mut last = OpId::new(Epoch::ZERO.next().unwrap(), 0).get();
    let mut operations = Vec::new();
    for (distance, checksum, entry) in entries {
        last += distance.cast_signed();
        operations.push(Operation {
            op_id: OpId::from_i64(last).unwrap(),
            checksum: Checksum(*checksum),
            body: body(entry),
        });
    }
    operations
}

fn written(operations: &[Operation<'_>]) -> Segment {
    let mut writer = SegmentWriter::default();
    for operation in operations {
        writer.push(operation);
    }
    writer.finish(BucketKey::new(&Tag::from_bits(1), "[]"), OpId::ZERO, Checksum(3))
}

proptest! {
    #[test]
    fn operations_are_read_back(
        entries in vec((1_u64..1 << 45, any::<u32>(), entry()), 1..40),
    ) {
        let operations = operations(&entries);
        let segment = written(&operations);
        let read: Result<Vec<_>, _> = SegmentReader::new(&segment.payload).collect();
        prop_assert_eq!(read.as_ref(), Ok(&operations));
        prop_assert_eq!(segment.last, operations.last().unwrap().op_id);
        prop_assert_eq!(segment.count, operations.len() as u64);
        let mut sum = Checksum(0);
        for operation in &operations {
            sum += operation.checksum;
        }
        prop_assert_eq!(segment.sum, sum);
    }

    #[test]
    fn a_cut_payload_is_an_error_or_ends_between_operations(
        entries in vec((1_u64..1 << 45, any::<u32>(), entry()), 1..10),
        cut in any::<prop::sample::Index>(),
    ) {
        let operations = operations(&entries);
        let payload = written(&operations).payload;
        let read: Vec<_> = SegmentReader::new(&payload[..cut.index(payload.len())]).collect();
        prop_assert!(read.len() <= operations.len());
        for (read, written) in read.iter().zip(&operations) {
            prop_assert!(read.is_err() || read.as_ref() == Ok(written));
        }
    }

    #[test]
    fn damage_is_an_error_or_another_operation_and_no_panic(
        entries in vec((1_u64..1 << 45, any::<u32>(), entry()), 1..10),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut payload = written(&operations(&entries)).payload.to_vec();
        let at = at.index(payload.len());
        payload[at] = byte;
        let read: Vec<_> = SegmentReader::new(&payload).collect();
        // An error ends it.
        let errors = read.iter().filter(|read| read.is_err()).count();
        prop_assert!(errors == 0 || errors == 1 && read.last().unwrap().is_err());
    }

    #[test]
    fn any_bytes_can_be_looked_at(payload in vec(any::<u8>(), 0..200)) {
        prop_assert!(SegmentReader::new(&payload).count() <= payload.len());
    }
}

#[test]
fn a_payload_that_cannot_be_decoded_is_an_error() {
    let put =
        |distance: &[u8], kind: u8, rest: &[u8]| [distance, &[kind, 0, 0, 0, 0], rest].concat();
    let long = [0xFF; 11];

    for (what, payload) in [
        ("an unknown kind", put(&[1], 9, &[])),
        ("a number that does not end", put(&long, MOVE, &[])),
        (
            "an op id above 2^63",
            put(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1], MOVE, &[]),
        ),
        ("an op id like the one before", [put(&[5], MOVE, &[]), put(&[0], MOVE, &[])].concat()),
        ("a text beyond the end", put(&[1], REMOVE, &[200, 1, b'a'])),
        ("a text that is not UTF-8", put(&[1], REMOVE, &[1, 0xC3].repeat(3))),
    ] {
        let read: Vec<_> = SegmentReader::new(&payload).collect();
        assert!(read.last().unwrap().is_err(), "{what}");
    }
}

#[test]
fn successive_rows_of_one_type_store_it_once() {
    let operations = [1, 2].map(|sequence| Operation {
        op_id: OpId::new(Epoch::ZERO.next().unwrap(), sequence),
        checksum: Checksum(0),
        body: Body::Remove { row: RowKey::new("a_long_table_name", "id", "") },
    });
    let one = written(&operations[..1]).payload.len();
    let two = written(&operations).payload.len();
    assert_eq!(two, one + 1 + 1 + 4 + 3 + 1);
}
