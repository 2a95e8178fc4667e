use proptest::prelude::*;

use super::*;
use encode::OldTuple;

/// Values that own their texts, to be drawn by proptest.
#[derive(Clone, Debug)]
enum Value {
    Null,
    Unchanged,
    Text(String),
}

impl Value {
    fn datum(&self) -> Datum<'_> {
        match self {
            Self::Null => Datum::Null,
            Self::Unchanged => Datum::Unchanged,
            Self::Text(text) => Datum::Text(text),
        }
    }
}

fn values() -> impl Strategy<Value = Vec<Value>> {
    let value =
        prop_oneof![Just(Value::Null), Just(Value::Unchanged), ".{0,12}".prop_map(Value::Text),];
    proptest::collection::vec(value, 0..6)
}

fn data(values: &[Value]) -> Vec<Datum<'_>> {
    values.iter().map(Value::datum).collect()
}

#[test]
fn an_update_may_carry_its_old_key() {
    let old = [Datum::Text("1"), Datum::Null];
    let new = [Datum::Text("2"), Datum::Unchanged];
    let message = encode::update(7, Some((OldTuple::Key, &old)), &new);
    let Ok(Message::Update { relation: 7, old: Some(o), new: n }) = Message::decode(&message)
    else {
        panic!("not an update of relation 7");
    };
    assert_eq!(o.read(&message), Ok(old.to_vec()));
    assert_eq!(n.read(&message), Ok(new.to_vec()));
}

#[test]
fn a_relation_message_is_decoded_from_the_bytes_that_postgresql_sends() {
    let message = b"R\0\0\0\x05public\0todos\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0t\0\0\0\0\x19\xff\xff\xff\xff";
    let Ok(Message::Relation(relation)) = Message::decode(message) else {
        panic!("not a relation");
    };
    assert_eq!((relation.oid, relation.replica_identity), (5, b'd'));
    let columns: Vec<_> =
        relation.columns.iter().map(|c| (&*c.name, c.type_oid, c.in_identity)).collect();
    assert_eq!(columns, [("id", 23, true), ("t", 25, false)]);
    assert_eq!(encode::relation(&relation), message, "the encoder writes the same bytes");
}

#[test]
fn a_truncate_lists_all_its_tables() {
    let message = b"T\0\0\0\x02\x01\0\0\0\x05\0\0\0\x06";
    assert_eq!(Message::decode(message), Ok(Message::Truncate { relations: vec![5, 6] }));
}

#[test]
fn origin_and_type_messages_are_ignored() {
    for message in [b"Y\0\0".as_slice(), b"O\0\0"] {
        assert_eq!(Message::decode(message), Ok(Message::Other));
    }
}

#[test]
fn malformed_messages_are_rejected() {
    let cases: [(&str, &[u8]); 11] = [
        ("an empty message", b""),
        ("an unknown kind", b"X"),
        ("an insert without its tuple", b"I\0\0\0\x01"),
        ("an insert whose tuple is not new", b"I\0\0\0\x01O\0\0"),
        ("an update without a new tuple", b"U\0\0\0\x01K\0\0X"),
        ("a delete without an old tuple", b"D\0\0\0\x01N\0\0"),
        ("a tuple that is cut", b"I\0\0\0\x01N\0\x02n"),
        ("a text that is cut", b"I\0\0\0\x01N\0\x01t\0\0\0\x05abc"),
        ("an unknown kind of value", b"I\0\0\0\x01N\0\x01b\0\0\0\x01a"),
        ("a truncate that is cut", b"T\0\0\0\x02\0\0\0\0\x01"),
        ("a relation name without its end", b"R\0\0\0\x01public"),
    ];

    for (case, message) in cases {
        assert_eq!(Message::decode(message), Err(Malformed), "{case}");
    }
}

#[test]
fn text_that_is_not_utf8_is_rejected_when_it_is_read() {
    let message = b"I\0\0\0\x01N\0\x01t\0\0\0\x01\xff";
    let Ok(Message::Insert { new, .. }) = Message::decode(message) else {
        panic!("the tuple itself is well formed");
    };
    assert_eq!(new.read(message), Err(Malformed));
}

#[test]
fn a_range_of_another_message_is_rejected() {
    let long = encode::insert(1, &[Datum::Text("a long text")]);
    let Ok(Message::Insert { new, .. }) = Message::decode(&long) else { panic!("an insert") };
    assert_eq!(new.read(&long[..10]), Err(Malformed));
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        relation: u32,
        old in values(),
        new in values(),
        is_full: bool,
    ) {
        let kind = if is_full { OldTuple::Row } else { OldTuple::Key };

        let message = encode::insert(relation, &data(&new));
        let Ok(Message::Insert { relation: r, new: n }) = Message::decode(&message) else {
            panic!("an insert");
        };
        prop_assert_eq!(r, relation);
        prop_assert_eq!(n.read(&message), Ok(data(&new)));

        let message = encode::update(relation, Some((kind, &data(&old))), &data(&new));
        let Ok(Message::Update { old: Some(o), new: n, .. }) = Message::decode(&message) else {
            panic!("an update");
        };
        prop_assert_eq!(o.read(&message), Ok(data(&old)));
        prop_assert_eq!(n.read(&message), Ok(data(&new)));

        let message = encode::delete(relation, kind, &data(&old));
        let Ok(Message::Delete { old: o, .. }) = Message::decode(&message) else {
            panic!("a delete");
        };
        prop_assert_eq!(o.read(&message), Ok(data(&old)));
    }

    #[test]
    fn a_cut_message_is_rejected(new in values(), cut in 1_usize..40) {
        let message = encode::insert(1, &data(&new));
        let kept = message.len().saturating_sub(cut);
        prop_assert_eq!(Message::decode(&message[..kept]), Err(Malformed));
    }

    #[test]
    fn garbage_never_panics(message in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(Message::Insert { new, .. }) = Message::decode(&message) {
            let _ = new.read(&message);
        }
    }
}
