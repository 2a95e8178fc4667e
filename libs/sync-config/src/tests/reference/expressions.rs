//! Expressions: operators, functions, and conversions.

mod json;

use crate::tests::expressions::{JAVASCRIPT, SQLITE, check, check_both, check_each, earlier_value};
use crate::tests::{definition, refused, row, stream};

/// Checks each expression in both engines, and in editions 1 and 2.
fn check_all(cases: &[(&str, &str)]) {
    check(cases);
    check_earlier(cases);
}

/// Checks each expression in editions 1 and 2.
fn check_earlier(cases: &[(&str, &str)]) {
    for (expression, expected) in cases {
        for edition in [1, 2] {
            let found = earlier_value(edition, expression);
            assert_eq!(found, *expected, "{expression} (edition {edition})");
        }
    }
}

/// Checks each expression: the second value is the default engine's, and of editions 1 and 2, the
/// third SQLite's.
fn check_engines(cases: &[(&str, &str, &str)]) {
    check_both(cases);
    for (expression, javascript, _) in cases {
        check_earlier(&[(expression, javascript)]);
    }
}

/// Checks that each expression is rejected for a reason, in a stream and in a bucket definition.
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
fn literals_are_null_integers_reals_texts_and_blobs() {
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

/// The default engine converts a text with a point or an exponent to a real.
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

fn row_count(yaml: &str) -> usize {
    row(yaml, "t(id text, state text)", "1|~").lines().count()
}

/// Earlier editions, and SQLite's engine, compare `!=` like the other operators.
#[test]
fn from_edition_three_unequal_is_the_negation_of_equal_and_true_for_null() {
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

        let query = format!("SELECT id FROM t WHERE state {unequal} 'done'");
        assert_eq!(row_count(&stream(&query)), 1, "{query}");
        assert_eq!(row_count(&stream(&query).replace(JAVASCRIPT, SQLITE)), 0, "{query}");
        assert_eq!(row_count(&definition(&[], &[&query])), 0, "{query}");
    }
}

#[test]
fn null_is_false_in_and_and_or_and_true_after_not() {
    check_engines(&[
        ("NOT n", "1", "null"),
        ("n AND 1", "0", "null"),
        ("n OR 0", "0", "null"),
        ("NOT (n AND 1)", "1", "null"),
        ("NOT (n IN '[1]')", "1", "null"),
    ]);
    check_all(&[("n OR 1", "1"), ("n AND 0", "0")]);
}

/// Reals are true unless they are 0. A text counts as its leading integer, a blob is false.
#[test]
fn the_truth_of_a_text_is_that_of_its_leading_integer() {
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
fn upper_and_lower_convert_all_letters() {
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
fn a_substring_start_is_clamped_to_the_start_of_the_text() {
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

/// JavaScript prints a whole real as an integer. SQLite adds `.0`.
#[test]
fn a_whole_real_prints_like_its_integer() {
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
fn uuid_blob_of_an_invalid_uuid_is_a_row_error() {
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
fn texts_convert_to_numbers_by_their_prefix() {
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
fn time_functions_accept_only_unixepoch_and_subsec() {
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
fn whole_reals_are_integers_in_lookup_keys_and_bucket_names() {
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
fn concatenation_has_the_precedence_of_addition() {
    check_all(&[
        ("1 || 2 + 3", "15"),
        ("1 + 2 || 3", "\"33\""),
        ("1 || 2 - 3", "9"),
        ("2 || 3 * 2", "\"26\""),
        ("1 || 2 = '12'", "1"),
    ]);
}

#[test]
fn equality_binds_loosest_and_is_null_next() {
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
fn shifts_bind_looser_than_the_other_bit_operators() {
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
