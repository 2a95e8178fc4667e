//! Conversion of PostgreSQL values. The tests of values and custom types cover each type.

use crate::tests::values::convert;
use crate::tests::{compile, definition, refused, stream};
use crate::{PgTypes, SyncConfig};

const BOOL: u32 = 16;
const INT8: u32 = 20;
const TEXT: u32 = 25;
const JSON: u32 = 114;
const FLOAT8: u32 = 701;
const DATE: u32 = 1082;
const TIME: u32 = 1083;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const NUMERIC: u32 = 1700;
const BYTEA: u32 = 17;
const INTEGERS: u32 = 1007;

/// Returns a config that selects an expression, with streams from edition 3 on.
fn selecting(edition: &str, expression: &str) -> SyncConfig {
    let query = format!("SELECT id, {expression} AS v FROM t");
    let yaml = if edition == "edition: 3" {
        stream(&query)
    } else {
        definition(&[], &[&query]).replace("edition: 2", edition)
    };
    compile(&yaml)
}

/// Returns the value of an expression over a column of a type, in the latest edition.
fn value(expression: &str, type_oid: u32, text: &str) -> String {
    convert(&selecting("edition: 3", expression), &PgTypes::default(), type_oid, text)
}

#[test]
fn types_unknown_to_sqlite_are_their_postgresql_text() {
    for (type_oid, text) in [
        (829, "08:00:2b:01:02:03"),
        (774, "08:00:2b:01:02:03:04:05"),
        (650, "192.168.100.128/25"),
        (601, "[(0,0),(1,1)]"),
        (603, "(1,1),(0,0)"),
        (718, "<(0,0),5>"),
        (1562, "10101"),
        (3615, "'fat' & 'rat'"),
        (27, "(0,1)"),
        (2205, "pg_class"),
        (99_999, "\"a\"=>\"1\""),
    ] {
        let expected = serde_json::to_string(text).unwrap();
        assert_eq!(value("v", type_oid, text), expected, "{type_oid}");
    }
}

#[test]
fn each_type_maps_to_one_sqlite_type() {
    for (type_oid, text, type_name) in [
        (BOOL, "t", "integer"),
        (INT8, "1", "integer"),
        (26, "1", "integer"),
        (FLOAT8, "1", "real"),
        (700, "0.5", "real"),
        (NUMERIC, "1", "text"),
        (790, "$1.00", "text"),
        (TEXT, "1", "text"),
        (JSON, "1", "text"),
        (BYTEA, "\\x01", "blob"),
        (DATE, "2023-03-06", "text"),
        (TIMESTAMPTZ, "2023-03-06 13:47:00+00", "text"),
        (INTEGERS, "{1}", "text"),
        (3904, "[1,5)", "text"),
    ] {
        let expected = format!("\"{type_name}\"");
        for edition in ["edition: 1", "edition: 2", "edition: 3"] {
            let config = selecting(edition, "typeof(v)");
            let found = convert(&config, &PgTypes::default(), type_oid, text);
            assert_eq!(found, expected, "{type_oid} ({edition})");
        }
    }
}

#[test]
fn a_numeric_compares_as_text_unless_it_is_cast() {
    assert_eq!(value("v = 1.10", NUMERIC, "1.10"), "0");
    assert_eq!(value("v = '1.10'", NUMERIC, "1.10"), "1");
    assert_eq!(value("CAST(v AS real) = 1.1", NUMERIC, "1.10"), "1");
    assert_eq!(value("v + 1", NUMERIC, "1.10"), "2.1");
    assert_eq!(
        value("v || ''", NUMERIC, "123456789012345678901234567890.10"),
        "\"123456789012345678901234567890.10\""
    );
}

#[test]
fn booleans_are_one_and_zero_in_conditions() {
    assert_eq!(value("v = TRUE", BOOL, "t"), "1");
    assert_eq!(value("v = 'true'", BOOL, "t"), "0");
    assert_eq!(value("NOT v", BOOL, "f"), "1");
    assert_eq!(value("v", BOOL, "true"), "s|0: a value is not as PostgreSQL prints its type");
}

