//! Streams of edition 2, the early form.

use expect_test::expect;

use super::super::{compile, format_findings, granted, refused, row};

const TODOS: &str = "todos(id text, owner text, list text, n int4, done bool, tags json)";

fn early(query: &str) -> String {
    format!(
        "config: {{edition: 2}}\nstreams:\n  s:\n    auto_subscribe: true\n    query: |\n      {query}\n"
    )
}

/// Returns the output of a row, and what is granted to a request, without lookups.
fn rows_and_request(query: &str, values: &str, request: &str) -> String {
    let yaml = early(query);
    row(&yaml, TODOS, values) + &granted(&yaml, request, &[])
}

#[test]
fn early_streams_are_a_warning() {
    expect![[r#"
        2:1 warning: without edition 3 `streams` are an early form with fewer features
          set `edition: 3` in `config`
    "#]]
    .assert_eq(&format_findings(compile(&early("SELECT * FROM todos")).warnings()));
}

#[test]
fn early_streams_have_conditions_with_and_or_and_not() {
    let request = r#"{"sub": "u1", "claims": {"role": "admin"}}"#;
    for (condition, bucket) in [
        ("owner = auth.user_id()", r#"s|0["u1"]"#),
        ("owner = auth.user_id() AND n > 0 AND NOT done", r#"s|0["u1"]"#),
        ("n > 0 AND (done OR n = 1)", "s|0[]"),
        ("NOT (done OR n = 2)", "s|0[]"),
        ("auth.parameter('role') = 'admin'", "s|0[]"),
        ("owner = auth.user_id() AND auth.parameter('role') = 'admin'", r#"s|0["u1"]"#),
        ("auth.user_id() IN tags", r#"s|0["u1"]"#),
    ] {
        let found = rows_and_request(
            &format!("SELECT id FROM todos WHERE {condition}"),
            r#"a|u1|l|1|f|["u1"]"#,
            request,
        );
        let expected = format!(
            "{bucket} todos/a {{\"id\":\"a\"}}\n{bucket} priority 3 [{{\"default\":0}}]\nstream s default\n"
        );
        assert_eq!(found, expected, "{condition}");
    }

    expect![[r#"
        s|0["u1"] todos/a {"id":"a"}
        s|1["l"] todos/a {"id":"a"}
        s|0["u1"] priority 3 [{"default":0}]
        stream s default
    "#]]
    .assert_eq(&rows_and_request(
        "SELECT id FROM todos WHERE owner = auth.user_id() OR list = subscription.parameter('list')",
        "a|u1|l|1|f|~",
        request,
    ));
}

#[test]
fn early_streams_have_one_level_of_inner_queries_and_overlaps() {
    let query =
        "SELECT id FROM todos WHERE list IN (SELECT id FROM lists WHERE owner = auth.user_id())";

    expect![[r#"
        s|0["l"] todos/a {"id":"a"}
        question 0 ["u1"]
        s|0["l"] priority 3 [{"default":0}]
        stream s default
    "#]]
    .assert_eq(&{
        let yaml = early(query);
        row(&yaml, TODOS, "a|u1|l|1|f|~") + &granted(&yaml, "{}", &[(r#"0 ["u1"]"#, &[r#"["l"]"#])])
    });

    expect![[r#"
        s|0["x"] todos/a {"id":"a"}
        s|0["y"] todos/a {"id":"a"}
        s|0["y"] priority 3 [{"default":0}]
        s|0["z"] priority 3 [{"default":0}]
        stream s default
    "#]]
    .assert_eq(&rows_and_request(
        "SELECT id FROM todos WHERE tags && auth.parameter('tags')",
        r#"a|u1|l|1|f|["x", "y"]"#,
        r#"{"claims": {"tags": ["y", "z"]}}"#,
    ));
}

#[test]
fn a_subscription_without_parameters_has_an_empty_object() {
    for condition in
        ["subscription.parameters() = '{}'", "subscription.parameters() ->> 'x' IS NULL"]
    {
        let yaml = early(&format!("SELECT id FROM todos WHERE {condition}"));
        let found = granted(&yaml, "{}", &[]);
        assert_eq!(found, "s|0[] priority 3 [{\"default\":0}]\nstream s default\n", "{condition}");
    }
}

#[test]
fn a_star_skips_columns_that_begin_with_an_underscore() {
    expect![[r#"
        s|0[] t/a {"id":"a"}
    "#]]
    .assert_eq(&row(&early("SELECT * FROM t"), "t(id text, _rev text)", "a|1"));
}

#[test]
fn features_of_edition_3_are_rejected() {
    let mut found = String::new();
    for query in [
        "SELECT t.* FROM t, u WHERE t.a = u.a",
        "SELECT * FROM (SELECT id FROM t) AS x",
        "WITH c AS (SELECT a FROM u) SELECT * FROM t WHERE a IN c",
        "SELECT id, upper(a) FROM t",
        "SELECT * FROM t WHERE a % 2 = 1",
        "SELECT * FROM t WHERE a IS TRUE",
        "SELECT * FROM t WHERE a LIKE 'x%'",
        "SELECT id, CASE WHEN a THEN 1 END AS b FROM t",
        "SELECT * FROM t WHERE a IN ARRAY[1]",
        "SELECT public.t.id FROM t",
        "SELECT * FROM t WHERE NOT (a != auth.user_id())",
        "SELECT * FROM t WHERE a = request.user_id()",
    ] {
        let findings = refused(&early(query));
        let lines: Vec<&str> = findings.lines().filter(|line| line.starts_with("6:")).collect();
        found += &format!("{query}\n{}\n", lines.join("\n"));
    }

    expect![[r#"
        SELECT t.* FROM t, u WHERE t.a = u.a
        6:26 more than one table in `FROM` is not supported here
        SELECT * FROM (SELECT id FROM t) AS x
        6:43 a subquery in `FROM` is not supported here
        WITH c AS (SELECT a FROM u) SELECT * FROM t WHERE a IN c
        6:12 `WITH` is not supported here
        SELECT id, upper(a) FROM t
        6:18 this expression has no name
        SELECT * FROM t WHERE a % 2 = 1
        6:29 `%` requires edition 3
        SELECT * FROM t WHERE a IS TRUE
        6:29 `IS TRUE` requires edition 3
        SELECT * FROM t WHERE a LIKE 'x%'
        6:29 `LIKE` requires edition 3
        SELECT id, CASE WHEN a THEN 1 END AS b FROM t
        6:18 `CASE` requires edition 3
        SELECT * FROM t WHERE a IN ARRAY[1]
        6:34 `ARRAY` requires edition 3
        SELECT public.t.id FROM t
        6:14 a column is named `column` or `table.column`
        SELECT * FROM t WHERE NOT (a != auth.user_id())
        6:34 values of the row and of the request can be compared by `=` and `IN` only
        SELECT * FROM t WHERE a = request.user_id()
        6:33 `request.user_id` is not available in streams
    "#]]
    .assert_eq(&found);
}
