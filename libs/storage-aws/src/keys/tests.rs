use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn bucket(params: &str) -> BucketKey {
    BucketKey::new(&Tag::from_bits(7), params)
}

/// Texts around all the bounds there are; those with few characters often begin alike.
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

fn cell_key() -> impl Strategy<Value = RecordKey> {
    let generation = |n: u32| GenerationId(Epoch::new(n).unwrap());
    prop_oneof![
        text().prop_map(|params| RecordKey::Bucket(bucket(&params))),
        (0_u32..3, text(), text()).prop_map(|(tag, values, source)| {
            RecordKey::Lookup(LookupKey::new(&Tag::from_bits(tag), &values), source.into())
        }),
        (0_u32..3, any::<u16>(), text()).prop_map(move |(n, table, row)| RecordKey::SourceRow(
            generation(n),
            table,
            row.into()
        )),
        (0_u32..99).prop_map(move |n| RecordKey::Copy(generation(n))),
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
    let kind = |part: &KeyPart| match part {
        KeyPart::Text(_) => "S",
        KeyPart::Number(_) => "N",
    };
    assert_eq!(kind(&key.partition), schema.partition.letter());
    assert_eq!(key.sort.as_ref().map(kind), schema.sort.map(crate::tables::KeyType::letter));
}

proptest! {
    #[test]
    fn other_cells_have_other_keys(one in cell_key(), other in cell_key()) {
        let (one_key, other_key) = (ItemKey::record(&one), ItemKey::record(&other));
        prop_assert_eq!(one_key == other_key, one == other);
        prop_assert_eq!(one_key.object_folder() == other_key.object_folder(), one == other);
    }

    #[test]
    fn a_key_is_within_dynamodbs_limits_and_read_back(record in cell_key(), text in text()) {
        let client = ClientKey { user_id: text.clone(), client_id: text.clone() };
        let keys = [
            ItemKey::record(&record),
            ItemKey::registered(&bucket(&text)),
            ItemKey::due(&bucket(&text)),
            ItemKey::segment(&bucket(&text), OpId::MAX),
            ItemKey::write_requests(&client),
        ];
        for key in keys {
            assert_within_limits(&key);
            prop_assert_eq!(ItemKey::of_item(key.table, &key.attributes()), Some(key.clone()));
            prop_assert!(crate::items::size(&key.attributes()) <= key.len());
        }
    }

    #[test]
    fn a_text_is_cut_only_if_it_must_be(text in text(), bytes_max in 424_usize..2_048) {
        let truncate_with_hash = truncate_with_hash(&text, bytes_max);
        prop_assert!(truncate_with_hash.len() <= bytes_max);
        prop_assert_eq!(truncate_with_hash == text, !is_truncated(&text, bytes_max));
    }

    #[test]
    fn sort_keys_are_in_the_order_of_their_texts_but_within_a_group(
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
        // A listing that goes on after a text misses none that comes after it.
        prop_assert!(*first_after(&one) <= *after);
        // Texts share a group only when both were cut.
        let grouped = group(&stored) == group(&after) && one != other;
        prop_assert!(!grouped || full_key_if_truncated(&one).is_some() && full_key_if_truncated(&other).is_some());
    }

    #[test]
    fn a_lookups_answers_alone_begin_with_its_range(
        values in prop_oneof!["[a1:]{0,3}", text()],
        others in prop_oneof!["[a1:]{0,3}", text()],
        source in prop_oneof!["[a1:]{0,3}", text()],
    ) {
        let [lookup, other] = [&values, &others].map(|v| LookupKey::new(&Tag::from_bits(1), v));
        let (partition, beginning) = lookup_range(&lookup);
        let answer = ItemKey::record(&RecordKey::Lookup(other.clone(), source.clone().into()));
        let Some(KeyPart::Text(sort)) = &answer.sort else { panic!("a text") };
        // Whatever the partition: the sort keys alone tell them apart.
        prop_assert_eq!(sort.starts_with(&beginning), lookup == other);
        if lookup == other {
            prop_assert_eq!(answer.partition, partition);
            let stored = sort.strip_prefix(&beginning);
            prop_assert_eq!(stored == Some(&*source), source_if_truncated(&source).is_none());
        }
    }
}

#[test]
fn keys_are_as_the_layout_has_them() {
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
        let text = |part: &KeyPart| match part {
            KeyPart::Text(text) => text.clone(),
            KeyPart::Number(number) => number.to_string(),
        };
        assert_eq!(text(&key.partition), partition);
        assert_eq!(key.sort.as_ref().map(text).unwrap_or_default(), sort);
    }
}

#[test]
fn rows_and_buckets_are_spread() {
    let generation = GenerationId(Epoch::new(5).unwrap());
    let shards = |keys: Vec<ItemKey>| {
        keys.into_iter().map(|key| key.partition).collect::<HashSet<_>>().len()
    };
    let rows = (0..5_000).map(|n| ItemKey::source_row(generation, 0, &format!("[{n}]")));
    assert_eq!(shards(rows.collect()), usize::from(SHARDS));
    let buckets = (0..5_000).map(|n| ItemKey::registered(&bucket(&format!("[{n}]"))));
    assert_eq!(shards(buckets.collect()), usize::from(LIST_SHARDS));
}
