//! Conversion of PostgreSQL values to SQLite and JSON.

use expect_test::{Expect, expect};

use super::{compile, definition, stream};
use crate::{Column, PgTypes, RowOutput, SyncConfig, TableSchema};

const BOOL: u32 = 16;
const DATE: u32 = 1082;
const TIME: u32 = 1083;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;

fn column(name: &str, type_oid: u32) -> Column {
    Column { name: name.to_owned(), type_oid }
}

/// Returns a value as a column of the row and, if it differs, as the value of an expression.
pub(super) fn convert(config: &SyncConfig, types: &PgTypes, type_oid: u32, text: &str) -> String {
    let table = TableSchema {
        schema: "public".to_owned(),
        name: "t".to_owned(),
        columns: vec![column("id", 25), column("v", type_oid)],
        types: types.clone(),
    };
    let evaluator = config.bind(&table).unwrap().unwrap();
    let mut out = RowOutput::default();

    evaluator.evaluate(&[Some("1"), Some(text)], &mut out);

    let Some(bucket) = out.buckets().next() else { return out.errors().join(", ") };
    let data = bucket.data.strip_prefix(r#"{"id":"1""#).unwrap().strip_suffix('}').unwrap();
    let data = data.trim_start_matches(',');
    let as_column = data.split(r#""e":"#).next().unwrap().trim_end_matches(',');
    let as_expression = data.split(r#""e":"#).nth(1);

    let as_column = as_column.strip_prefix(r#""v":"#).unwrap_or("left out");
    if as_expression.is_some_and(|value| value != as_column) {
        return format!("{as_column} and {}", as_expression.unwrap_or_default());
    }

    as_column.to_owned()
}

pub(super) const QUERY: &str = "SELECT id, v, ifnull(v, NULL) AS e FROM t";

fn check(values: &[(u32, &str)], expected: Expect) {
    check_with(&compile(&stream(QUERY)), values, expected);
}

fn check_with(config: &SyncConfig, values: &[(u32, &str)], expected: Expect) {
    let types = PgTypes::default();
    let text: String = values
        .iter()
        .map(|(oid, text)| format!("{oid} {text} => {}\n", convert(config, &types, *oid, text)))
        .collect();
    expected.assert_eq(&text);
}

/// Compares like [`check`], with the defaults of edition 1.
fn check_first_edition(values: &[(u32, &str)], expected: Expect) {
    let yaml = definition(&[], &[QUERY]).replace("edition: 2", "edition: 1");
    check_with(&compile(&yaml), values, expected);
}

#[test]
fn booleans_and_integers_are_integers() {
    check(
        &[
            (BOOL, "t"),
            (BOOL, "f"),
            (21, "-32768"),
            (23, "2147483647"),
            (20, "-9223372036854775808"),
            (20, "9223372036854775807"),
            (26, "4294967295"),
            (BOOL, "maybe"),
            (20, "9223372036854775808"),
        ],
        expect![[r#"
            16 t => 1
            16 f => 0
            21 -32768 => -32768
            23 2147483647 => 2147483647
            20 -9223372036854775808 => -9223372036854775808
            20 9223372036854775807 => 9223372036854775807
            26 4294967295 => 4294967295
            16 maybe => s|0: a value is not as PostgreSQL prints its type
            20 9223372036854775808 => s|0: a value is not as PostgreSQL prints its type
        "#]],
    );
}

#[test]
fn reals_are_printed_as_javascript_does() {
    check(
        &[
            (701, "0"),
            (701, "-0"),
            (701, "3"),
            (701, "-2.5"),
            (701, "0.1"),
            (701, "1e-06"),
            (701, "1e-07"),
            (701, "1.2345e-10"),
            (701, "123456789012345680000"),
            (701, "1e+21"),
            (701, "1.7976931348623157e+308"),
            (701, "5e-324"),
            (700, "0.1"),
            (700, "1e+20"),
            (701, "NaN"),
            (701, "Infinity"),
            (701, "-Infinity"),
        ],
        expect![[r#"
            701 0 => 0.0
            701 -0 => 0.0
            701 3 => 3.0
            701 -2.5 => -2.5
            701 0.1 => 0.1
            701 1e-06 => 0.000001
            701 1e-07 => 1e-7
            701 1.2345e-10 => 1.2345e-10
            701 123456789012345680000 => 123456789012345680000.0
            701 1e+21 => 1e+21
            701 1.7976931348623157e+308 => 1.7976931348623157e+308
            701 5e-324 => 5e-324
            700 0.1 => 0.1
            700 1e+20 => 100000000000000000000.0
            701 NaN => null
            701 Infinity => 9e999
            701 -Infinity => -9e999
        "#]],
    );
}

#[test]
fn types_unknown_to_sqlite_are_their_postgresql_text() {
    check(
        &[
            (1700, "0.10"),
            (1700, "NaN"),
            (790, "$1,000.00"),
            (1043, ""),
            (1042, "ab   "),
            (18, "x"),
            (19, "name"),
            (2950, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            (142, "<a b=\"c\"/>"),
            (869, "::1/128"),
            (1186, "1 mon -3 days"),
            (1560, "101"),
            (600, "(1.5,-2)"),
            (3614, "'a':1"),
            (1266, "04:05:06.7-08"),
            (99_999, "{custom}"),
        ],
        expect![[r#"
            1700 0.10 => "0.10"
            1700 NaN => "NaN"
            790 $1,000.00 => "$1,000.00"
            1043  => ""
            1042 ab    => "ab   "
            18 x => "x"
            19 name => "name"
            2950 a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 => "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
            142 <a b="c"/> => "<a b=\"c\"/>"
            869 ::1/128 => "::1/128"
            1186 1 mon -3 days => "1 mon -3 days"
            1560 101 => "101"
            600 (1.5,-2) => "(1.5,-2)"
            3614 'a':1 => "'a':1"
            1266 04:05:06.7-08 => "04:05:06.7-08"
            99999 {custom} => "{custom}"
        "#]],
    );
}

#[test]
fn text_is_escaped_for_json() {
    let config = compile(&stream(QUERY));
    let text = "a\"b\\c/\n\t\r\u{8}\u{c}\u{1}\u{1f}\u{7f} é\u{2028}😀";
    let escaped = r#""a\"b\\c/\n\t\r\b\f\u0001\u001f"#;
    let expected = format!("{escaped}\u{7f} é\u{2028}😀\"");
    assert_eq!(convert(&config, &PgTypes::default(), 25, text), expected);
    assert_eq!(serde_json::from_str::<String>(&expected).unwrap(), text);
}

#[test]
fn json_columns_are_their_text() {
    check(
        &[(114, "{ \"b\" : 1.0,\"a\":2, \"a\":3 }"), (3802, "[1, \"x\"]"), (114, "null")],
        expect![[r#"
            114 { "b" : 1.0,"a":2, "a":3 } => "{ \"b\" : 1.0,\"a\":2, \"a\":3 }"
            3802 [1, "x"] => "[1, \"x\"]"
            114 null => "null"
        "#]],
    );
}

#[test]
fn bytea_columns_are_left_out() {
    check(
        &[(17, "\\x"), (17, "\\x00ff"), (17, "escape\\000")],
        expect![[r#"
        17 \x => left out
        17 \x00ff => left out
        17 escape\000 => s|0: a value is not as PostgreSQL prints its type
    "#]],
    );

    let config = compile(&stream("SELECT id, hex(v) AS v, base64(v) AS b FROM t"));
    check_with(
        &config,
        &[(17, "\\x00FFa1"), (17, "\\x0"), (17, "\\xgg"), (17, "abc")],
        expect![[r#"
            17 \x00FFa1 => "00FFA1","b":"AP+h"
            17 \x0 => s|0: a value is not as PostgreSQL prints its type
            17 \xgg => s|0: a value is not as PostgreSQL prints its type
            17 abc => s|0: a value is not as PostgreSQL prints its type
        "#]],
    );
}

const DATES: [(u32, &str); 17] = [
    (DATE, "1999-12-31"),
    (DATE, "infinity"),
    (DATE, "-infinity"),
    (DATE, "0001-01-01 BC"),
    (TIME, "01:02:03"),
    (TIME, "01:02:03.000001"),
    (TIME, "24:00:00"),
    (TIMESTAMP, "1999-12-31 23:59:59"),
    (TIMESTAMP, "1999-12-31 23:59:59.5"),
    (TIMESTAMP, "infinity"),
    (TIMESTAMP, "-infinity"),
    (TIMESTAMP, "12345-01-02 03:04:05"),
    (TIMESTAMP, "0001-01-01 00:00:00 BC"),
    (TIMESTAMPTZ, "1999-12-31 23:59:59.987654+00"),
    (TIMESTAMPTZ, "infinity"),
    (TIMESTAMPTZ, "-infinity"),
    (TIMESTAMPTZ, "12345-01-02 03:04:05+00"),
];

#[test]
fn dates_and_times_are_iso_8601_in_later_editions() {
    check(
        &DATES,
        expect![[r#"
        1082 1999-12-31 => "1999-12-31"
        1082 infinity => "9999-12-31"
        1082 -infinity => "0000-01-01"
        1082 0001-01-01 BC => "0001-01-01 BC"
        1083 01:02:03 => "01:02:03.000000"
        1083 01:02:03.000001 => "01:02:03.000001"
        1083 24:00:00 => "24:00:00.000000"
        1114 1999-12-31 23:59:59 => "1999-12-31T23:59:59.000000"
        1114 1999-12-31 23:59:59.5 => "1999-12-31T23:59:59.500000"
        1114 infinity => "9999-12-31T23:59:59.000000"
        1114 -infinity => "0000-01-01T00:00:00.000000"
        1114 12345-01-02 03:04:05 => "12345-01-02T03:04:05.000000"
        1114 0001-01-01 00:00:00 BC => null
        1184 1999-12-31 23:59:59.987654+00 => "1999-12-31T23:59:59.987654Z"
        1184 infinity => "9999-12-31T23:59:59.000000Z"
        1184 -infinity => "0000-01-01T00:00:00.000000Z"
        1184 12345-01-02 03:04:05+00 => null
    "#]],
    );
}

#[test]
fn dates_and_times_are_as_printed_in_the_first_edition() {
    check_first_edition(
        &DATES,
        expect![[r#"
        1082 1999-12-31 => "1999-12-31"
        1082 infinity => "9999-12-31"
        1082 -infinity => "0000-01-01"
        1082 0001-01-01 BC => "0001-01-01 BC"
        1083 01:02:03 => "01:02:03"
        1083 01:02:03.000001 => "01:02:03.000001"
        1083 24:00:00 => "24:00:00"
        1114 1999-12-31 23:59:59 => "1999-12-31 23:59:59"
        1114 1999-12-31 23:59:59.5 => "1999-12-31 23:59:59.5"
        1114 infinity => "9999-12-31 23:59:59"
        1114 -infinity => "0000-01-01 00:00:00"
        1114 12345-01-02 03:04:05 => "12345-01-02 03:04:05"
        1114 0001-01-01 00:00:00 BC => null
        1184 1999-12-31 23:59:59.987654+00 => "1999-12-31 23:59:59.987654Z"
        1184 infinity => "9999-12-31 23:59:59Z"
        1184 -infinity => "0000-01-01 00:00:00Z"
        1184 12345-01-02 03:04:05+00 => null
    "#]],
    );

    let yaml =
        definition(&[], &[QUERY]).replace("edition: 2", "edition: 1\n  timestamps_iso8601: true");

    check_with(
        &compile(&yaml),
        &DATES[7..8],
        expect![[r#"
        1114 1999-12-31 23:59:59 => "1999-12-31T23:59:59.000000"
    "#]],
    );

    let yaml =
        definition(&[], &[QUERY]).replace("edition: 2", "edition: 2\n  timestamps_iso8601: false");

    check_with(
        &compile(&yaml),
        &DATES[7..8],
        expect![[r#"
        1114 1999-12-31 23:59:59 => "1999-12-31 23:59:59"
    "#]],
    );
}

#[test]
fn timestamps_with_a_zone_become_utc() {
    check(
        &[
            (TIMESTAMPTZ, "2024-03-01 01:30:00+02"),
            (TIMESTAMPTZ, "2023-03-01 00:30:00+05:45"),
            (TIMESTAMPTZ, "1900-02-28 23:59:59.25-00:00:01"),
            (TIMESTAMPTZ, "2000-12-31 20:00:00-08"),
            (TIMESTAMPTZ, "0001-01-01 00:00:00+01"),
            (TIMESTAMPTZ, "9999-12-31 23:30:00-01"),
            (TIMESTAMPTZ, "0100-03-01 00:00:00+00 BC"),
            (TIMESTAMPTZ, "2024-13-01 00:00:00+00"),
            (TIMESTAMPTZ, "Wed Dec 17 07:37:16 1997 PST"),
            (TIMESTAMPTZ, "1997-12-17 07:37:16\"+00"),
        ],
        expect![[r#"
            1184 2024-03-01 01:30:00+02 => "2024-02-29T23:30:00.000000Z"
            1184 2023-03-01 00:30:00+05:45 => "2023-02-28T18:45:00.000000Z"
            1184 1900-02-28 23:59:59.25-00:00:01 => "1900-03-01T00:00:00.250000Z"
            1184 2000-12-31 20:00:00-08 => "2001-01-01T04:00:00.000000Z"
            1184 0001-01-01 00:00:00+01 => "0000-12-31T23:00:00.000000Z"
            1184 9999-12-31 23:30:00-01 => null
            1184 0100-03-01 00:00:00+00 BC => null
            1184 2024-13-01 00:00:00+00 => null
            1184 Wed Dec 17 07:37:16 1997 PST => null
            1184 1997-12-17 07:37:16"+00 => null
        "#]],
    );

    check_first_edition(
        &[(TIMESTAMPTZ, "2024-03-01 01:30:00+02"), (TIMESTAMPTZ, "2024-03-01 01:30:00.120+02")],
        expect![[r#"
            1184 2024-03-01 01:30:00+02 => "2024-02-29 23:30:00Z"
            1184 2024-03-01 01:30:00.120+02 => "2024-02-29 23:30:00.120Z"
        "#]],
    );
}

#[test]
fn time_precision_is_an_option() {
    let values = [
        (TIME, "01:02:03.987654"),
        (TIMESTAMP, "1999-12-31 23:59:59.987654"),
        (TIMESTAMPTZ, "1999-12-31 23:59:59.9+00"),
    ];

    for (precision, expected) in [
        (
            "seconds",
            expect![[r#"
            1083 01:02:03.987654 => "01:02:03"
            1114 1999-12-31 23:59:59.987654 => "1999-12-31T23:59:59"
            1184 1999-12-31 23:59:59.9+00 => "1999-12-31T23:59:59Z"
        "#]],
        ),
        (
            "milliseconds",
            expect![[r#"
            1083 01:02:03.987654 => "01:02:03.987"
            1114 1999-12-31 23:59:59.987654 => "1999-12-31T23:59:59.987"
            1184 1999-12-31 23:59:59.9+00 => "1999-12-31T23:59:59.900Z"
        "#]],
        ),
        (
            "microseconds",
            expect![[r#"
            1083 01:02:03.987654 => "01:02:03.987654"
            1114 1999-12-31 23:59:59.987654 => "1999-12-31T23:59:59.987654"
            1184 1999-12-31 23:59:59.9+00 => "1999-12-31T23:59:59.900000Z"
        "#]],
        ),
        (
            "nanoseconds",
            expect![[r#"
            1083 01:02:03.987654 => "01:02:03.987654"
            1114 1999-12-31 23:59:59.987654 => "1999-12-31T23:59:59.987654"
            1184 1999-12-31 23:59:59.9+00 => "1999-12-31T23:59:59.900000Z"
        "#]],
        ),
    ] {
        let option = format!("edition: 3\n  timestamp_max_precision: {precision}");
        let yaml = stream(QUERY).replace("edition: 3", &option);
        check_with(&compile(&yaml), &values, expected);
    }
}

#[test]
fn lsn_values_are_padded() {
    check(
        &[(3220, "0/0"), (3220, "1F/16B3748"), (3220, "FFFFFFFF/FFFFFFFF")],
        expect![[r#"
        3220 0/0 => "00000000/00000000"
        3220 1F/16B3748 => "0000001F/016B3748"
        3220 FFFFFFFF/FFFFFFFF => "FFFFFFFF/FFFFFFFF"
    "#]],
    );
}

#[test]
fn arrays_become_json() {
    check(
        &[
            (1000, "{t,f,NULL}"),
            (1007, "{}"),
            (1007, "{1,NULL,-3}"),
            (1007, "{{1,2},{3,4}}"),
            (1007, "[0:1]={5,6}"),
            (1007, "[1:1][2:3]={{5,6}}"),
            (1016, "{9007199254740993}"),
            (1022, "{1,0.5,NaN,Infinity,1e+21}"),
            (1009, r#"{a,"b,c","d\"e","f\\g","","NULL",NULL,"{h}"," i "}"#),
            (1231, "{1.10,NaN}"),
            (2951, "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"),
            (3807, r#"{"{\"a\": [1, 2]}","\"text\"",null,"null",NULL}"#),
            (1182, "{1999-12-31,infinity}"),
            (1183, "{01:02:03.5}"),
            (1115, r#"{"1999-12-31 23:59:59"}"#),
            (1185, r#"{"2024-03-01 01:30:00+02","12345-01-02 03:04:05+00"}"#),
            (3221, "{0/A}"),
            (1001, r#"{"\\x00ff",NULL}"#),
            (1020, "{(1,1),(0,0);(2,2),(1,1)}"),
            (1017, r#"{"(1,2)","(3,4)"}"#),
        ],
        expect![[r#"
            1000 {t,f,NULL} => "[1,0,null]"
            1007 {} => "[]"
            1007 {1,NULL,-3} => "[1,null,-3]"
            1007 {{1,2},{3,4}} => "[[1,2],[3,4]]"
            1007 [0:1]={5,6} => "[5,6]"
            1007 [1:1][2:3]={{5,6}} => "[[5,6]]"
            1016 {9007199254740993} => "[9007199254740993]"
            1022 {1,0.5,NaN,Infinity,1e+21} => "[1.0,0.5,null,9e999,1e+21]"
            1009 {a,"b,c","d\"e","f\\g","","NULL",NULL,"{h}"," i "} => "[\"a\",\"b,c\",\"d\\\"e\",\"f\\\\g\",\"\",\"NULL\",null,\"{h}\",\" i \"]"
            1231 {1.10,NaN} => "[\"1.10\",\"NaN\"]"
            2951 {a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11} => "[\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"]"
            3807 {"{\"a\": [1, 2]}","\"text\"",null,"null",NULL} => "[{\"a\": [1, 2]},\"text\",null,null,null]"
            1182 {1999-12-31,infinity} => "[\"1999-12-31\",\"9999-12-31\"]"
            1183 {01:02:03.5} => "[\"01:02:03.500000\"]"
            1115 {"1999-12-31 23:59:59"} => "[\"1999-12-31T23:59:59.000000\"]"
            1185 {"2024-03-01 01:30:00+02","12345-01-02 03:04:05+00"} => "[\"2024-02-29T23:30:00.000000Z\",null]"
            3221 {0/A} => "[\"00000000/0000000A\"]"
            1001 {"\\x00ff",NULL} => "[null,null]"
            1020 {(1,1),(0,0);(2,2),(1,1)} => "[\"(1,1),(0,0)\",\"(2,2),(1,1)\"]"
            1017 {"(1,2)","(3,4)"} => "[\"(1,2)\",\"(3,4)\"]"
        "#]],
    );
}

#[test]
fn malformed_arrays_are_row_errors() {
    check(
        &[
            (1007, ""),
            (1007, "{1"),
            (1007, "{1}x"),
            (1007, "{1,,2}"),
            (1007, "{x}"),
            (1009, r#"{"a}"#),
            (1009, "{{{{{{{{{{{x}}}}}}}}}}}"),
            (1009, "{{{{{{{{{{{{}}}}}}}}}}}}"),
        ],
        expect![[r#"
            1007  => s|0: a value is not as PostgreSQL prints its type
            1007 {1 => s|0: a value is not as PostgreSQL prints its type
            1007 {1}x => s|0: a value is not as PostgreSQL prints its type
            1007 {1,,2} => s|0: a value is not as PostgreSQL prints its type
            1007 {x} => s|0: a value is not as PostgreSQL prints its type
            1009 {"a} => s|0: a value is not as PostgreSQL prints its type
            1009 {{{{{{{{{{{x}}}}}}}}}}} => "[[[[[[[[[[[\"x\"]]]]]]]]]]]"
            1009 {{{{{{{{{{{{}}}}}}}}}}}} => "[[[[[[[[[[[[]]]]]]]]]]]]"
        "#]],
    );
}

#[test]
fn ranges_become_json_with_custom_types_on() {
    let values = [
        (3904, "[1,5)"),
        (3904, "empty"),
        (3904, "(,)"),
        (3906, "(1.50,)"),
        (3908, r#"["2024-01-01 00:00:00","2024-01-02 00:00:00.5"]"#),
        (3910, r#"["2024-01-01 00:00:00+01",)"#),
        (3912, "[2024-01-01,2024-02-01)"),
        (4451, "{[1,3),[5,7)}"),
        (4451, "{}"),
        (3905, r#"{"[1,3)",empty}"#),
        (6150, r#"{"{[1,3),[5,7)}","{}"}"#),
        (1020, "{(1,1),(0,0);(2,2),(1,1)}"),
    ];

    check(
        &values,
        expect![[r#"
        3904 [1,5) => "{\"lower\":1,\"upper\":5,\"lower_exclusive\":0,\"upper_exclusive\":1}"
        3904 empty => "empty"
        3904 (,) => "{\"lower\":null,\"upper\":null,\"lower_exclusive\":1,\"upper_exclusive\":1}"
        3906 (1.50,) => "{\"lower\":\"1.50\",\"upper\":null,\"lower_exclusive\":1,\"upper_exclusive\":1}"
        3908 ["2024-01-01 00:00:00","2024-01-02 00:00:00.5"] => "{\"lower\":\"2024-01-01T00:00:00.000000\",\"upper\":\"2024-01-02T00:00:00.500000\",\"lower_exclusive\":0,\"upper_exclusive\":0}"
        3910 ["2024-01-01 00:00:00+01",) => "{\"lower\":\"2023-12-31T23:00:00.000000Z\",\"upper\":null,\"lower_exclusive\":0,\"upper_exclusive\":1}"
        3912 [2024-01-01,2024-02-01) => "{\"lower\":\"2024-01-01\",\"upper\":\"2024-02-01\",\"lower_exclusive\":0,\"upper_exclusive\":1}"
        4451 {[1,3),[5,7)} => "[{\"lower\":1,\"upper\":3,\"lower_exclusive\":0,\"upper_exclusive\":1},{\"lower\":5,\"upper\":7,\"lower_exclusive\":0,\"upper_exclusive\":1}]"
        4451 {} => "[]"
        3905 {"[1,3)",empty} => "[{\"lower\":1,\"upper\":3,\"lower_exclusive\":0,\"upper_exclusive\":1},\"empty\"]"
        6150 {"{[1,3),[5,7)}","{}"} => "[[{\"lower\":1,\"upper\":3,\"lower_exclusive\":0,\"upper_exclusive\":1},{\"lower\":5,\"upper\":7,\"lower_exclusive\":0,\"upper_exclusive\":1}],[]]"
        1020 {(1,1),(0,0);(2,2),(1,1)} => "[\"(1,1),(0,0)\",\"(2,2),(1,1)\"]"
    "#]],
    );

    check_first_edition(
        &values,
        expect![[r#"
        3904 [1,5) => "[1,5)"
        3904 empty => "empty"
        3904 (,) => "(,)"
        3906 (1.50,) => "(1.50,)"
        3908 ["2024-01-01 00:00:00","2024-01-02 00:00:00.5"] => "[\"2024-01-01 00:00:00\",\"2024-01-02 00:00:00.5\"]"
        3910 ["2024-01-01 00:00:00+01",) => "[\"2024-01-01 00:00:00+01\",)"
        3912 [2024-01-01,2024-02-01) => "[2024-01-01,2024-02-01)"
        4451 {[1,3),[5,7)} => "{[1,3),[5,7)}"
        4451 {} => "{}"
        3905 {"[1,3)",empty} => "{\"[1,3)\",empty}"
        6150 {"{[1,3),[5,7)}","{}"} => "{\"{[1,3),[5,7)}\",\"{}\"}"
        1020 {(1,1),(0,0);(2,2),(1,1)} => "[\"(1\",\"1)\",\"(0\",\"0);(2\",\"2)\",\"(1\",\"1)\"]"
    "#]],
    );

    check(
        &[(3904, "[1,5"), (3904, "1,5"), (4451, "[1,3)"), (4451, "{[1,3),}")],
        expect![[r#"
        3904 [1,5 => s|0: a value is not as PostgreSQL prints its type
        3904 1,5 => s|0: a value is not as PostgreSQL prints its type
        4451 [1,3) => s|0: a value is not as PostgreSQL prints its type
        4451 {[1,3),} => s|0: a value is not as PostgreSQL prints its type
    "#]],
    );
}

#[test]
fn null_is_null() {
    let config = compile(&stream("SELECT * FROM t"));
    let types = [BOOL, 17, 20, 25, 114, 701, DATE, TIMESTAMPTZ, 1007, 3904];
    let columns = types.iter().map(|oid| Column { name: format!("c{oid}"), type_oid: *oid });
    let id = Column { name: "id".to_owned(), type_oid: 25 };
    let table = TableSchema {
        schema: "public".to_owned(),
        name: "t".to_owned(),
        columns: std::iter::once(id).chain(columns).collect(),
        types: PgTypes::default(),
    };
    let evaluator = config.bind(&table).unwrap().unwrap();
    let mut out = RowOutput::default();

    evaluator.evaluate(&[&[Some("1")], vec![None; types.len()].as_slice()].concat(), &mut out);
    expect![[r#"{"id":"1","c16":null,"c20":null,"c25":null,"c114":null,"c701":null,"c1082":null,"c1184":null,"c1007":null,"c3904":null}"#]].assert_eq(out.buckets().next().unwrap().data);
}
