//! Expressions: operators, functions, and what they make of values.

mod json;

use crate::tests::expressions::{JAVASCRIPT, SQLITE, check, check_both, check_each, earlier_value};
use crate::tests::{definition, refused, row, stream};

/// Each expression has its value in both engines, and in both editions before there were two.
fn check_all(cases: &[(&str, &str)]) {
    check(cases);
    check_earlier(cases);
}

/// Each expression has its value in editions 1 and 2.
fn check_earlier(cases: &[(&str, &str)]) {
    for (expression, expected) in cases {
        for edition in [1, 2] {
            let found = earlier_value(edition, expression);
            assert_eq!(found, *expected, "{expression} (edition {edition})");
        }
    }
}

/// Each expression has one value in JavaScript's engine, which is that of earlier editions too, and
/// another in SQLite's.
fn check_engines(cases: &[(&str, &str, &str)]) {
    check_both(cases);
    for (expression, javascript, _) in cases {
        check_earlier(&[(expression, javascript)]);
    }
}

/// Each expression is refused, in a stream and in a bucket definition, for a reason.
fn check_refused(cases: &[(&str, &str)]) {
    for (expression, reason) in cases {
        let query = format!("SELECT id, {expression} AS v FROM t");
        for yaml in [stream(&query), definition(&[], &[&query])] {
            let found = refused(&yaml);
            assert!(found.contains(reason), "{expression}: {found}");
        }
    }
}

#[test]
fn values_are_null_integers_reals_texts_and_blobs() {
    check_all(&[
        ("typeof(n)", "\"null\""),
        ("typeof(i)", "\"integer\""),
        ("typeof(r)", "\"real\""),
        ("typeof(s)", "\"text\""),
        ("typeof(b)", "\"blob\""),
        ("typeof(TRUE)", "\"integer\""),
        ("typeof(7 = 7)", "\"integer\""),
    ]);
    check_refused(&[("B'101'", "unexpected `'101'`"), ("X'61'", "this kind of literal")]);
}

#[test]
fn a_cast_is_to_text_numeric_integer_real_or_blob() {
    check_all(&[
        ("CAST(i AS text)", "\"7\""),
        ("CAST('12abc' AS numeric)", "12"),
        ("CAST('0.5' AS numeric)", "0.5"),
        ("CAST('-1.5xyz' AS integer)", "-1"),
        ("CAST(' 7' AS integer)", "7"),
        ("CAST('abc' AS integer)", "0"),
        ("CAST('abc' AS real)", "0.0"),
        ("CAST('1e3' AS integer)", "1"),
        ("CAST('1e3' AS real)", "1000.0"),
        ("i::text", "\"7\""),
        ("CAST('ab' AS blob)", "a blob"),
        ("CAST(n AS integer)", "null"),
    ]);
    for to in ["boolean", "varchar", "date", "jsonb", "uuid", "double precision"] {
        check_refused(&[(&format!("i::{to}"), "a cast to this type is not supported")]);
    }
}

/// A text with a point or an exponent stays a real in JavaScript's engine.
#[test]
fn a_cast_to_integer_rounds_down_and_one_to_numeric_keeps_reals() {
    check_engines(&[
        ("CAST(0 - r AS integer)", "-3", "-2"),
        ("CAST('2.0' AS numeric)", "2.0", "2"),
        ("CAST('1e3' AS numeric)", "1000.0", "1000"),
        ("typeof(CAST('2.0' AS numeric))", "\"real\"", "\"integer\""),
    ]);
    check_all(&[("CAST(r * 2 AS numeric)", "5.0"), ("CAST('12' AS numeric)", "12")]);
}

#[test]
fn a_comparison_with_null_is_null() {
    check_all(&[
        ("i = n", "null"),
        ("n = NULL", "null"),
        ("n < 1", "null"),
        ("1 >= n", "null"),
        ("n IS NULL", "1"),
        ("i IS NULL", "0"),
        ("i IS NOT NULL", "1"),
        ("i NOTNULL", "1"),
        ("0 = i NOTNULL", "0"),
        ("n IN '[1]'", "null"),
        ("i + n", "null"),
        ("s || n", "null"),
    ]);
}

