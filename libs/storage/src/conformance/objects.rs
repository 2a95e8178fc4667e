//! The guarantees of [`ObjectStore`].

use bytes::Bytes;

use crate::ObjectStore;

/// The range of a whole object.
const ALL: std::ops::Range<u64> = 0..u64::MAX;

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

pub async fn an_object_round_trips([a, b]: [impl ObjectStore; 2]) {
    let content: Bytes = (0..1_500_000_u32).flat_map(u32::to_le_bytes).collect();
    a.put_object("abc/7/ff", content.clone()).await.unwrap();
    assert_eq!(b.object_range("abc/7/ff", ALL).await.unwrap(), Some(content.clone()));

    let part = b.object_range("abc/7/ff", 1_000_001..5_000_003).await.unwrap();
    assert_eq!(part, Some(content.slice(1_000_001..5_000_003)));

    a.put_object("empty", Bytes::new()).await.unwrap();
    assert_eq!(b.object_range("empty", ALL).await.unwrap(), Some(Bytes::new()));
}

pub async fn a_range_is_cut_at_the_end_of_the_object([a, b]: [impl ObjectStore; 2]) {
    a.put_object("o", text("0123456789")).await.unwrap();
    for (range, expected) in [
        (0..10, "0123456789"),
        (3..5, "34"),
        (9..10, "9"),
        (8..100, "89"),
        (10..20, ""),
        (11..20, ""),
        (5..5, ""),
    ] {
        let found = b.object_range("o", range.clone()).await.unwrap();
        assert_eq!(found, Some(text(expected)), "{range:?}");
    }
}

pub async fn an_object_that_was_never_stored_is_not_found([a, b]: [impl ObjectStore; 2]) {
    assert_eq!(a.object_range("none", ALL).await.unwrap(), None);
    assert_eq!(b.object_range("some/where", 3..3).await.unwrap(), None);
}

pub async fn storing_an_object_is_idempotent([a, b]: [impl ObjectStore; 2]) {
    for store in [&a, &b] {
        store.put_object("x/o", text("same")).await.unwrap();
    }
    assert_eq!(a.object_range("x/o", ALL).await.unwrap(), Some(text("same")));
}

pub async fn a_deleted_object_is_not_found([a, b]: [impl ObjectStore; 2]) {
    a.put_object("x/o", text("content")).await.unwrap();
    for store in [&b, &a] {
        store.delete_object("x/o").await.unwrap();
        assert_eq!(store.object_range("x/o", ALL).await.unwrap(), None);
    }

    a.delete_object("never/there").await.unwrap();
    a.put_object("x/p", text("next")).await.unwrap();
    assert_eq!(b.object_range("x/p", ALL).await.unwrap(), Some(text("next")));
}

pub async fn deleting_an_object_keeps_all_others([a, b]: [impl ObjectStore; 2]) {
    for (name, content) in [("x/a", "1"), ("x/b", "2"), ("y/a", "3"), ("x/ab", "4")] {
        a.put_object(name, text(content)).await.unwrap();
    }
    b.delete_object("x/a").await.unwrap();
    for (name, content) in [("x/b", "2"), ("y/a", "3"), ("x/ab", "4")] {
        assert_eq!(a.object_range(name, ALL).await.unwrap(), Some(text(content)));
    }
}

pub async fn a_file_is_stored_as_an_object([a, b]: [impl ObjectStore; 2]) {
    use std::io::Write as _;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let content: Vec<u8> = (0..800_000_u32).flat_map(u32::to_le_bytes).collect();
    file.write_all(&content).unwrap();

    a.put_object_file("x/file", file.path()).await.unwrap();
    assert_eq!(b.object_range("x/file", ALL).await.unwrap(), Some(content.into()));
    assert!(file.path().exists());
}
