//! JSON: members, paths, and arrays after IN.

use super::*;

#[test]
fn json_members_are_extracted_as_json_or_as_values() {
    check_all(&[
        ("j -> 'k'", "\"[1,2.0,\\\"x\\\"]\""),
        ("j ->> 'k'", "\"[1,2.0,\\\"x\\\"]\""),
        ("'{\"a\": \"x\"}' -> 'a'", "\"\\\"x\\\"\""),
        ("'{\"a\": \"x\"}' ->> 'a'", "\"x\""),
        ("'{\"a\": true}' ->> 'a'", "1"),
        ("'{\"a\": false}' ->> 'a'", "0"),
        ("j ->> 'missing'", "null"),
        ("n ->> 'k'", "null"),
        ("s ->> 'k'", "a value is not valid JSON, or is nested more than 1000 levels deep"),
    ]);
    check_engines(&[("'null' -> '$'", "null", "\"null\"")]);
}

fn bucket_count(options: &str, expression: &str) -> usize {
    let query = format!("SELECT {expression} AS u");
    let yaml = definition(&[&query], &["SELECT id FROM t WHERE s = bucket.u"]);
    let request = r#"{"claims": {"a": null}, "parameters": {"a": null}}"#;
    let granted = crate::tests::granted(&yaml.replace("edition: 2", options), request, &[]);
    granted.lines().filter(|line| line.starts_with("b[")).count()
}

/// With `fixed_json_extract` off, `->>` of a JSON null is the text `null`, and `->` is NULL.
#[test]
fn json_null_is_null_unless_fixed_json_extract_is_off() {
    let null = "'{\"a\": {\"b\": null}}'";
    for (rest, fixed, before) in [
        ("->> '$.a.b'", "null", "\"null\""),
        ("-> '$.a.b'", "\"null\"", "null"),
        ("->> '$.a.b' IS NULL", "1", "0"),
        ("->> '$.a.c'", "null", "null"),
    ] {
        let expression = format!("{null} {rest}");
        check(&[(&expression, fixed)]);
        assert_eq!(earlier_value(2, &expression), fixed, "{expression}");
        assert_eq!(earlier_value(1, &expression), before, "{expression}");
    }

    let expression = format!("json_extract({null}, '$.a.b')");
    assert_eq!(earlier_value(2, &expression), "null");
    assert_eq!(earlier_value(1, &expression), "\"null\"");

    for options in ["edition: 1", "edition: 2\n  fixed_json_extract: false"] {
        assert_eq!(bucket_count(options, "request.jwt() ->> 'a'"), 1, "{options}");
        assert_eq!(bucket_count(options, "request.jwt() -> 'a'"), 0, "{options}");
        assert_eq!(bucket_count(options, "request.parameter('a')"), 0, "{options}");
    }

    assert_eq!(bucket_count("edition: 2", "request.jwt() ->> 'a'"), 0);
}

#[test]
fn paths_are_split_at_dots_after_a_dollar_or_always_in_edition_one() {
    let nested = "'{\"a\": {\"b\": 1}, \"a.b\": 2}'";
    check(&[
        (&format!("{nested} ->> 'a.b'"), "2"),
        (&format!("{nested} ->> '$.a.b'"), "1"),
        (&format!("{nested} ->> '$' IS NULL"), "0"),
    ]);
    for (edition, path, expected) in
        [(2, "a.b", "2"), (2, "$.a.b", "1"), (1, "a.b", "1"), (1, "$.a.b", "1")]
    {
        let found = earlier_value(edition, &format!("{nested} ->> '{path}'"));
        assert_eq!(found, expected, "{path} (edition {edition})");
    }
    check_earlier(&[("'[ 1 ]' -> '$'", "\"[1]\"")]);
}

#[test]
fn a_path_has_names_and_a_number_addresses_an_element() {
    check_each(JAVASCRIPT, &[("j ->> '$.k.0'", "1"), ("j -> 'k' ->> '2'", "\"x\"")]);
    check_earlier(&[("j ->> '$.k.0'", "1"), ("j -> 'k' ->> 2", "\"x\"")]);
    check_refused(&[
        ("j ->> '$.k[0]'", "the path `$.k[0]` is not supported"),
        ("j ->> '$[0]'", "the path `$[0]` is not supported"),
        ("json_extract(j, '$[0]')", "the path `$[0]` is not supported"),
    ]);
}

