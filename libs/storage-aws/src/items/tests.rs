use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn bucket() -> BucketKey {
    BucketKey::from_stored("haaaaa[1]")
}

prop_compose! {
    fn any_segment()(
        last in 1..=i64::MAX,
        prev in 0..=i64::MAX,
        sums in any::<(u32, u32)>(),
        count in any::<u64>(),
    ) -> Segment {
        Segment {
            bucket: bucket(),
            last: OpId::from_i64(last).unwrap(),
            prev: OpId::from_i64(prev).unwrap(),
            sum_before: Checksum(sums.0),
            sum: Checksum(sums.1),
            count,
            payload: Bytes::new(),
        }
    }
}

proptest! {
    #[test]
    fn a_segment_is_read_back(
        written in any_segment(),
        payload in prop_oneof![
            any::<Vec<u8>>().prop_map(|payload| PayloadLocation::Inline(payload.into())),
            ("[a-z/]{1,9}", any::<u32>())
                .prop_map(|(name, length)| PayloadLocation::Object(name, length as usize)),
        ],
    ) {
        let read = read_segment(&bucket(), segment(&written, &payload)).unwrap();
        prop_assert_eq!(read, StoredSegment { segment: written, payload });
    }

    #[test]
    fn a_json_record_of_any_length_is_read_back(text in "\\PC{0,200}", times in 0_usize..40) {
        let written = Value::from(text.repeat(times));
        let (name, value) = json_attribute(&written);
        let item = Item::from([(name.to_owned(), value)]);
        prop_assert_eq!(read_json::<Value>("record", &item).unwrap(), written);
    }

    #[test]
    fn a_compaction_task_is_read_back(
        params in prop_oneof!["\\PC{0,9}", "x{1000,1100}"],
        triggered_by in 0..=i64::MAX,
        not_before in any::<u64>(),
    ) {
        let task = CompactionTask {
            bucket: BucketKey::from_stored(&format!("haaaaa[{params}]")),
            triggered_by: OpId::from_i64(triggered_by).unwrap(),
            not_before,
        };
        prop_assert_eq!(read_compaction_task(&compaction_task(&task)).unwrap(), task);
    }

    #[test]
    fn a_catalog_is_read_back(catalog in any::<Vec<u8>>(), revision in 1..=u64::MAX) {
        let mut item = Item::from([
            (bucket::CATALOG.to_owned(), binary(catalog.clone())),
            (bucket::CATALOG_REVISION.to_owned(), number(revision)),
        ]);
        prop_assert_eq!(take_catalog(&mut item).unwrap(), (catalog.into(), revision));
    }

    #[test]
    fn the_full_text_of_a_listed_item_is_read_back(
        text in prop_oneof!["\\PC{0,9}", "[x\u{20ac}]{900,1100}"],
    ) {
        let bucket = BucketKey::from_stored(&format!("haaaaa[{text}]"));
        let full_text = keys::full_key_if_truncated(bucket.as_str());
        let item = listed(&ItemKey::registered(&bucket), full_text, []);
        prop_assert_eq!(read_listed("registry entry", &item).unwrap(), bucket.as_str());
    }

    #[test]
    fn a_closed_epoch_is_read_back(epoch in 0_u32..1 << 20, last_committed in 0..=i64::MAX) {
        let epoch = Epoch::new(epoch).unwrap();
        let closed = ClosedEpoch { epoch, last_committed: OpId::from_i64(last_committed).unwrap() };
        prop_assert_eq!(read_closed_epoch(&closed_epoch(&closed)).unwrap(), closed);
    }
}

#[test]
fn a_newest_op_without_a_record_is_damaged() {
    let mut item = Item::from([(versioned_record::NEWEST_OP.to_owned(), number(5))]);
    let damaged = take_versioned_record(Table::Lookups, &mut item).unwrap_err();
    assert!(matches!(damaged, StorageError::Damaged("lookup", _)));
}

#[test]
fn an_item_without_a_newest_op_has_no_versioned_record() {
    let mut item = Item::from([(bucket::CATALOG_REVISION.to_owned(), number(5))]);
    assert_eq!(take_versioned_record(Table::Buckets, &mut item).unwrap(), None);
}

