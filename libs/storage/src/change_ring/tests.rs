use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn listed(names: impl IntoIterator<Item = u32>) -> ChangedNames {
    let mut all = ChangedNames::default();
    for name in names {
        all.insert(ChangeName(name));
    }
    all
}

/// Returns the names as a set, which the order of commits does not change.
fn names_between(ring: &ChangeRing, seen: u64, revision: u64) -> Option<Vec<u32>> {
    let mut names: Vec<u32> =
        ring.between(seen, revision)?.concat().into_iter().map(|name| name.0).collect();
    names.sort_unstable();
    names.dedup();
    Some(names)
}

#[test]
fn a_ring_names_what_changed_since_a_revision() {
    let ring =
        ChangeRing::default().with(7, &listed([3, 1])).with(8, &listed([])).with(9, &listed([5]));
    assert_eq!(names_between(&ring, 6, 9), Some(vec![1, 3, 5]));
    assert_eq!(names_between(&ring, 7, 9), Some(vec![5]));
    assert_eq!(names_between(&ring, 9, 9), Some(vec![]));
    assert_eq!(names_between(&ring, 5, 9), None, "revision 6 is not in the ring");
    assert_eq!(names_between(&ring, 10, 9), None, "the record has gone back");
}

#[test]
fn a_ring_that_was_copied_into_a_later_record_says_nothing() {
    let ring = ChangeRing::default().with(7, &listed([3]));
    assert_eq!(names_between(&ring, 6, 8), None);
    assert_eq!(names_between(&ring, 7, 8), None);
    assert_eq!(names_between(&ring.with(9, &listed([4])), 7, 9), None, "revision 8 is missing");
}

#[test]
fn a_commit_of_many_names_empties_the_ring() {
    let most = u32::try_from(NAMES_MAX).unwrap();
    let ring = ChangeRing::default().with(7, &listed([3]));
    assert!(!ring.with(8, &listed(0..most)).is_empty());
    assert!(ring.with(8, &listed(0..=most)).is_empty());
    assert_eq!(listed((0..most).chain(0..most)), listed(0..most), "a name counts once");
}

#[test]
fn buckets_and_lookups_of_the_same_text_have_different_names() {
    let text = "aaaaaa[\"u1\"]";
    let bucket = BucketKey::from_stored(text);
    let lookup = LookupKey::new(&crate::Tag::from_bits(0), "[\"u1\"]");
    assert_eq!(lookup.as_str(), text);
    assert_ne!(ChangeName::of_bucket(&bucket), ChangeName::of_lookup(&lookup));

    // The hash is part of the stored form: workers and readers may be different builds.
    assert_eq!(ChangeName::of_bucket(&bucket), ChangeName(BUCKET_HASH));
    assert_eq!(ChangeName::of_lookup(&lookup), ChangeName(LOOKUP_HASH));
}

/// The hashes of the two names above, by another implementation of XXH3 (the Python package `xxhash`).
const BUCKET_HASH: u32 = 2_700_604_159;
const LOOKUP_HASH: u32 = 562_969_207;

#[test]
fn a_text_that_is_no_ring_knows_nothing() {
    for text in ["", "AQ", "AgAAAAAAAAAA", "AQcAAAAAAAAAAQ", "?", "AQcAAAAAAAAABQAAAAA"] {
        assert!(ChangeRing::from(text.to_owned()).is_empty(), "{text}");
    }
}

proptest! {
    #[test]
    fn a_ring_is_read_back_as_it_was_written(
        first in 1_u64..1 << 60,
        revisions in vec(vec(any::<u32>(), 0..6), 1..80),
    ) {
        let mut ring = ChangeRing::default();
        for (revision, names) in (first..).zip(&revisions) {
            ring = ring.with(revision, &listed(names.iter().copied()));
        }
        prop_assert!(ring.encode().len() <= RING_BYTES_MAX);
        prop_assert_eq!(ring.encode().len(), ring.encoded_len());
        prop_assert_eq!(ChangeRing::from(String::from(ring.clone())), ring);
    }

    /// After any commits, a ring either names all of what changed since a revision, or
    /// says that it does not know.
    #[test]
    fn no_change_is_left_out(
        commits in vec(
            prop_oneof![
                8 => vec(0_u32..9, 0..5).prop_map(|names| Some(listed(names))),
                1 => Just(Some(ChangedNames::Many)),
                1 => Just(None),
            ],
            1..120,
        ),
        seen in 0_u64..120,
    ) {
        let mut ring = ChangeRing::default();
        let mut expected = Some(Vec::new());
        let mut revision = 0;
        for commit in commits {
            revision += 1;
            // A record that another program wrote has the ring of the one before.
            if let Some(names) = &commit {
                ring = ring.with(revision, names);
            }
            if revision > seen {
                match (commit, &mut expected) {
                    (Some(ChangedNames::Listed(names)), Some(all)) => all.extend(names.iter().map(|name| name.0)),
                    _ => expected = None,
                }
            }
        }
        let expected = expected.map(|mut names| {
            names.sort_unstable();
            names.dedup();
            names
        });

        if let Some(named) = names_between(&ring, seen, revision) {
            prop_assert_eq!(Some(named), expected);
        }
        // The last commit of a single name is always known.
        if let Some(names) = names_between(&ring.with(revision + 1, &listed([77])), revision, revision + 1) {
            prop_assert_eq!(names, vec![77]);
        } else {
            prop_assert!(false, "a lone commit is in the ring");
        }
    }

    #[test]
    fn any_text_can_be_read(text in ".{0,40}", bytes in vec(any::<u8>(), 0..300)) {
        let _ = ChangeRing::from(text);
        if let Some(ring) = ChangeRing::decode(&bytes) {
            prop_assert_eq!(ring.encode(), bytes);
        }
    }
}
