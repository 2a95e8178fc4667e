//! Differences between the two expression engines, and that no other part of the file differs.

use super::*;
use crate::tests::compile;

/// Returns how many rows satisfy the condition: 0 or 1.
fn rows_with_condition(options: &str, condition: &str) -> usize {
    let yaml = stream(&format!("SELECT id FROM t WHERE {condition}"));
    row(&yaml.replace("edition: 3", options), SPEC, VALUES).lines().count()
}

#[test]
fn null_is_false_in_the_default_engine_and_unknown_in_sqlite() {
    check_both(&[
        ("NOT n", "1", "null"),
        ("NOT (n = 1)", "1", "null"),
        ("n AND 1", "0", "null"),
        ("n AND 0", "0", "0"),
        ("0 AND n", "0", "0"),
        ("n OR 0", "0", "null"),
        ("n OR 1", "1", "1"),
        ("n NOT IN (1, 2)", "1", "null"),
        ("s NOT LIKE 'x'", "1", "1"),
        ("n NOT LIKE 'x'", "1", "null"),
        ("n IN '[1]' OR 0", "0", "null"),
        ("json_valid(n)", "0", "null"),
    ]);

    for condition in ["NOT n", "n NOT IN (1)", "NOT (n OR 0)", "NOT (n = 1 AND i = 7)"] {
        assert_eq!(rows_with_condition(JAVASCRIPT, condition), 1, "{condition}");
        assert_eq!(rows_with_condition(SQLITE, condition), 0, "{condition}");
    }
}

#[test]
fn texts_count_utf_16_units_or_characters() {
    check_both(&[
        ("length(s)", "5", "4"),
        ("length(b)", "3", "3"),
        ("instr(s || 'x', 'x')", "6", "5"),
        ("instr(b, 'é')", "2", "2"),
        ("substring(s, 4)", "\"😀\"", "\"😀\""),
        ("substring(s, 5)", "\"\u{fffd}\"", "\"\""),
        ("substring(s, -1)", "\"\u{fffd}\"", "\"😀\""),
        ("substring(s, 2, 2)", "\"ßÉ\"", "\"ßÉ\""),
        ("substring(s, 2, 1.9)", "\"ß\"", "\"ß\""),
        ("substring('abc', -1.5, 1)", "\"b\"", "\"c\""),
        ("substring(b, 1, 2)", "\"aé\"", "a blob"),
        ("hex(substring(b, 2, 2))", "\"C3A9\"", "\"C3A9\""),
        ("hex(substring(b, 2, 1))", "\"C3A9\"", "\"C3\""),
    ]);
}

#[test]
fn casts_to_integer_round_down_or_towards_zero() {
    check_both(&[
        ("CAST(-2.5 AS integer)", "-3", "-2"),
        ("CAST(2.5 AS integer)", "2", "2"),
        ("(-0.5)::int", "-1", "0"),
        ("CAST('-2.5' AS integer)", "-2", "-2"),
        ("CAST('1e19' AS numeric)", "10000000000000000000.0", "10000000000000000000.0"),
        ("CAST('1e18' AS numeric)", "1000000000000000000.0", "1000000000000000000.0"),
        ("CAST('1e2' AS numeric)", "100.0", "100"),
    ]);
}

/// SQLite's CAST gives its operand an affinity, which converts the other side of a comparison.
#[test]
fn comparisons_apply_the_affinity_of_a_cast_only_in_sqlite() {
    check_both(&[
        ("CAST(i AS text) = 7", "0", "1"),
        ("CAST(i AS text) IN (7, 8)", "0", "1"),
        ("CASE CAST(i AS text) WHEN 7 THEN 1 ELSE 0 END", "0", "1"),
        ("CAST(i AS text) BETWEEN 7 AND 7", "0", "1"),
        ("CAST(i AS text) IS NOT DISTINCT FROM 7", "0", "1"),
        ("'7' = CAST(i AS integer)", "0", "1"),
        ("' 7.0 ' = CAST(i AS real)", "0", "1"),
        ("'7x' = CAST(i AS real)", "0", "0"),
        ("CAST(i AS text) = CAST(i AS blob)", "0", "0"),
        ("+CAST(i AS text) = 7", "0", "0"),
        ("i = '7'", "0", "0"),
    ]);
}

#[test]
fn only_sqlite_skips_operands_that_cannot_matter() {
    let error = "a value is not valid JSON, or is nested more than 1000 levels deep";
    check_both(&[
        ("iif(json_valid(s), s -> 'x', 'none')", error, "\"none\""),
        ("ifnull(i, s -> 'x')", error, "7"),
    ]);
}

#[test]
fn other_parts_of_the_file_are_the_same_in_both_engines() {
    check(&[
        ("hex(n)", "\"\""),
        ("base64(n)", "\"\""),
        ("1e21 || ''", "\"1e+21\""),
        ("0.1 + 0.2 || ''", "\"0.30000000000000004\""),
        ("upper(s)", "\"ASSÉ😀\""),
        ("lower(s)", "\"aßé😀\""),
        ("i / 0", "null"),
        ("r / 0.0", "null"),
        ("9223372036854775807 + 1", "9223372036854776000.0"),
        ("typeof(uuid_blob('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'))", "\"blob\""),
        (
            "hex(uuid_blob('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'))",
            "\"A0EEBC999C0B4EF8BB6D6BB9BD380A11\"",
        ),
        ("uuid_blob('a0eebc999c0b4ef8bb6d6bb9bd380a11')", "a value is not a UUID"),
        ("uuid_blob('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g')", "a value is not a UUID"),
        ("uuid_blob('a0eebc999-c0b-4ef8-bb6d-6bb9bd380a11')", "a value is not a UUID"),
        ("uuid_blob('')", "a value is not a UUID"),
        ("uuid_blob(i)", "a value is not a UUID"),
        ("uuid_blob(n)", "null"),
        ("json_valid(j)", "1"),
        ("json_valid('{')", "0"),
        ("json_valid(3)", "1"),
        ("json_valid('TRUE')", "0"),
    ]);
}

#[test]
fn the_engine_is_part_of_every_hash() {
    let yaml = stream("SELECT id FROM t WHERE a IN (SELECT b FROM u WHERE c = auth.user_id())");
    let one = compile(&yaml);
    let other = compile(&yaml.replace(JAVASCRIPT, SQLITE));
    let off = SQLITE.replace("true", "false");
    let same = compile(&yaml.replace(JAVASCRIPT, &off));
    assert_ne!(one.definitions()[0].hash, other.definitions()[0].hash);
    assert_ne!(one.lookups()[0].hash, other.lookups()[0].hash);
    assert_eq!(one.definitions()[0].hash, same.definitions()[0].hash);
    assert_eq!(one.lookups()[0].hash, same.lookups()[0].hash);
}

fn is_granted(yaml: &str) -> bool {
    crate::tests::granted(yaml, "{}", &[]).contains("s|0[] priority")
}

#[test]
fn requests_are_evaluated_by_the_same_engine() {
    let yaml = stream("SELECT id FROM t WHERE NOT auth.parameter('guest')");
    let yaml = yaml.replace("  s:\n", "  s:\n    auto_subscribe: true\n");
    assert!(is_granted(&yaml));
    assert!(!is_granted(&yaml.replace(JAVASCRIPT, SQLITE)));
}
