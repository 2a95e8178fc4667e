//! Streams of edition 3.

use expect_test::expect;

use super::{check_definition_rows, check_refused, check_request, check_rows};

#[test]
fn unequal_is_the_negation_of_equal_so_null_is_unequal() {
    let values = ["a|~|~|5|~|~", "b|~|~|~|~|~", "c|~|~|1|~|~"];
    check_rows(
        "SELECT id, n != 5 AS x FROM todos WHERE n <> 5",
        &values,
        expect![[r#"
            s|0[] todos/b {"id":"b","x":1}
            s|0[] todos/c {"id":"c","x":1}
        "#]],
    );

    check_rows(
        "SELECT id FROM todos WHERE NOT (n != 5)",
        &values,
        expect![[r#"
            s|0[] todos/a {"id":"a"}
        "#]],
    );

    check_rows(
        "SELECT id FROM todos WHERE NULL != NULL AND n = 1",
        &values,
        expect![[r#"
            s|0[] todos/c {"id":"c"}
        "#]],
    );

    check_definition_rows(
        "SELECT id FROM todos WHERE n != 5",
        &values,
        expect![[r#"
            b[] todos/c {"id":"c"}
        "#]],
    );
}

#[test]
fn the_negation_of_unequal_is_equal() {
    check_rows(
        "SELECT id FROM todos WHERE NOT (owner != auth.user_id() OR n <> 1)",
        &["a|u1|~|1|~|~", "b|u1|~|2|~|~", "c|~|~|1|~|~"],
        expect![[r#"
            s|0["u1"] todos/a {"id":"a"}
        "#]],
    );
}

#[test]
fn a_missing_claim_is_unequal_to_any_value() {
    let query = "SELECT id FROM todos WHERE auth.parameter('role') != 'guest'";
    for claims in ["{}", r#"{"claims": {"role": null}}"#, r#"{"claims": {"role": "admin"}}"#] {
        check_request(
            query,
            claims,
            expect![[r#"
                s|0[] priority 3 [{"default":0}]
                stream s default
            "#]],
        );
    }

    check_request(
        query,
        r#"{"claims": {"role": "guest"}}"#,
        expect![[r#"
            stream s default
        "#]],
    );
}

#[test]
fn a_subscription_without_parameters_has_null_and_not_an_empty_object() {
    let query = "SELECT id FROM todos WHERE subscription.parameters() IS NULL";
    check_request(
        query,
        r#"{"subscriptions": [{"stream": "s", "parameters": {}}]}"#,
        expect![[r#"
            s|0[] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

#[test]
fn in_takes_array_elements_with_and_without_parentheses() {
    for array in ["auth.parameter('a')", "(auth.parameter('a'))", "(auth.parameters() -> 'a')"] {
        check_request(
            &format!("SELECT id FROM todos WHERE list IN {array}"),
            r#"{"claims": {"a": ["x", 1.0, null]}}"#,
            expect![[r#"
                s|0["x"] priority 3 [{"default":0}]
                s|0[1] priority 3 [{"default":0}]
                stream s default
            "#]],
        );
    }

    for array in [r#"'["x", "y"]'"#, r#"('["x", "y"]')"#, "('x', 'y')", "ARRAY['x', 'y']"] {
        check_rows(
            &format!("SELECT id FROM todos WHERE list IN {array}"),
            &["a|~|x|~|~|~", "b|~|z|~|~|~"],
            expect![[r#"
                s|0[] todos/a {"id":"a"}
            "#]],
        );
    }

    check_rows(
        r#"SELECT id FROM todos WHERE list NOT IN ('["x", "y"]')"#,
        &["a|~|x|~|~|~", "b|~|z|~|~|~"],
        expect![[r#"
            s|0[] todos/b {"id":"b"}
        "#]],
    );
}

#[test]
fn the_elements_of_an_object_are_its_values_and_a_scalar_is_its_own() {
    for condition in ["'u1' IN meta", "'u1' IN (meta)", r#"meta && '["u1"]'"#] {
        check_rows(
            &format!("SELECT id FROM todos WHERE {condition}"),
            &[
                r#"a|~|~|~|~|["u1"]"#,
                r#"b|~|~|~|~|{"k": "u1"}"#,
                r#"c|~|~|~|~|"u1""#,
                r#"d|~|~|~|~|{"u1": 1}"#,
                "e|~|~|~|~|null",
                "f|~|~|~|~|~",
                "g|~|~|~|~|u1",
            ],
            expect![[r#"
                s|0[] todos/a {"id":"a"}
                s|0[] todos/b {"id":"b"}
                s|0[] todos/c {"id":"c"}
                error s|0: a value is not valid JSON, or is nested more than 1000 levels deep
            "#]],
        );
    }

    // The overlap operator, and earlier editions, need an array.
    let values = [r#"a|~|~|~|~|{"k": "u1"}"#, r#"b|~|~|~|~|["u2"]"#];
    check_rows(
        "SELECT id FROM todos WHERE 'u1' NOT IN meta",
        &values,
        expect![[r#"
            error s|0: a value is not a JSON array
            s|0[] todos/b {"id":"b"}
        "#]],
    );

    check_definition_rows(
        "SELECT id FROM todos WHERE 'u2' IN meta",
        &values,
        expect![[r#"
            error b: a value is not a JSON array
            b[] todos/b {"id":"b"}
        "#]],
    );
}

#[test]
fn in_rejects_a_single_value_that_cannot_be_an_array() {
    check_refused(
        &[
            "SELECT id FROM t WHERE a IN 5",
            "SELECT id FROM t WHERE a IN 'b'",
            "SELECT id FROM t WHERE a IN (auth.user_id())",
            "SELECT id FROM t WHERE a NOT IN (b::int)",
        ],
        expect![[r#"
            SELECT id FROM t WHERE a IN 5
            6:35 this is a single value, not an array
              write `=` to compare with one value
            SELECT id FROM t WHERE a IN 'b'
            6:35 this is a single value, not an array
              write `=` to compare with one value
            SELECT id FROM t WHERE a IN (auth.user_id())
            6:36 this is a single value, not an array
              write `=` to compare with one value
            SELECT id FROM t WHERE a NOT IN (b::int)
            6:40 this is a single value, not an array
              write `=` to compare with one value
        "#]],
    );
}
