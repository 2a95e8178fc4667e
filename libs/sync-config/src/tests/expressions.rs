//! Operators and functions in both engines.

mod engines;
mod geometry;
mod operators;
mod times;

use super::{definition, refused, row, stream};

const SPEC: &str = "t(id text, i int8, r float8, s text, n text, j json, b bytea)";
const VALUES: &str = r#"1|7|2.5|aßÉ😀|~|{"k": [1, 2.0, "x"]}|\x61c3a9"#;

pub(super) const JAVASCRIPT: &str = "edition: 3";
pub(super) const SQLITE: &str = "edition: 3\n  unstable_sqlite_expression_engine: true";

/// Returns the value of an expression over the row as JSON, or the error.
fn value(options: &str, expression: &str) -> String {
    let yaml = stream(&format!("SELECT id, {expression} AS v FROM t"));
    let text = row(&yaml.replace("edition: 3", options), SPEC, VALUES);
    let text = text.trim_end();
    if let Some((_, error)) = text.split_once("error s|0: ") {
        return error.to_owned();
    }
    let data = text.strip_prefix(r#"s|0[] t/1 {"id":"1""#).unwrap().strip_suffix('}').unwrap();
    data.strip_prefix(r#","v":"#).unwrap_or("a blob").to_owned()
}

/// Returns the value of an expression in a data query of an edition before 3.
pub(super) fn earlier_value(edition: u8, expression: &str) -> String {
    let yaml = definition(&[], &[&format!("SELECT id, {expression} AS v FROM t")]);
    let text = row(&yaml.replace("edition: 2", &format!("edition: {edition}")), SPEC, VALUES);
    let text = text.trim_end();
    if let Some((_, error)) = text.split_once("error b: ") {
        return error.to_owned();
    }
    let data = text.strip_prefix(r#"b[] t/1 {"id":"1""#).unwrap().strip_suffix('}').unwrap();
    data.strip_prefix(r#","v":"#).unwrap_or("a blob").to_owned()
}

/// Checks each expression in both engines.
pub(super) fn check(cases: &[(&str, &str)]) {
    check_each(JAVASCRIPT, cases);
    check_each(SQLITE, cases);
}

pub(super) fn check_each(options: &str, cases: &[(&str, &str)]) {
    for (expression, expected) in cases {
        assert_eq!(value(options, expression), *expected, "{expression} ({options})");
    }
}

/// Checks each expression: the second value is the default engine's, the third SQLite's.
pub(super) fn check_both(cases: &[(&str, &str, &str)]) {
    for (expression, javascript, sqlite) in cases {
        assert_eq!(value(JAVASCRIPT, expression), *javascript, "{expression}");
        assert_eq!(value(SQLITE, expression), *sqlite, "{expression} (SQLite)");
    }
}

#[test]
fn earlier_editions_reject_newer_operators_and_functions() {
    for (name, expression) in [
        ("BETWEEN", "i BETWEEN 1 AND 2"),
        ("BETWEEN", "i NOT BETWEEN 1 AND 2"),
        ("CASE", "CASE i WHEN 1 THEN 2 END"),
        ("CASE", "CASE WHEN i THEN 2 END"),
        ("IS TRUE", "i IS TRUE"),
        ("IS TRUE", "i IS NOT FALSE"),
        ("IS DISTINCT FROM", "i IS DISTINCT FROM 1"),
        ("LIKE", "s LIKE 'x'"),
        ("LIKE", "s NOT ILIKE 'x'"),
        ("ARRAY", "i IN ARRAY[1]"),
        ("ARRAY", "i NOT IN ROW(1)"),
        ("-", "-i"),
        ("+", "+i"),
        ("%", "i % 2"),
        ("&", "i & 2"),
        ("|", "i | 2"),
        ("<<", "i << 2"),
        (">>", "i >> 2"),
        ("coalesce", "coalesce(i, 1)"),
        ("nullif", "nullif(i, 1)"),
        ("abs", "abs(i)"),
        ("round", "round(r)"),
        ("trim", "trim(s)"),
        ("ltrim", "TRIM(LEADING 'x' FROM s)"),
        ("rtrim", "rtrim(s)"),
        ("replace", "replace(s, 'a', 'b')"),
    ] {
        let query = format!("SELECT id, ({expression}) AS v FROM t");
        let found = refused(&definition(&[], &[&query]));
        assert!(found.contains(&format!("`{name}` requires edition 3")), "{expression}: {found}");
        assert!(found.starts_with("7:"), "{expression}: {found}");
        assert_eq!(refused(&stream(&query)), "accepted\n", "{expression}");

        let query = format!("SELECT id FROM t WHERE i = 1 AND NOT ({expression})");
        assert!(
            refused(&definition(&[], &[&query])).contains("requires edition 3"),
            "{expression}"
        );
    }
}

#[test]
fn earlier_editions_have_the_documented_functions() {
    let query = "SELECT id, -5 AS a, json_valid(j) AS b, unixepoch(s) AS c, datetime(i, 'unixepoch') AS d, \
                 hex(uuid_blob(n)) AS e, ST_AsGeoJSON(n) AS f, st_astext(n) AS g, ST_X(n) AS h, \
                 ST_Y(n) AS k, i && j AS l, substring(s FROM 2 FOR 1) AS m FROM t";
    for edition in ["edition: 1", "edition: 2"] {
        let yaml = definition(&[], &[query]).replace("edition: 2", edition);
        assert_eq!(refused(&yaml), "accepted\n");
    }
}

#[test]
fn the_size_of_computed_values_is_limited() {
    // Joining 16 times 16 texts of 64 KiB gives 16 MiB.
    let long = format!("replace(substring('{0}', 1, 16), 'a', '{0}')", "a".repeat(4096));
    let longer = format!("replace('{}', 'a', {long})", "a".repeat(256));

    check(&[
        (&format!("length({long})"), "65536"),
        (&format!("length({longer})"), "16777216"),
        (&format!("length({longer} || '')"), "16777216"),
        (&format!("length({longer} || 'a')"), "the result of an expression is longer than 16 MiB"),
        (
            &format!("replace({longer}, 'a', 'aa')"),
            "the result of an expression is longer than 16 MiB",
        ),
        // A text of 256 TiB is rejected before it is allocated.
        (
            &format!("replace({longer}, 'a', {longer})"),
            "the result of an expression is longer than 16 MiB",
        ),
        (&format!("hex({longer})"), "the result of an expression is longer than 16 MiB"),
    ]);

    // Columns are borrowed and have no limit.
    let column = "a".repeat(16 * 1024 * 1024 + 1);
    let yaml = stream("SELECT id, length(ifnull(s, 1)) AS a, length(substring(s, 1)) AS b FROM t");
    let found = row(&yaml, "t(id text, s text)", &format!("1|{column}"));
    assert_eq!(found, "s|0[] t/1 {\"id\":\"1\",\"a\":16777217,\"b\":16777217}\n");

    // LIKE tries the whole pattern at each position of the text.
    let text = format!("replace('{0}', 'a', '{0}')", "a".repeat(512));
    let pattern = format!("%{}b%", "a".repeat(4096));

    check_each(
        JAVASCRIPT,
        &[
            (&format!("{text} LIKE '{}'", "%a".repeat(1000)), "1"),
            (
                &format!("{text} LIKE '{pattern}'"),
                "a text takes more than 10000000 steps to compare with LIKE",
            ),
        ],
    );
}
