use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::tables::KeyType;

fn bucket(params: &str) -> BucketKey {
    BucketKey::new(&Tag::from_bits(7), params)
}

/// Returns texts of lengths around all limits. Those of few different characters often share a prefix.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab\u{e9}\u{20ac}\u{10ffff}]{0,6}",
        "\\PC{0,40}",
        (0_usize..2_100, "[ab\u{e9}\u{20ac}\u{1f600}\u{10ffff}]{0,6}")
            .prop_map(|(length, end)| format!("{}{end}", "x".repeat(length))),
        (300_usize..320, "[ab\u{e9}\u{20ac}\u{1f600}\u{10ffff}]{0,40}")
            .prop_map(|(length, end)| format!("{}{end}", "\u{20ac}".repeat(length))),
        (930_usize..970, "[ab\u{e9}\u{20ac}\u{1f600}\u{10ffff}]{0,40}")
            .prop_map(|(length, end)| format!("{}{end}", "x".repeat(length))),
    ]
}

fn generation(number: u32) -> GenerationId {
    GenerationId(Epoch::new(number).unwrap())
}

fn record_key() -> impl Strategy<Value = RecordKey> {
    prop_oneof![
        text().prop_map(|params| RecordKey::Bucket(bucket(&params))),
        (0_u32..3, text(), text()).prop_map(|(tag, values, source)| {
            RecordKey::Lookup(LookupKey::new(&Tag::from_bits(tag), &values), source.into())
        }),
        (0_u32..3, any::<u16>(), text()).prop_map(|(n, table, row)| RecordKey::SourceRow(
            generation(n),
            table,
            row.into()
        )),
        (0_u32..99).prop_map(|n| RecordKey::Copy(generation(n))),
    ]
}

fn assert_within_limits(key: &ItemKey) {
    if let KeyPart::Text(text) = &key.partition {
        assert!((1..=PARTITION_BYTES_MAX).contains(&text.len()), "{text}");
    }
    if let Some(KeyPart::Text(text)) = &key.sort {
        assert!((1..=SORT_BYTES_MAX).contains(&text.len()), "{text}");
    }
    let schema = key.table.schema();
    assert_eq!(type_of(&key.partition), schema.partition);
    assert_eq!(key.sort.as_ref().map(type_of), schema.sort);
}

fn type_of(part: &KeyPart) -> KeyType {
    match part {
        KeyPart::Text(_) => KeyType::Text,
        KeyPart::Number(_) => KeyType::Number,
    }
}

/// The subject of an item. Each has an item of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Control,
    ClosedEpoch(Epoch),
    Generation(GenerationId),
    TicketCounter,
    WriteRequests(ClientKey),
    Segment(BucketKey, OpId),
    Record(RecordKey),
    Registered(BucketKey),
    Due(BucketKey),
}

impl Subject {
    fn key(&self) -> ItemKey {
        match self {
            Self::Control => ItemKey::control(),
            Self::ClosedEpoch(epoch) => ItemKey::closed_epoch(*epoch),
            Self::Generation(id) => ItemKey::generation(*id),
            Self::TicketCounter => ItemKey::ticket_counter(),
            Self::WriteRequests(client) => ItemKey::write_requests(client),
            Self::Segment(bucket, last) => ItemKey::segment(bucket, *last),
            Self::Record(key) => ItemKey::record(key),
            Self::Registered(bucket) => ItemKey::registered(bucket),
            Self::Due(bucket) => ItemKey::due(bucket),
        }
    }
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        Just(Subject::Control),
        (0_u32..3).prop_map(|n| Subject::ClosedEpoch(Epoch::new(n).unwrap())),
        (0_u32..3).prop_map(|n| Subject::Generation(generation(n))),
        Just(Subject::TicketCounter),
        (text(), text()).prop_map(|(user_id, client_id)| {
            Subject::WriteRequests(ClientKey { user_id, client_id })
        }),
        ("[\",\\\\]{0,3}", "[\",\\\\]{0,3}").prop_map(|(user_id, client_id)| {
            Subject::WriteRequests(ClientKey { user_id, client_id })
        }),
        (text(), 1_i64..3).prop_map(|(params, last)| {
            Subject::Segment(bucket(&params), OpId::from_i64(last).unwrap())
        }),
        record_key().prop_map(Subject::Record),
        text().prop_map(|params| Subject::Registered(bucket(&params))),
        text().prop_map(|params| Subject::Due(bucket(&params))),
    ]
}