/// In earlier editions, and in SQLite's engine, it is as the other comparisons.
#[test]
fn from_edition_three_unequal_is_not_equal_and_true_of_null() {
    for unequal in ["!=", "<>"] {
        check_both(&[
            (&format!("i {unequal} n"), "1", "null"),
            (&format!("n {unequal} NULL"), "1", "null"),
            (&format!("NOT (i {unequal} n)"), "0", "null"),
            (&format!("i {unequal} 7"), "0", "0"),
            (&format!("i {unequal} 7.0"), "0", "0"),
            (&format!("s {unequal} 'x'"), "1", "1"),
        ]);
        check_earlier(&[
            (&format!("i {unequal} n"), "null"),
            (&format!("NOT (i {unequal} n)"), "1"),
            (&format!("i {unequal} 8"), "1"),
        ]);
        let yaml = stream(&format!("SELECT id FROM t WHERE NOT (s {unequal} auth.user_id())"));
        assert_eq!(row(&yaml, "t(id text, s text)", "1|x"), "s|0[\"x\"] t/1 {\"id\":\"1\"}\n");
        let earlier = format!("SELECT id FROM t WHERE NOT (s {unequal} bucket.u)");
        let earlier = definition(&["SELECT request.user_id() AS u"], &[&earlier]);
        assert!(refused(&earlier).contains("can only be compared"), "{unequal}");
        let found = |yaml: &str| row(yaml, "t(id text, state text)", "1|~").lines().count();
        let query = format!("SELECT id FROM t WHERE state {unequal} 'done'");
        assert_eq!(found(&stream(&query)), 1, "{query}");
        assert_eq!(found(&stream(&query).replace(JAVASCRIPT, SQLITE)), 0, "{query}");
        assert_eq!(found(&definition(&[], &[&query])), 0, "{query}");
    }
}

#[test]
fn not_null_is_true_and_null_is_false_in_and_and_or() {
    check_engines(&[
        ("NOT n", "1", "null"),
        ("n AND 1", "0", "null"),
        ("n OR 0", "0", "null"),
        ("NOT (n AND 1)", "1", "null"),
        ("NOT (n IN '[1]')", "1", "null"),
    ]);
    check_all(&[("n OR 1", "1"), ("n AND 0", "0")]);
}

/// Reals are true unless they are 0; texts by their whole number, blobs never.
#[test]
fn the_truth_of_a_text_is_that_of_its_whole_number() {
    check_engines(&[
        ("NOT '0.5'", "1", "0"),
        ("NOT '.5'", "1", "0"),
        ("iif('-0.9', 'y', 'n')", "\"n\"", "\"y\""),
        ("1 AND '0.5'", "0", "1"),
        ("0 OR '0.5'", "0", "1"),
        ("NOT CAST('12' AS blob)", "1", "0"),
    ]);
    check_all(&[
        ("NOT r", "0"),
        ("NOT 0.5", "0"),
        ("NOT '1.0'", "0"),
        ("NOT ' 5x'", "0"),
        ("NOT 'abc'", "1"),
        ("NOT ''", "1"),
    ]);
    check_both(&[("CASE WHEN '0.5' THEN 1 ELSE 2 END", "2", "1")]);
    let yaml = stream("SELECT id FROM t WHERE s");
    assert_eq!(row(&yaml, "t(id text, s text)", "1|0.5"), "");
    assert_eq!(row(&yaml, "t(id text, s text)", "1|1.5"), "s|0[] t/1 {\"id\":\"1\"}\n");
}