/// A number is an index only in brackets or if it is not a text, and JSON text is not reformatted.
#[test]
fn the_sqlite_engine_uses_sqlite_paths() {
    let object = "'{\"a\": [1.50, 1e3, \"x\\u0041\"], \"1\": 2, \"d.e\": 5}'";

    check_each(
        SQLITE,
        &[
            (&format!("{object} ->> '$.a[0]'"), "1.5"),
            (&format!("{object} -> '$.a[#-2]'"), "\"1e3\""),
            (&format!("{object} -> '$.a'"), "\"[1.50,1e3,\\\"x\\\\u0041\\\"]\""),
            (&format!("{object} ->> '$.a[2]'"), "\"xA\""),
            (&format!("{object} ->> '$.a[3]'"), "null"),
            (&format!("{object} ->> '$.a.0'"), "null"),
            (&format!("{object} ->> '$.\"d.e\"'"), "5"),
            (&format!("{object} ->> '$.d.e'"), "null"),
            (&format!("{object} ->> 'd.e'"), "5"),
            (&format!("{object} ->> '1'"), "2"),
            (&format!("{object} ->> 1"), "null"),
            ("'[1, 2, 3]' ->> 1", "2"),
            ("'[1, 2, 3]' ->> -1", "3"),
            ("'[1, 2, 3]' ->> -4", "null"),
            ("'[1, 2, 3]' ->> '1'", "null"),
            ("'[1, 2, 3]' ->> '[1]'", "2"),
            ("'{\"a\": 1, \"a\": 2}' ->> 'a'", "1"),
            ("'{\"a\": 1e400}' ->> 'a'", "9e999"),
            ("'{' ->> 'a'", "a value is not valid JSON, or is nested more than 1000 levels deep"),
            ("j -> ''", "a JSON path does not begin with `$`"),
            (&format!("json_extract({object}, '$.a[0]')"), "1.5"),
            (&format!("json_array_length({object}, '$.a')"), "3"),
            (&format!("json_array_length({object}, '$.a[0]')"), "0"),
            (&format!("json_array_length({object}, '$.b')"), "null"),
            (&format!("json_array_length({object}, n)"), "null"),
        ],
    );

    for path in ["$a", "$.", "$.a[x]", "$[", "$[0", "$[]", "$..a", "$.\"a"] {
        let yaml = stream(&format!("SELECT id, j ->> '{path}' AS v FROM t"));
        let found = refused(&yaml.replace(JAVASCRIPT, SQLITE));
        assert!(found.contains(&format!("the path `{path}` is not supported")), "{found}");
    }
}

fn nested_member(depth: usize) -> String {
    let json = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    format!("'{json}' ->> ('$' || '{}')", ".a".repeat(depth))
}

#[test]
fn json_is_read_a_thousand_levels_deep() {
    let nested = |depth| format!("json_valid('{}1{}')", "[".repeat(depth), "]".repeat(depth));
    check(&[(&nested(1_000), "1"), (&nested(1_001), "0"), (&nested_member(127), "1")]);

    // The paths of SQLite's engine have 128 steps at most.
    let error = "a value is not valid JSON, or is nested more than 1000 levels deep";
    check_engines(&[(&nested_member(129), "1", error), (&nested_member(1_001), error, error)]);
}

#[test]
fn request_paths_follow_the_engine() {
    let yaml = stream("SELECT id FROM t WHERE s = auth.parameter('$.orgs[1].id')")
        .replace(JAVASCRIPT, SQLITE)
        .replace("  s:\n", "  s:\n    auto_subscribe: true\n");
    let request = r#"{"claims": {"orgs": [{"id": "o1"}, {"id": "o2"}]}}"#;
    let granted = crate::tests::granted(&yaml, request, &[]);
    assert!(granted.starts_with("s|0[\"o2\"] priority 3"), "{granted}");
    let found = refused(&yaml.replace(SQLITE, JAVASCRIPT));
    assert!(found.contains("the path `$.orgs[1].id` is not supported"), "{found}");
}