proptest! {
    #[test]
    fn no_two_subjects_have_the_same_key(one in subject(), other in subject()) {
        prop_assert_eq!(one.key() == other.key(), one == other);
    }

    #[test]
    fn no_two_records_have_the_same_key_or_object(one in record_key(), other in record_key()) {
        let one_key = ItemKey::record(&one);
        let other_key = ItemKey::record(&other);
        prop_assert_eq!(one_key == other_key, one == other);
        prop_assert_eq!(one_key.object_folder() == other_key.object_folder(), one == other);
    }

    #[test]
    fn a_key_is_within_dynamodbs_limits_and_read_back(subject in subject()) {
        let key = subject.key();
        assert_within_limits(&key);
        prop_assert_eq!(ItemKey::of_item(key.table, &key.attributes()), Some(key.clone()));
        prop_assert!(crate::items::size(&key.attributes()) <= key.len());
    }

    #[test]
    fn segments_of_a_bucket_are_in_the_order_of_their_op_ids(
        one in 0..=OpId::MAX.get(),
        other in 0..=OpId::MAX.get(),
    ) {
        let [one_key, other_key] = [one, other]
            .map(|op| ItemKey::segment(&bucket("[]"), OpId::from_i64(op).unwrap()));
        prop_assert_eq!(&one_key.partition, &other_key.partition);
        prop_assert_eq!(one_key.sort.cmp(&other_key.sort), one.cmp(&other));
    }

    #[test]
    fn closed_epochs_and_generations_are_in_the_order_of_their_epochs(
        one in 0_u32..1 << 21,
        other in 0_u32..1 << 21,
    ) {
        let [one_epoch, other_epoch] = [one, other].map(|n| Epoch::new(n).unwrap());
        let closed = [one_epoch, other_epoch].map(|epoch| ItemKey::closed_epoch(epoch).sort);
        let started =
            [one_epoch, other_epoch].map(|epoch| ItemKey::generation(GenerationId(epoch)).sort);
        prop_assert_eq!(closed[0].cmp(&closed[1]), one.cmp(&other));
        prop_assert_eq!(started[0].cmp(&started[1]), one.cmp(&other));
    }

    #[test]
    fn a_text_is_truncated_only_if_it_does_not_fit(text in text(), bytes_max in 424_usize..2_048) {
        let stored = truncate_with_hash(&text, bytes_max);
        prop_assert!(stored.len() <= bytes_max);
        prop_assert_eq!(stored == text, !is_truncated(&text, bytes_max));
    }

    #[test]
    fn sort_keys_of_different_groups_are_in_the_order_of_their_texts(
        mut one in text(),
        mut other in text(),
    ) {
        if one > other {
            std::mem::swap(&mut one, &mut other);
        }
        let [stored, after] = [&one, &other].map(|text| truncate_with_hash(text, SORT_BYTES_MAX));

        prop_assert!(group(&stored) <= group(&after), "{one} {other}");
        if group(&stored) < group(&after) {
            prop_assert!(stored < after);
            prop_assert!(one < other);
        }

        // A listing that continues after a text finds all texts after it.
        prop_assert!(*first_after(&one) <= *after);

        // Texts share a group only if both are truncated.
        let grouped = group(&stored) == group(&after) && one != other;
        prop_assert!(!grouped || full_key_if_truncated(&one).is_some() && full_key_if_truncated(&other).is_some());
    }

    #[test]
    fn only_the_answers_to_a_lookup_begin_with_its_prefix(
        values in prop_oneof!["[a1:]{0,3}", text()],
        others in prop_oneof!["[a1:]{0,3}", text()],
        source in prop_oneof!["[a1:]{0,3}", text()],
    ) {
        let [lookup, other] = [&values, &others].map(|v| LookupKey::new(&Tag::from_bits(1), v));
        let (partition, prefix) = lookup_range(&lookup);
        let answer = ItemKey::record(&RecordKey::Lookup(other.clone(), source.clone().into()));
        let Some(KeyPart::Text(sort)) = &answer.sort else { panic!("a text") };

        // The sort keys alone tell the answers apart, even in one partition.
        prop_assert_eq!(sort.starts_with(&prefix), lookup == other);
        if lookup == other {
            prop_assert_eq!(answer.partition, partition);
            let stored = sort.strip_prefix(&prefix);
            prop_assert_eq!(stored == Some(&*source), source_if_truncated(&source).is_none());
        }
    }
}

#[test]
fn keys_are_those_of_the_layout() {
    let lookup = LookupKey::new(&Tag::from_bits(7), "[\"u1\"]");
    let generation = GenerationId(Epoch::new(5).unwrap());
    let client = ClientKey { user_id: "u1".into(), client_id: "c1".into() };

    for (key, partition, sort) in [
        (ItemKey::control(), "control", "0"),
        (ItemKey::closed_epoch(Epoch::new(9).unwrap()), "closed-epochs", "9"),
        (ItemKey::generation(generation), "generations", "5"),
        (ItemKey::segment(&bucket("[1]"), OpId::from_i64(8).unwrap()), "haaaaa[1]", "8"),
        (ItemKey::bucket(&bucket("[1]")), "haaaaa[1]", ""),
        (ItemKey::lookup(&lookup, "[2]"), "haaaaa/00", "6:[\"u1\"][2]"),
        (ItemKey::source_row(generation, 3, "[2]"), "5/55", "3/[2]"),
        (ItemKey::copy(generation), "5", ""),
        (ItemKey::registered(&bucket("[1]")), "haaaaa/00", "haaaaa[1]"),
        (ItemKey::due(&bucket("[1]")), "0", "haaaaa[1]"),
        (ItemKey::ticket_counter(), "bell", ""),
        (ItemKey::write_requests(&client), "[\"u1\",\"c1\"]", ""),
    ] {
        assert_eq!(shown(&key.partition), partition);
        assert_eq!(key.sort.as_ref().map(shown).unwrap_or_default(), sort);
    }
}

fn shown(part: &KeyPart) -> String {
    match part {
        KeyPart::Text(text) => text.clone(),
        KeyPart::Number(number) => number.to_string(),
    }
}

#[test]
fn rows_and_buckets_are_spread_over_all_shards() {
    let generation = GenerationId(Epoch::new(5).unwrap());
    let rows = (0..5_000).map(|n| ItemKey::source_row(generation, 0, &format!("[{n}]")));
    let partitions: HashSet<_> = rows.map(|key| key.partition).collect();
    assert_eq!(partitions.len(), usize::from(SHARDS));

    let buckets = (0..5_000).map(|n| ItemKey::registered(&bucket(&format!("[{n}]"))));
    let partitions: HashSet<_> = buckets.map(|key| key.partition).collect();
    assert_eq!(partitions.len(), usize::from(LIST_SHARDS));
}