#[test]
fn upper_and_lower_know_all_letters() {
    check_all(&[
        ("upper('straße')", "\"STRASSE\""),
        ("lower('ÀÉ')", "\"àé\""),
        ("lower('İ')", "\"i\u{307}\""),
        ("upper(b)", "\"AÉ\""),
        ("upper(r * 2)", "\"5\""),
        ("upper(n)", "null"),
    ]);
    check_refused(&[("upper(s, s)", "takes 1 argument"), ("upper()", "takes 1 argument")]);
}

#[test]
fn length_and_substring_count_utf_16_units() {
    check_engines(&[
        ("length('a😀')", "3", "2"),
        ("instr('😀b', 'b')", "3", "2"),
        ("substring('😀b', 3)", "\"b\"", "\"\""),
    ]);
    check_all(&[("length(i)", "1"), ("length(n)", "null"), ("length(b)", "3")]);
}

#[test]
fn a_substring_never_begins_before_the_start_of_its_text() {
    check_engines(&[
        ("substring('abc', -5, 3)", "\"abc\"", "\"a\""),
        ("substring('abc', -4, 2)", "\"ab\"", "\"a\""),
        ("substring('abc', -5, 1)", "\"a\"", "\"\""),
    ]);
    check_all(&[
        ("substring('abc', -5)", "\"abc\""),
        ("substring('abc', -5, -1)", "\"\""),
        ("substring('abc', -2, 1)", "\"b\""),
        ("substring('abc', 0, 2)", "\"a\""),
        ("substring('abc', 3, -2)", "\"ab\""),
        ("substring('abc' FROM 2 FOR 1)", "\"b\""),
        ("substring('abc' FROM 2)", "\"bc\""),
        ("substring('abc' FOR 2)", "\"ab\""),
    ]);
    check_refused(&[("substring('abc')", "`substring` takes 2 or 3 arguments, not 1")]);
}

/// As JavaScript prints a number; SQLite says of a whole one that it is a real.
#[test]
fn the_text_of_a_whole_real_is_that_of_its_integer() {
    check_engines(&[
        ("r * 2 || ''", "\"5\"", "\"5.0\""),
        ("CAST(r * 2 AS text)", "\"5\"", "\"5.0\""),
        ("length(r * 2)", "1", "3"),
        ("hex(r * 2)", "\"35\"", "\"352E30\""),
        ("base64(r * 2)", "\"NQ==\"", "\"NS4w\""),
        ("instr('15', r * 2)", "2", "0"),
        ("substring(r * 2, 1, 2)", "\"5\"", "\"5.\""),
        ("(r * 2) ->> '$'", "5", "5.0"),
    ]);
    check_all(&[
        ("r || ''", "\"2.5\""),
        ("r * 2", "5.0"),
        ("0.1 + 0.2 || ''", "\"0.30000000000000004\""),
    ]);
    let yaml = stream("SELECT id FROM t WHERE CAST(r AS text) = auth.user_id()");
    assert_eq!(row(&yaml, "t(id text, r float8)", "1|2"), "s|0[\"2\"] t/1 {\"id\":\"1\"}\n");
}

#[test]
fn hex_and_base64_of_null_are_empty() {
    check_all(&[
        ("hex(n)", "\"\""),
        ("base64(n)", "\"\""),
        ("hex(b)", "\"61C3A9\""),
        ("base64(b)", "\"YcOp\""),
        ("hex('é')", "\"C3A9\""),
    ]);
}

#[test]
fn uuid_blob_of_what_is_no_uuid_is_an_error_of_the_row() {
    check_all(&[
        ("uuid_blob(n)", "null"),
        ("uuid_blob('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')", "a blob"),
        ("uuid_blob(s)", "a value is not a UUID"),
    ]);
}

#[test]
fn integers_stay_integers_and_division_by_zero_is_null() {
    check_all(&[
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("7 / 2.0", "3.5"),
        ("i / 0", "null"),
        ("i / 0.0", "null"),
        ("r / 0", "null"),
        ("typeof(i * 2)", "\"integer\""),
        ("typeof(i * 2.0)", "\"real\""),
        ("9007199254740993 + 0", "9007199254740993"),
    ]);
}

