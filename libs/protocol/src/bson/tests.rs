use bson::Document;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Returns what an independent reader finds in a document.
fn decoded(bytes: &[u8]) -> Value {
    let document = Document::from_reader(bytes).unwrap();
    bson::Bson::Document(document).into_relaxed_extjson()
}

fn written(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = BsonWriter::new(&mut out);
    let document = writer.begin();
    writer.value("v", value);
    writer.end(document);
    out
}

/// Returns JSON values whose integers are exact as doubles.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1_i64 << 53)..=1 << 53).prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("[^\0]{0,6}", inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Compares numbers by value: an independent reader returns a double where JSON has an integer.
fn with_integers(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            let integer = number.as_f64().filter(|number| number.fract() == 0.0);
            #[expect(clippy::cast_possible_truncation, reason = "an integer below 2^53")]
            integer.map_or(Value::Number(number), |integer| Value::from(integer as i64))
        }
        Value::Array(items) => items.into_iter().map(with_integers).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, member)| (name, with_integers(member))).collect()
        }
        other @ (Value::Null | Value::Bool(_) | Value::String(_)) => other,
    }
}

#[test]
fn integers_are_written_as_javascript_does() {
    for (value, kind) in [
        (json!(0), 0x10),
        (json!(i32::MAX), 0x10),
        (json!(i32::MIN), 0x10),
        (json!(i64::from(i32::MAX) + 1), 0x01),
        (json!(u32::MAX), 0x01),
    ] {
        let bytes = written(&value);
        assert_eq!(bytes[4], kind, "{value}");
        assert_eq!(with_integers(decoded(&bytes)), json!({ "v": value }));
    }
}

fn check_refused(bytes: &[u8], error: BsonError) {
    assert_eq!(bson_to_json(bytes), Err(error), "{bytes:?}");
}

#[test]
fn what_json_does_not_have_is_refused() {
    let binary = bson::serialize_to_vec(&bson::doc! { "b": bson::Binary {
        subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1]
    } });
    check_refused(&binary.unwrap(), BsonError::UnsupportedType(0x05));
    check_refused(b"", BsonError::Malformed);
    check_refused(&[5, 0, 0, 0, 1], BsonError::Malformed);
    check_refused(&[5, 0, 0, 0, 0, 0], BsonError::Malformed);
    check_refused(&[4, 0, 0, 0], BsonError::Malformed);
    check_refused(&[255, 255, 255, 255, 0], BsonError::Malformed);
}

#[test]
fn nesting_is_limited() {
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    assert!(bson_to_json(&written(&nested(60))).is_ok());
    check_refused(&written(&nested(70)), BsonError::TooDeep);
}

#[test]
fn doubles_are_read_as_javascript_has_them() {
    let document = bson::doc! { "a": 5_000_000_000.0, "b": 0.5, "c": f64::NAN, "d": -0.0, "e": 1e300,
    "f": bson::Bson::Undefined, "g": [bson::Bson::Undefined, 1_i64] };
    let json = bson_to_json(&bson::serialize_to_vec(&document).unwrap()).unwrap();
    assert_eq!(
        String::from_utf8(json).unwrap(),
        r#"{"a":5000000000,"b":0.5,"c":null,"d":0,"e":1e+300,"g":[null,1]}"#
    );
}

proptest! {
    #[test]
    fn an_independent_reader_finds_the_same_values(value in values()) {
        let bytes = written(&value);
        prop_assert_eq!(with_integers(decoded(&bytes)), json!({ "v": value }));
    }

    #[test]
    fn values_are_read_back(value in values()) {
        let json = bson_to_json(&written(&value)).unwrap();
        let read: Value = serde_json::from_slice(&json).unwrap();
        prop_assert_eq!(read, json!({ "v": value }));
    }

    #[test]
    fn no_input_panics_and_the_text_is_bounded(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(json) = bson_to_json(&bytes) {
            prop_assert!(json.len() <= 8 * bytes.len() + 2);
        }
    }

    /// Damage inside valid documents reaches more of the reader than random bytes do.
    #[test]
    fn damaged_documents_do_not_panic(
        value in values(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = written(&value);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = bson_to_json(&bytes);
        bytes.truncate(length.index(bytes.len()));
        let _ = bson_to_json(&bytes);
    }
}
