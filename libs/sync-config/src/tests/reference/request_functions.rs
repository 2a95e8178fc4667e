//! Functions that read the request or name the query's tables.

use expect_test::expect;

use super::{check_refused, check_request, check_rows};

/// Claims, connection parameters and one subscription, whose values differ.
const REQUEST: &str = r#"{"sub": "u1", "defaults": false,
    "claims": {"sub": "u1", "a": {"b": "claim", "list": [7, {"c": "deep"}]}, "a.b": "dotted"},
    "parameters": {"a": {"b": "connection"}},
    "subscriptions": [{"stream": "s", "parameters": {"a": {"b": "subscription"}, "n": 1.0}}]}"#;

#[test]
fn each_function_reads_its_part_of_the_request() {
    for (function, parameter) in [
        ("auth.user_id()", r#""u1""#),
        ("auth.parameter('$.a.b')", r#""claim""#),
        ("auth.parameter('a.b')", r#""dotted""#),
        ("auth.parameter('a') ->> 'b'", r#""claim""#),
        ("auth.parameters() ->> 'a.b'", r#""dotted""#),
        ("auth.parameters() ->> '$.a.b'", r#""claim""#),
        ("auth.parameters() -> 'a' ->> 'b'", r#""claim""#),
        ("auth.parameters() -> 'a' -> 'b'", r#""\"claim\"""#),
        ("auth.parameter('$.a.list.0')", "7"),
        ("auth.parameter('$.a.list.1.c')", r#""deep""#),
        ("auth.parameter('a') -> 'list' ->> 0", "7"),
        ("connection.parameter('$.a.b')", r#""connection""#),
        ("connection.parameters() -> 'a' ->> 'b'", r#""connection""#),
        ("subscription.parameter('$.a.b')", r#""subscription""#),
        ("subscription.parameters() -> 'a' ->> 'b'", r#""subscription""#),
        ("subscription.parameter('n')", "1"),
        ("AUTH.User_ID()", r#""u1""#),
        (r#""auth"."user_id"()"#, r#""u1""#),
        ("upper(auth.user_id())", r#""U1""#),
        ("json_extract(auth.parameters(), '$.a.b')", r#""claim""#),
    ] {
        let query = format!("SELECT id FROM todos WHERE owner = {function}");
        let yaml = super::stream(&query);

        let found = super::granted(&yaml, REQUEST, &[]);
        let expected = format!("s|0[{parameter}] priority 3 [{{\"sub\":0}}]\nstream s\n");
        assert_eq!(found, expected, "{function}");
    }
}

#[test]
fn missing_request_values_equal_nothing() {
    for function in [
        "auth.parameter('missing')",
        "auth.parameter('$.a.b.c')",
        "auth.parameter('$.a.list.9')",
        "connection.parameter('a.b')",
        "subscription.parameter('missing')",
        "auth.parameter(NULL)",
    ] {
        let yaml = super::stream(&format!("SELECT id FROM todos WHERE owner = {function}"));
        assert_eq!(super::granted(&yaml, REQUEST, &[]), "stream s\n", "{function}");
    }
}

#[test]
fn wrong_functions_arguments_and_paths_are_rejected() {
    check_refused(
        &[
            "SELECT id FROM t WHERE a = request.user_id()",
            "SELECT id FROM t WHERE a = auth.user_id(1)",
            "SELECT id FROM t WHERE a = auth.parameters('a')",
            "SELECT id FROM t WHERE a = auth.parameter()",
            "SELECT id FROM t WHERE a = subscription.parameter('a', 'b')",
            "SELECT id FROM t WHERE a = auth.jwt()",
            "SELECT id FROM t WHERE a = auth.parameter('$.a[0]')",
            "SELECT id FROM t WHERE a = auth.parameters() ->> '$[0]'",
            "SELECT id FROM t WHERE a = auth.parameter(b)",
            "SELECT id FROM t WHERE a = token_parameters.user_id",
            "SELECT id, auth.user_id() AS me FROM t",
        ],
        expect![[r#"
            SELECT id FROM t WHERE a = request.user_id()
            6:34 `request.user_id` is not available in streams
              write `auth.user_id()`
            SELECT id FROM t WHERE a = auth.user_id(1)
            6:34 `auth.user_id` takes no argument
            SELECT id FROM t WHERE a = auth.parameters('a')
            6:34 `auth.parameters` takes no argument
              write `auth.parameter('a')`
            SELECT id FROM t WHERE a = auth.parameter()
            6:34 `auth.parameter` takes one argument
              name a claim of the token, as in `auth.parameter('org_id')`
            SELECT id FROM t WHERE a = subscription.parameter('a', 'b')
            6:34 `subscription.parameter` takes one argument
            SELECT id FROM t WHERE a = auth.jwt()
            6:34 unknown function `auth.jwt`
              did you mean `auth.parameters()`?
            SELECT id FROM t WHERE a = auth.parameter('$.a[0]')
            6:49 the path `$.a[0]` is not supported
              names and indices are separated by dots, as in `$.list.0.name`
            SELECT id FROM t WHERE a = auth.parameters() ->> '$[0]'
            6:56 the path `$[0]` is not supported
              names and indices are separated by dots, as in `$.list.0.name`
            SELECT id FROM t WHERE a = auth.parameter(b)
            6:30 one side mixes values of the row and of the request
              compare a value of the row on one side with a value of the request on the other
            SELECT id FROM t WHERE a = token_parameters.user_id
            6:34 `token_parameters` in `token_parameters.user_id` is not a table of this query
              write `auth.user_id()`
            SELECT id, auth.user_id() AS me FROM t
            6:18 a column of a synced row cannot depend on the request
              select columns of the table, and compare with the request in WHERE
        "#]],
    );
}

#[test]
fn a_condition_on_the_request_alone_decides_access_to_the_bucket() {
    for (condition, holds) in [
        ("auth.parameter('role') = 'admin'", true),
        ("auth.parameter('role') IN ('admin', 'owner')", true),
        ("auth.parameter('role') NOT IN ('admin')", false),
        ("'a' IN auth.parameter('teams')", true),
        ("'c' IN auth.parameter('teams')", false),
        ("'c' NOT IN auth.parameter('teams')", true),
        ("auth.parameter('teams') && '[\"c\", \"b\"]'", true),
        ("auth.parameter('level') BETWEEN 1 AND 5", true),
        ("auth.parameter('level') > 5", false),
        ("auth.parameter('on')", true),
        ("auth.parameter('on') IS TRUE", true),
        ("NOT auth.parameter('off')", true),
        ("auth.parameter('off') IS FALSE", true),
        ("auth.parameter('none') IS NULL", true),
        ("auth.parameter('none') IS NOT NULL", false),
        ("auth.user_id() = auth.parameter('sub')", true),
        ("CASE WHEN auth.parameter('level') = 5 THEN 1 ELSE 0 END", true),
        ("json_array_length(auth.parameter('teams')) = 2", true),
        ("length(auth.user_id()) > 2", false),
        ("TRUE", true),
    ] {
        let granted = if holds { "s|0[] priority 3 [{\"default\":0}]\n" } else { "" };
        let yaml = super::stream(&format!("SELECT id FROM todos WHERE {condition}"))
            .replace("    query:", "    auto_subscribe: true\n    query:");
        let request = r#"{"sub": "u1", "claims": {"sub": "u1", "role": "admin", "teams": ["a", "b"],
            "level": 5, "on": true, "off": false, "none": null}}"#;
        let found = super::granted(&yaml, request, &[]);
        assert_eq!(found, format!("{granted}stream s default\n"), "{condition}");
    }

    check_request(
        "SELECT id FROM todos WHERE owner = auth.user_id() AND auth.parameter('role') = 'admin'",
        r#"{"claims": {"role": "guest"}}"#,
        expect![[r#"
            stream s default
        "#]],
    );
}

#[test]
fn table_functions_name_the_table() {
    check_rows(
        "SELECT id, t.schema() AS s, t.table_name() AS n FROM todos AS t WHERE t.schema() = 'public'",
        &["a|~|~|~|~|~"],
        expect![[r#"
            s|0[] t/a {"id":"a","s":"public","n":"todos"}
        "#]],
    );

    check_refused(
        &["SELECT id, t.schema(1) AS s FROM t", "SELECT id, t.owner() AS s FROM t"],
        expect![[r#"
            SELECT id, t.schema(1) AS s FROM t
            6:18 unknown function `t.schema`
              the functions of the request are auth.user_id(), auth.parameter(name), connection.parameter(name) and subscription.parameter(name)
            SELECT id, t.owner() AS s FROM t
            6:18 unknown function `t.owner`
              the functions of the request are auth.user_id(), auth.parameter(name), connection.parameter(name) and subscription.parameter(name)
        "#]],
    );
}