#[test]
fn integer_member_names_come_first_in_objects() {
    let object = "'{\"b\": 1, \"10\": 2, \"a\": 3, \"2\": 4, \"01\": 5}'";
    let ordered = r#""{\"2\":4,\"10\":2,\"b\":1,\"a\":3,\"01\":5}""#;
    let written = r#""{\"b\":1,\"10\":2,\"a\":3,\"2\":4,\"01\":5}""#;
    check_engines(&[
        (&format!("{object} -> '$'"), ordered, written),
        (&format!("{object} ->> '$'"), ordered, written),
        (&format!("json_extract({object}, '$')"), ordered, written),
    ]);
    check_all(&[(&format!("json_keys({object})"), r#""[\"2\",\"10\",\"b\",\"a\",\"01\"]""#)]);
}

#[test]
fn paths_of_functions_begin_with_a_dollar() {
    check_all(&[
        ("json_extract('{\"a\": 1}', '$.a')", "1"),
        ("json_extract(n, '$.a')", "null"),
        ("json_extract(n, s)", "null"),
        ("json_extract('{}', n)", "null"),
        ("json_extract('{}', s)", "a JSON path does not begin with `$`"),
        ("json_array_length('{\"a\": [1, 2]}', '$.a')", "2"),
        ("json_array_length('{\"a\": 1}', '$.a')", "0"),
        ("json_array_length('{\"a\": 1}', '$.b')", "null"),
        ("json_array_length('[[]]', '$')", "1"),
        ("json_array_length('[1]')", "1"),
        ("json_array_length(n)", "null"),
        ("json_array_length('{}', s)", "a JSON path does not begin with `$`"),
    ]);

    check_engines(&[
        ("json_array_length('[1]', n)", "1", "null"),
        ("json_extract('null', '$')", "null", "null"),
        ("json_array_length('null', '$')", "null", "0"),
    ]);

    check_refused(&[
        ("json_extract(j, 'k')", "the path `k` does not begin with `$`\n  write `$.k`"),
        ("json_array_length(j, 'k')", "the path `k` does not begin with `$`"),
        ("json_extract(j)", "takes 2 arguments"),
    ]);
}

/// A single text is an element only in parentheses and only if it cannot be a JSON array.
#[test]
fn a_value_is_in_a_json_array_if_a_number_or_text_is_equal() {
    check_all(&[
        ("1 IN '[1.0]'", "1"),
        ("1.0 IN '[1]'", "1"),
        ("'1' IN '[1]'", "0"),
        ("1 IN '[true]'", "1"),
        ("i IN '[7, \"x\"]'", "1"),
        ("'x' IN '[7, \"x\"]'", "1"),
        ("9007199254740993 IN '[9007199254740992]'", "0"),
        ("NOT i IN '[7]'", "0"),
        ("1 + 1 IN '[2]'", "1"),
        ("'[1]' IN '[[1]]'", "1"),
        ("'x' IN j ->> 'k'", "1"),
        ("s IN ('[7]', 'x')", "0"),
        ("'[7]' IN ('[7]')", "0"),
        ("7 IN ('[7]')", "1"),
        ("'x' IN ('x')", "1"),
        ("'x' IN (j -> 'k')", "1"),
        ("'x' IN ((j ->> 'k'))", "1"),
        ("i IN '[]'", "0"),
        ("i IN s", "a value is not valid JSON, or is nested more than 1000 levels deep"),
        ("i IN '[7]' AND 1", "1"),
        ("i IN '[7]' = 1", "1"),
        ("i IN '[7]' IS NULL", "0"),
    ]);

    check(&[("i NOT IN '[7]'", "0"), ("i NOT IN '[8]'", "1")]);
    check_refused(&[
        ("i IN 'abc'", "this is a single value, not an array"),
        ("i IN '{}'", "this is a single value, not an array"),
    ]);
}

#[test]
fn json_numbers_are_exact_and_whole_reals_keep_their_point() {
    check_all(&[
        ("'{\"a\": 9007199254740993}' ->> 'a'", "9007199254740993"),
        ("'{\"a\": -9223372036854775808}' ->> 'a'", "-9223372036854775808"),
        ("'{\"a\": 2.0}' ->> 'a'", "2.0"),
        ("'{\"a\": 2.0}' -> 'a'", "\"2.0\""),
        ("'{\"a\": 1e3}' ->> 'a'", "1000.0"),
        ("'[1, 2.0]' -> '$'", "\"[1,2.0]\""),
    ]);
}

#[test]
fn member_operators_bind_tightest() {
    let object = "'{\"a\": 1}'";

    check_all(&[
        (&format!("{object} ->> 'a' + 1"), "2"),
        (&format!("{object} ->> 'a' * 2"), "2"),
        (&format!("{object} ->> 'a'::text"), "\"1\""),
        (&format!("1 + {object} ->> 'a'"), "2"),
        (&format!("'x' || {object} ->> 'a' || 'y'"), "\"x1y\""),
        (&format!("{object} ->> 'a' || 'x'"), "\"1x\""),
        (&format!("{object} ->> 'a' = 1"), "1"),
        (&format!("NOT {object} ->> 'a' = 1"), "0"),
        (&format!("{object} ->> 'a' IN '[1]'"), "1"),
        ("'{\"a\": {\"b\": 2}}' -> 'a' ->> 'b'", "2"),
    ]);
}

/// IN of edition 3 searches what `json_each` returns. Earlier editions need an array.
#[test]
fn in_edition_three_in_also_searches_objects_and_scalars() {
    for (array, is_in, earlier) in [
        ("'{\"a\": 7}'::text", "1", "a value is not a JSON array"),
        ("'7'::text", "1", "a value is not a JSON array"),
        ("' 8 '::text", "0", "a value is not a JSON array"),
        ("'null'::text", "0", "a value is not a JSON array"),
        ("' [7]'::text", "1", "1"),
        (
            "'x'::text",
            "a value is not valid JSON, or is nested more than 1000 levels deep",
            "a value is not valid JSON, or is nested more than 1000 levels deep",
        ),
        ("n", "null", "null"),
    ] {
        check(&[(&format!("i IN {array}"), is_in)]);
        check_earlier(&[(&format!("i IN {array}"), earlier)]);
    }

    check(&[("i NOT IN '7'::text", "a value is not a JSON array")]);

    let yaml = stream("SELECT id FROM t WHERE auth.user_id() IN a");
    let spec = "t(id text, a text)";
    assert_eq!(row(&yaml, spec, "1|\"u1\""), "s|0[\"u1\"] t/1 {\"id\":\"1\"}\n");
    assert_eq!(row(&yaml, spec, "1|{\"x\": \"u1\"}"), "s|0[\"u1\"] t/1 {\"id\":\"1\"}\n");
    assert_eq!(row(&yaml, spec, "1|null"), "");
}