#[test]
fn texts_are_numbers_by_their_prefix() {
    check_all(&[
        ("'12abc' + 1", "13"),
        ("'abc' + 1", "1"),
        ("' 7' * 2", "14"),
        ("'1e3' + 1", "1001.0"),
        ("'.5' + 0", "0.5"),
        ("'+3' - 1", "2"),
    ]);
}

#[test]
fn times_have_no_modifiers_but_unixepoch_and_subsec() {
    check_all(&[
        ("datetime('2023-03-06')", "\"2023-03-06 00:00:00\""),
        ("datetime(0, 'unixepoch')", "\"1970-01-01 00:00:00\""),
        ("datetime(0.5, 'unixepoch', 'subsec')", "\"1970-01-01 00:00:00.500\""),
        ("unixepoch('1970-01-02', 'subsecond')", "86400.0"),
        ("unixepoch(n)", "null"),
    ]);
    check_refused(&[
        ("datetime('now')", "`now` is not supported"),
        ("datetime(s, '+1 day')", "the modifier `+1 day` is not supported"),
        ("datetime(s, 'auto')", "the modifier `auto` is not supported"),
        ("unixepoch(i, 'subsec', 'unixepoch')", "the modifier `unixepoch` is not supported"),
        ("unixepoch(i, s)", "a modifier must be a text in quotes"),
    ]);
}

#[test]
fn lookup_keys_and_buckets_have_whole_reals_as_integers() {
    let yaml = stream("SELECT id FROM t WHERE r = auth.parameter('x')");
    assert_eq!(row(&yaml, "t(id text, r float8)", "1|2"), "s|0[2] t/1 {\"id\":\"1\"}\n");
    assert_eq!(row(&yaml, "t(id text, r float8)", "1|2.5"), "s|0[2.5] t/1 {\"id\":\"1\"}\n");
    let yaml = definition(
        &["SELECT id AS t_id FROM t WHERE r = request.parameter('x') AND id = request.user_id()"],
        &["SELECT id FROM u WHERE t_id = bucket.t_id"],
    );
    assert_eq!(row(&yaml, "t(id float8, r float8)", "3|2"), "lookup 0 [2,3] -> [3]\n");
}

#[test]
fn texts_are_joined_as_numbers_are_added() {
    check_all(&[
        ("1 || 2 + 3", "15"),
        ("1 + 2 || 3", "\"33\""),
        ("1 || 2 - 3", "9"),
        ("2 || 3 * 2", "\"26\""),
        ("1 || 2 = '12'", "1"),
    ]);
}

#[test]
fn equality_is_the_loosest_comparison_and_is_null_the_next() {
    check_all(&[
        ("0 = 2 IS NULL", "1"),
        ("5 = 1 IS NOT NULL", "0"),
        ("0 = 1 < 0", "1"),
        ("-1 < 2 IS NULL", "0"),
        ("1 + n IS NULL", "1"),
        ("NOT n IS NULL", "0"),
        ("NOT 1 = 0", "1"),
        ("1 = 5 IN '[5]'", "1"),
        ("n IS NULL = 1", "1"),
    ]);
    check(&[
        ("1 <> 2 IS NULL", "1"),
        ("0 = 2 BETWEEN 3 AND 4", "1"),
        ("3 BETWEEN 3 AND 4 IS NULL", "0"),
    ]);
}

#[test]
fn shifts_are_looser_than_the_other_operators_of_bits() {
    check(&[
        ("4 << 1 | 1", "8"),
        ("4 << 1 & 1", "8"),
        ("1 | 4 << 1", "10"),
        ("1 << 1 || 1", "2048"),
        ("1 << 2 - 1", "2"),
        ("1 & 3 || 2", "0"),
        ("1 | 2 & 4", "0"),
        ("2 << 1 < 5", "1"),
    ]);
}