#[test]
fn json_is_text_with_extractable_members() {
    assert_eq!(value("v ->> 'a'", JSON, r#"{"a" : 1.50}"#), "1.5");
    assert_eq!(value("v", JSON, r#"{"a" : 1.50}"#), r#""{\"a\" : 1.50}""#);
    assert_eq!(value("v ->> '$.0'", INTEGERS, "{5,6}"), "5");
    assert_eq!(value("6 IN v", INTEGERS, "{5,6}"), "1");
}

#[test]
fn bytea_is_dropped_unless_it_is_converted() {
    for edition in ["edition: 1", "edition: 2", "edition: 3"] {
        for (expression, expected) in [
            ("v", "left out"),
            ("hex(v)", "\"00FF\""),
            ("base64(v)", "\"AP8=\""),
            ("length(v)", "2"),
        ] {
            let config = selecting(edition, expression);
            let found = convert(&config, &PgTypes::default(), BYTEA, "\\x00ff");
            assert_eq!(found, expected, "{expression} ({edition})");
        }
    }
}

#[test]
fn times_are_iso_8601_from_edition_two_and_as_printed_in_edition_one() {
    let old = [
        (TIME, "17:42:01.12", "17:42:01.12"),
        (TIMESTAMP, "2023-03-06 15:47:12.4", "2023-03-06 15:47:12.4"),
        (TIMESTAMPTZ, "2023-03-06 15:47:00+02", "2023-03-06 13:47:00Z"),
    ];

    let new = [
        (TIME, "17:42:01.12", "17:42:01.120000"),
        (TIMESTAMP, "2023-03-06 15:47:12.4", "2023-03-06T15:47:12.400000"),
        (TIMESTAMPTZ, "2023-03-06 15:47:00+02", "2023-03-06T13:47:00.000000Z"),
    ];

    for (options, cases) in [
        ("edition: 1", &old),
        ("edition: 2\n  timestamps_iso8601: false", &old),
        ("edition: 1\n  timestamps_iso8601: true", &new),
        ("edition: 2", &new),
        ("edition: 3", &new),
    ] {
        for (type_oid, text, expected) in cases {
            let found = convert(&selecting(options, "v"), &PgTypes::default(), *type_oid, text);
            assert_eq!(found, format!("\"{expected}\""), "{text} ({options})");
        }
    }
}

#[test]
fn the_precision_of_times_truncates_and_pads_and_needs_iso_8601() {
    for (precision, expected) in [
        ("seconds", "2023-03-06T15:47:12"),
        ("milliseconds", "2023-03-06T15:47:12.129"),
        ("microseconds", "2023-03-06T15:47:12.129956"),
        ("nanoseconds", "2023-03-06T15:47:12.129956"),
    ] {
        let options = format!("edition: 2\n  timestamp_max_precision: {precision}");
        let config = selecting(&options, "v");
        let found = convert(&config, &PgTypes::default(), TIMESTAMP, "2023-03-06 15:47:12.129956");
        assert_eq!(found, format!("\"{expected}\""), "{precision}");
    }

    let query = ["SELECT id FROM t"];
    for options in [
        "edition: 1\n  timestamp_max_precision: seconds",
        "edition: 2\n  timestamps_iso8601: false\n  timestamp_max_precision: seconds",
        "edition: 2\n  timestamp_max_precision: minutes",
    ] {
        let found = refused(&definition(&[], &query).replace("edition: 2", options));
        assert!(found.contains("timestamp_max_precision"), "{options}: {found}");
    }
}

#[test]
fn malformed_values_are_row_errors() {
    for (type_oid, text) in
        [(INT8, "1.5"), (INT8, ""), (FLOAT8, "x"), (INTEGERS, "{1"), (3904, "[1")]
    {
        let expected = "s|0: a value is not as PostgreSQL prints its type";
        assert_eq!(value("v", type_oid, text), expected, "{type_oid} {text}");
    }
}
