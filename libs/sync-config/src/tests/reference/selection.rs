//! Select lists of stream queries.

use expect_test::expect;

use super::{check_compiled, check_rows, row, stream};

#[test]
fn an_unnamed_expression_is_named_by_its_text_with_a_warning() {
    check_compiled(
        &stream(
            "SELECT id,\n  upper(owner), n::text || '!', (n + 1) * 2, NOT done, (n) FROM todos",
        ),
        expect![[r#"
            7:9 warning: this expression has no name, so the column is `upper(owner)`
              add an alias: `upper(name) AS name`
            7:23 warning: this expression has no name, so the column is `n::text || '!'`
              add an alias: `upper(name) AS name`
            7:40 warning: this expression has no name, so the column is `n + 1) * 2`
              add an alias: `upper(name) AS name`
            7:52 warning: this expression has no name, so the column is `NOT done`
              add an alias: `upper(name) AS name`
        "#]],
    );

    check_rows(
        "SELECT id,\n  upper(owner), n::text || '!', (n + 1) * 2, NOT done, (n) FROM todos",
        &["a|u1|~|3|t|~"],
        expect![[r#"
            s|0[] todos/a {"id":"a","upper(owner)":"U1","n::text || '!'":"3!","n + 1) * 2":8,"NOT done":0,"n":3}
        "#]],
    );
}

#[test]
fn the_name_of_an_expression_is_its_source_text() {
    for (written, name) in [
        ("upper( owner )", "upper( owner )"),
        ("(upper(owner))", "upper(owner)"),
        ("CAST(n AS text)", "CAST(n AS text)"),
        ("n /* x */ + 1", "n /* x */ + 1"),
        ("n\n        + 1", "n\n  + 1"),
        ("n + 1 -- end\n", "n + 1"),
        ("meta ->> 'it''s'", "meta ->> 'it''s'"),
        ("substring(owner from 1 for 1)", "substring(owner from 1 for 1)"),
        ("n BETWEEN 1 AND (2)", "n BETWEEN 1 AND (2"),
        ("NOT (n = 1)", "NOT (n = 1"),
        ("CASE WHEN n = 1 THEN 'é' END", "CASE WHEN n = 1 THEN 'é' END"),
        ("n IS DISTINCT FROM 1", "n IS DISTINCT FROM 1"),
        ("-3", "-3"),
    ] {
        let query = format!("SELECT id, {} FROM todos", written.replace("\n        ", "\n  "));
        let found =
            row(&stream(&query), "todos(id text, n int4, owner text, meta text)", "a|~|~|~");

        let json: serde_json::Value =
            serde_json::from_str(found.split_once(' ').unwrap().1.split_once(' ').unwrap().1)
                .unwrap();

        let names: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(names, ["id", name], "{written}");
    }
}

#[test]
fn an_outer_query_can_name_an_unnamed_column_by_its_text() {
    check_rows(
        r#"SELECT s.id, s."upper(owner)" AS who FROM (SELECT id, upper(owner) FROM todos) AS s"#,
        &["a|u1|~|~|~|~"],
        expect![[r#"
            s|0[] todos/a {"id":"a","who":"U1"}
        "#]],
    );
}

#[test]
fn a_star_after_aliases_is_a_warning() {
    check_compiled(
        &stream("SELECT upper(owner) AS owner, n AS m, * FROM todos"),
        expect![[r#"
            6:45 warning: if the table has a column `owner` or `m`, `*` overwrites the column selected before
              write `*` first
        "#]],
    );

    for query in ["SELECT *, upper(owner) AS owner FROM todos", "SELECT n, * FROM todos"] {
        check_compiled(&stream(query), expect![[""]]);
    }

    // In earlier editions it does not overwrite.
    check_compiled(
        "bucket_definitions: {b: {data: ['SELECT upper(owner) AS owner, * FROM todos']}}",
        expect![[""]],
    );
}

#[test]
fn distinct_changes_nothing_in_edition_3() {
    for words in ["DISTINCT", "ALL", ""] {
        check_rows(
            &format!(
                "SELECT {words} id, n FROM todos WHERE list IN (SELECT {words} id FROM lists WHERE x)"
            ),
            &["a|~|l|1|~|~"],
            expect![[r#"
                s|0["l"] todos/a {"id":"a","n":1}
            "#]],
        );
    }
}

#[test]
fn distinct_and_unnamed_expressions_are_rejected_before_edition_3() {
    let early =
        |query: &str| format!("config: {{edition: 2}}\nstreams: {{s: {{query: '{query}'}}}}");
    let warning = "2:1 warning: without edition 3 `streams` are an early form with fewer features\n  \
                   set `edition: 3` in `config`\n";

    for (query, finding) in [
        (
            "SELECT DISTINCT id FROM todos",
            "2:30 `DISTINCT` and `ALL` are not supported here\n  streams of edition 3 support it\n",
        ),
        (
            "SELECT id FROM todos WHERE list IN (SELECT ALL id FROM lists WHERE x = auth.user_id())",
            "2:66 `DISTINCT` and `ALL` are not supported here\n  streams of edition 3 support it\n",
        ),
        (
            "SELECT id, upper(owner) FROM todos",
            "2:34 this expression has no name\n  add an alias: `upper(name) AS name`\n",
        ),
    ] {
        assert_eq!(super::refused(&early(query)), format!("{warning}{finding}"));
    }
}
