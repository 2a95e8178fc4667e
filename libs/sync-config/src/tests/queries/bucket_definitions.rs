//! Bucket definitions, where they differ from streams.

use super::*;
use crate::tests::refused;

#[test]
fn bucket_definitions_without_parameters_are_one_bucket() {
    check_definition(
        &[],
        &["SELECT * FROM todos"],
        "t1|u1|7|t|~",
        expect![[r#"
        b[] todos/t1 {"id":"t1","owner_id":"u1","n":7,"done":1,"meta":null}
    "#]],
    );
}

#[test]
fn keywords_are_names_where_nothing_else_is_possible() {
    let yaml = stream(
        "SELECT id, interval, trim, t.date, \"order\", user FROM t \
         WHERE exists = 1 AND interval = 2 AND timestamp IS NOT NULL",
    );
    let spec = "t(id text, interval int4, trim text, date text, order text, user text, exists int4, \
                timestamp text)";
    expect![[r#"
        s|0[] t/1 {"id":"1","interval":2,"trim":"a","date":"b","order":"c","user":"d"}
    "#]]
    .assert_eq(&row(&yaml, spec, "1|2|a|b|c|d|1|x"));
}

#[test]
fn an_empty_list_of_parameters_is_like_a_missing_one() {
    let yaml = "bucket_definitions: {b: {parameters: [], data: [SELECT id FROM todos]}}";
    expect![[r#"
        b[] todos/t1 {"id":"t1"}
    "#]]
    .assert_eq(&row(yaml, TODOS, "t1|u1|7|t|~"));
}

#[test]
fn bucket_parameters_are_matched_by_data_queries() {
    check_definition(
        &["SELECT request.user_id() AS u, request.jwt() ->> 'org' AS o"],
        &["SELECT id FROM todos WHERE n = bucket.o AND bucket.u = owner_id AND done"],
        "t1|u1|7|t|~",
        expect![[r#"
            b["u1",7] todos/t1 {"id":"t1"}
        "#]],
    );

    check_definition(
        &["SELECT request.user_id() AS u"],
        &["SELECT id FROM todos WHERE bucket.u IN meta"],
        r#"t1|u1|7|t|["a","b"]"#,
        expect![[r#"
            b["a"] todos/t1 {"id":"t1"}
            b["b"] todos/t1 {"id":"t1"}
        "#]],
    );

    check_definition(
        &["SELECT request.user_id() AS u"],
        &["SELECT id FROM todos WHERE owner_id = bucket.u OR id = bucket.u"],
        "t1|u1|7|t|~",
        expect![[r#"
            b["u1"] todos/t1 {"id":"t1"}
            b["t1"] todos/t1 {"id":"t1"}
        "#]],
    );
}

#[test]
fn a_parameter_query_on_a_table_is_a_lookup() {
    let yaml = definition(
        &["SELECT id AS list_id, request.user_id() AS u, kind FROM lists \
           WHERE owner = request.user_id() AND NOT hidden"],
        &["SELECT id FROM todos \
           WHERE list_id = bucket.list_id AND u = bucket.u AND kind = bucket.kind"],
    );
    let config = compile(&yaml);
    let lists = table("lists(id text, owner text, kind int4, hidden bool)");

    expect![[r#"
        lookup 0 ["u1"] -> ["l1",3]
    "#]]
    .assert_eq(&rows(&config, &lists, &["l1|u1|3|f", "l2|u1|3|t", "l3|u1|~|f"]));

    let todos = table("todos(id text, list_id text, u text, kind int4)");
    expect![[r#"
        b["l1","u1",3] todos/t1 {"id":"t1"}
    "#]]
    .assert_eq(&rows(&config, &todos, &["t1|l1|u1|3"]));
}

#[test]
fn the_star_of_bucket_definitions_skips_underscores() {
    let yaml = definition(&[], &["SELECT * FROM t"]);
    expect![[r#"
        b[] t/1 {"id":"1","a_b":"y"}
    "#]]
    .assert_eq(&row(&yaml, "t(id text, _hidden text, a_b text)", "1|x|y"));

    let yaml = definition(&[], &["SELECT *, _hidden FROM t"]);
    expect![[r#"
        b[] t/1 {"id":"1","a_b":"y","_hidden":"x"}
    "#]]
    .assert_eq(&row(&yaml, "t(id text, _hidden text, a_b text)", "1|x|y"));

    let yaml = stream("SELECT * FROM t");
    expect![[r#"
        s|0[] t/1 {"id":"1","_hidden":"x","a_b":"y"}
    "#]]
    .assert_eq(&row(&yaml, "t(id text, _hidden text, a_b text)", "1|x|y"));
}

/// Before edition 3 `*` adds a column only if no earlier column has its name and a value.
#[test]
fn a_star_does_not_overwrite_earlier_columns() {
    let spec = "todos(id text, title text, _rev int4)";
    let yaml = definition(&[], &["SELECT upper(title) AS title, * FROM todos"]);
    expect![[r#"
        b[] todos/t1 {"title":"A","id":"t1"}
    "#]]
    .assert_eq(&row(&yaml, spec, "t1|a|1"));

    let yaml = definition(&[], &["SELECT NULL AS title, 'x' AS id, * FROM todos"]);
    expect![[r#"
        b[] todos/x {"title":"a","id":"x"}
    "#]]
    .assert_eq(&row(&yaml, spec, "t1|a|1"));

    let yaml = definition(&[], &["SELECT *, upper(title) AS title FROM todos"]);
    expect![[r#"
        b[] todos/t1 {"id":"t1","title":"A"}
    "#]]
    .assert_eq(&row(&yaml, spec, "t1|a|1"));

    // In edition 3 the last column of a name wins.
    let yaml = stream("SELECT upper(title) AS title, * FROM todos");
    expect![[r#"
        s|0[] todos/t1 {"title":"a","id":"t1","_rev":1}
    "#]]
    .assert_eq(&row(&yaml, spec, "t1|a|1"));
}

fn early_stream(query: &str) -> String {
    format!(
        "config: {{edition: 2}}\nstreams:\n  s:\n    auto_subscribe: true\n    query: {query}\n"
    )
}

#[test]
fn edition_two_has_streams_of_one_query() {
    let query = "SELECT * FROM todos WHERE owner = auth.user_id() AND list IN \
                 (SELECT id FROM lists WHERE usr = auth.user_id())";
    let config = compile(&early_stream(query));

    assert_eq!(config.warnings().len(), 1);
    assert!(config.warnings()[0].message.contains("early form"), "{:?}", config.warnings());

    expect![[r#"
        s|0["u1","l1"] todos/t1 {"id":"t1","owner":"u1","list":"l1"}
    "#]]
    .assert_eq(&row(
        &early_stream(query),
        "todos(id text, owner text, list text, _rev int4)",
        "t1|u1|l1|1",
    ));

    let mut found = String::new();
    for query in [
        "SELECT t.* FROM t JOIN u ON u.a = t.a",
        "SELECT * FROM t WHERE a BETWEEN 1 AND 2",
        "WITH c AS (SELECT a FROM u) SELECT * FROM t",
    ] {
        found += &refused(&early_stream(query));
    }

    found +=
        &refused("config: {edition: 2}\nstreams: {s: {queries: [SELECT * FROM t], with: {}}}\n");
    found += &refused("streams: {s: {query: SELECT * FROM t}}\n");

    expect![[r#"
        2:1 warning: without edition 3 `streams` are an early form with fewer features
          set `edition: 3` in `config`
        5:35 more than one table in `FROM` is not supported here
          streams of edition 3 support it
        2:1 warning: without edition 3 `streams` are an early form with fewer features
          set `edition: 3` in `config`
        5:34 `BETWEEN` requires edition 3
          set `edition: 3` in `config`, and write `streams`
        2:1 warning: without edition 3 `streams` are an early form with fewer features
          set `edition: 3` in `config`
        5:17 `WITH` is not supported here
          streams of edition 3 support it
        2:1 warning: without edition 3 `streams` are an early form with fewer features
          set `edition: 3` in `config`
        2:15 `queries` requires edition 3
          set `edition: 3` in `config`
        2:43 `with` requires edition 3
          set `edition: 3` in `config`
        accepted
    "#]]
    .assert_eq(&found);
}
