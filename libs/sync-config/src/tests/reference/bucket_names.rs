//! Names of buckets.

use expect_test::expect;

use super::super::{refused, row};
use super::check_rows;

#[test]
fn a_bucket_name_has_the_stream_a_number_and_the_parameters() {
    check_rows(
        "SELECT id FROM todos WHERE owner = auth.user_id() OR (list = subscription.parameter('l') AND n = auth.parameter('n'))",
        &["a|u1|l1|1|~|~"],
        expect![[r#"
            s|0["u1"] todos/a {"id":"a"}
            s|1["l1",1] todos/a {"id":"a"}
        "#]],
    );

    check_rows(
        "SELECT id FROM todos",
        &["a|~|~|~|~|~"],
        expect![[r#"
            s|0[] todos/a {"id":"a"}
        "#]],
    );
}

#[test]
fn a_bucket_definition_has_no_number_in_its_bucket_names() {
    let yaml = "bucket_definitions:\n  by_owner:\n    parameters: SELECT request.user_id() AS u\n    \
                data: [SELECT id FROM todos WHERE owner = bucket.u]\n";
    expect![[r#"
        by_owner["u1"] todos/a {"id":"a"}
    "#]]
    .assert_eq(&row(yaml, "todos(id text, owner text)", "a|u1"));
}

#[test]
fn equal_numbers_share_a_bucket_and_null_and_blobs_have_none() {
    let query = "SELECT id FROM todos WHERE n = auth.parameter('n')";
    let yaml = super::stream(query);

    for (spec, value, parameter) in [
        ("int4", "1", "1"),
        ("float8", "1", "1"),
        ("float8", "1.5", "1.5"),
        ("text", "1", r#""1""#),
        ("int8", "9007199254740993", "9007199254740993"),
        ("bool", "t", "1"),
        ("numeric", "1.0", r#""1.0""#),
        ("json", r#"{"a": 1}"#, r#""{\"a\": 1}""#),
    ] {
        let found = row(&yaml, &format!("todos(id text, n {spec})"), &format!("a|{value}"));
        assert_eq!(found, format!("s|0[{parameter}] todos/a {{\"id\":\"a\"}}\n"), "{spec} {value}");
    }

    for (spec, value) in [("int4", "~"), ("text", "~"), ("bytea", "\\x31")] {
        let found = row(&yaml, &format!("todos(id text, n {spec})"), &format!("a|{value}"));
        assert_eq!(found, "", "{spec} {value}");
    }
}

fn findings_of_name(name: &str) -> String {
    refused(&format!("config: {{edition: 3}}\nstreams:\n  {name}: {{query: SELECT * FROM t}}\n"))
}

#[test]
fn names_have_any_characters() {
    for name in [
        "a",
        "1",
        "a-b_c.d",
        "ä",
        "_",
        "'true'",
        "a b",
        "a#b",
        "a|b",
        "'a[b'",
        "a/role=user",
        "'%'",
        "'\"'",
        "\"\\n\"",
        &"x".repeat(101),
        &"x".repeat(500),
    ] {
        assert_eq!(findings_of_name(name), "accepted\n", "{name}");
    }
    for name in ["''", &"x".repeat(501)] {
        assert!(findings_of_name(name).starts_with("3:3 `"), "{name}: {}", findings_of_name(name));
        assert!(
            findings_of_name(name).contains("` cannot be a name\n"),
            "{name}: {}",
            findings_of_name(name)
        );
    }
}
