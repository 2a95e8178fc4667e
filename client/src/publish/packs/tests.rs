//! Copies come out of packs as they went in.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
use tempfile::TempDir;

use super::*;

/// The subkey and op id of each id.
type Copies = BTreeMap<String, (String, i64)>;

const TYPE: i64 = 7;
const BUCKET: i64 = 3;

fn database() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(include_str!("../../db/internal.sql")).unwrap();
    connection.execute("INSERT INTO _tw_buckets (id, name) VALUES (3, 'b')", []).unwrap();
    connection
}

fn pack(connection: &Connection, copies: &Copies) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("packs");
    let mut writer = PackWriter::create(&path).unwrap();
    for (id, (subkey, op_id)) in copies {
        writer.push(id, subkey, *op_id).unwrap();
    }
    writer.finish().unwrap();
    insert(connection, TYPE, BUCKET, &path).unwrap();
}

fn unpacked(connection: &Connection) -> Copies {
    let select = "SELECT id, subkey, op_id, bucket, type, payload FROM _tw_rows";
    let mut select = connection.prepare(select).unwrap();
    let copies = select.query_map([], |row| {
        assert_eq!((row.get(3)?, row.get(4)?, row.get(5)?), (BUCKET, TYPE, None::<String>));
        Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))
    });
    copies.unwrap().collect::<rusqlite::Result<_>>().unwrap()
}

fn pack_count(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM _tw_packs", [], |row| row.get(0)).unwrap()
}

fn many(count: i64) -> Copies {
    (0..count).map(|n| (format!("{n:06}"), (String::new(), n * 31 % 1_000))).collect()
}

proptest! {
    #[test]
    fn packed_copies_are_unpacked_unchanged(
        copies in proptest::collection::btree_map("[a-cé\u{1F600}]{0,6}", ("[kéê]{0,2}", 0..=i64::MAX), 0..200)
    ) {
        let connection = database();
        pack(&connection, &copies);
        let mut select = connection.prepare(PackedIds::SQL).unwrap();
        let mut packed = PackedIds::new(select.query([TYPE]).unwrap());
        let asked = ["", "a", "b", "c", "é", "é\u{1F600}", "\u{1F600}"];
        let asked: BTreeSet<&str> = copies.keys().map(String::as_str).chain(asked).collect();

        for id in asked {
            prop_assert_eq!(packed.contains(id).unwrap(), copies.contains_key(id));
        }

        let last = last_packed_id(&connection, TYPE).unwrap();
        prop_assert_eq!(last.as_ref(), copies.keys().next_back());
        connection.execute("UPDATE _tw_buckets SET is_cleared = 1", []).unwrap();
        unpack_cleared(&connection).unwrap();
        prop_assert_eq!(unpacked(&connection), copies);
        prop_assert!(!has_any(&connection).unwrap());
    }

    #[test]
    fn decoding_arbitrary_bytes_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
        let _ = decode(&bytes);
    }
}

#[test]
fn a_row_unpacks_its_own_pack_and_no_other() {
    let connection = database();
    let all = many(5_000);
    pack(&connection, &all);
    let before = pack_count(&connection);
    assert!(before > 3, "{before}");

    // There are no such rows: before, between and after the ids of the packs, and of another type.
    for id in ["", "0", "000010x", "x"] {
        unpack_containing(&connection, TYPE, id).unwrap();
    }
    unpack_containing(&connection, TYPE + 1, "000010").unwrap();
    assert_eq!((pack_count(&connection), unpacked(&connection)), (before, Copies::new()));

    // The second call finds the row unpacked.
    unpack_containing(&connection, TYPE, "002500").unwrap();
    unpack_containing(&connection, TYPE, "002500").unwrap();
    assert_eq!(pack_count(&connection), before - 1);

    let unpacked_copies = unpacked(&connection);
    assert_eq!(unpacked_copies["002500"], all["002500"]);
    assert!(
        unpacked_copies.len() < 2_000 && unpacked_copies.iter().all(|(id, copy)| all[id] == *copy)
    );
    assert_eq!(last_packed_id(&connection, TYPE).unwrap().unwrap(), "004999");
}

#[test]
fn a_pack_is_as_large_as_a_page() {
    let connection = database();
    pack(&connection, &many(20_000));
    let sql = "SELECT max(length(copies)) FROM _tw_packs";
    let longest: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!((3_800..3_900).contains(&longest), "{longest}");
}