#[test]
fn an_item_without_one_of_its_attributes_is_damaged() {
    let segment = Segment {
        bucket: bucket(),
        last: OpId::from_i64(9).unwrap(),
        prev: OpId::ZERO,
        sum_before: Checksum(1),
        sum: Checksum(2),
        count: 3,
        payload: Bytes::new(),
    };
    let whole = super::segment(&segment, &PayloadLocation::Inline(Bytes::from_static(b"x")));

    for name in
        [SORT, segment::PREV, segment::SUM_BEFORE, segment::SUM, segment::COUNT, segment::PAYLOAD]
    {
        let mut item = whole.clone();
        item.remove(name);
        let error = read_segment(&bucket(), item).unwrap_err();
        assert!(matches!(error, StorageError::Damaged("segment", _)), "without {name}");
    }

    let error = read_json::<Value>("record", &whole).unwrap_err();
    assert!(matches!(error, StorageError::Damaged("record", _)));
    assert!(matches!(
        read_compaction_task(&whole).unwrap_err(),
        StorageError::Damaged("work list entry", _)
    ));
}

#[test]
fn the_size_of_an_item_is_that_of_names_and_values() {
    let item = Item::from([
        ("p".to_owned(), AttributeValue::S("\u{e9}a".into())),
        ("bb".to_owned(), binary(vec![0; 10])),
        ("n".to_owned(), number(12_345)),
    ]);
    assert_eq!(size(&item), (1 + 3) + (2 + 10) + (1 + 4));
}

fn shown_value(value: &AttributeValue) -> String {
    if let Ok(text) = value.as_s() {
        return format!("S {text}");
    }
    if let Ok(number) = value.as_n() {
        return format!("N {number}");
    }
    format!("B {:02x?}", value.as_b().unwrap().as_ref())
}

/// Returns the attributes of an item as text, in the order of their names.
fn shown(item: &Item) -> String {
    let mut attributes: Vec<String> =
        item.iter().map(|(name, value)| format!("{name} {}", shown_value(value))).collect();
    attributes.sort();
    attributes.join(", ")
}

/// Returns an item with the attribute of a JSON record alone.
fn json_item(record: &impl Serialize) -> Item {
    let (name, value) = json_attribute(record);
    Item::from([(name.to_owned(), value)])
}

#[test]
fn items_have_the_attributes_that_the_layout_names() {
    let written = Segment {
        bucket: bucket(),
        last: OpId::from_i64(9).unwrap(),
        prev: OpId::from_i64(8).unwrap(),
        sum_before: Checksum(1),
        sum: Checksum(2),
        count: 3,
        payload: Bytes::new(),
    };
    let inline = PayloadLocation::Inline(Bytes::from_static(b"x"));
    let object = PayloadLocation::Object("segments/x".into(), 5);
    let epoch = Epoch::new(4).unwrap();
    let closed = ClosedEpoch { epoch, last_committed: OpId::from_i64(7).unwrap() };
    let task = CompactionTask::immediate(bucket(), OpId::from_i64(6).unwrap());

    for (item, expected) in [
        (segment(&written, &inline), "a N 8, b N 1, c N 3, d B [78], n N 2, p S haaaaa[1], s N 9"),
        (
            segment(&written, &object),
            "a N 8, b N 1, c N 3, l N 5, n N 2, o S segments/x, p S haaaaa[1], s N 9",
        ),
        (closed_epoch(&closed), "l N 7, p S closed-epochs, s N 4"),
        (json_item(&5), "v S 5"),
        (
            listed(&ItemKey::registered(&bucket()), Some("whole"), []),
            "k S whole, p S haaaaa/00, s S haaaaa[1]",
        ),
        (compaction_task(&task), "a N 6, n N 0, p N 0, s S haaaaa[1]"),
    ] {
        assert_eq!(shown(&item), expected);
    }

    let long = "x".repeat(1_000);
    assert!(shown(&json_item(&long)).starts_with("z B ["));
}
