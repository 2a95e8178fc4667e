//! FROM of stream queries, and how it is qualified.

use expect_test::expect;

use super::{check_refused, check_rows, lookups};

#[test]
fn a_join_in_parentheses_is_read_like_one_without() {
    for from in [
        "todos JOIN lists ON lists.id = todos.list JOIN teams ON teams.id = lists.team",
        "(todos JOIN lists ON lists.id = todos.list) JOIN teams ON teams.id = lists.team",
        "((todos JOIN lists ON lists.id = todos.list) JOIN teams ON teams.id = lists.team)",
    ] {
        let query = format!("SELECT todos.* FROM {from} WHERE teams.owner = auth.user_id()");
        check_rows(
            &query,
            &["a|~|l1|~|~|~"],
            expect![[r#"
                s|0["l1"] todos/a {"id":"a","owner":null,"list":"l1","n":null,"done":null,"meta":null}
            "#]],
        );

        expect![[r#"
            lookup 1 ["t1"] -> ["l1"]
        "#]]
        .assert_eq(&lookups(&query, "lists(id text, team text)", "l1|t1"));

        expect![[r#"
            lookup 0 ["u1"] -> ["t1"]
        "#]]
        .assert_eq(&lookups(&query, "teams(id text, owner text)", "t1|u1"));
    }
}

#[test]
fn an_alias_of_a_query_may_name_its_columns() {
    let query = "SELECT todos.id FROM todos JOIN (SELECT upper(id), owner FROM lists) AS l(key, who) \
                 ON todos.list = l.key WHERE l.who = auth.user_id()";

    check_rows(
        query,
        &["a|~|L1|~|~|~"],
        expect![[r#"
            s|0["L1"] todos/a {"id":"a"}
        "#]],
    );

    expect![[r#"
        lookup 0 ["u1"] -> ["L1"]
    "#]]
    .assert_eq(&lookups(query, "lists(id text, owner text)", "l1|u1"));

    check_refused(
        &[
            "SELECT t.id FROM t JOIN (SELECT id, a FROM u) AS l(x) ON t.a = l.x",
            "SELECT t.id FROM t JOIN (SELECT id FROM u) AS l(x, y) ON t.a = l.x",
            "SELECT t.id FROM t JOIN (SELECT id, a FROM u) AS l(x, x) ON t.a = l.x",
            "SELECT t.id FROM t JOIN (SELECT id FROM u) AS l(x) ON t.a = l.id",
            "SELECT t.id FROM t AS t(a)",
            "SELECT t.id FROM t, json_each(t.a) AS e(x) WHERE e.x = auth.user_id()",
        ],
        expect![[r#"
            SELECT t.id FROM t JOIN (SELECT id, a FROM u) AS l(x) ON t.a = l.x
            6:56 this names 1 columns, but the query selects 2
              name all of them, or none
            SELECT t.id FROM t JOIN (SELECT id FROM u) AS l(x, y) ON t.a = l.x
            6:53 this names 2 columns, but the query selects 1
              name all of them, or none
            SELECT t.id FROM t JOIN (SELECT id, a FROM u) AS l(x, x) ON t.a = l.x
            6:56 this names `x` twice
            SELECT t.id FROM t JOIN (SELECT id FROM u) AS l(x) ON t.a = l.id
            6:67 `l` has no column `id`
              it selects: x
            SELECT t.id FROM t AS t(a)
            6:29 an alias of a table cannot name columns
            SELECT t.id FROM t, json_each(t.a) AS e(x) WHERE e.x = auth.user_id()
            6:45 an alias of a table cannot name columns
        "#]],
    );
}

#[test]
fn a_schema_may_stand_before_the_table_of_a_column() {
    for query in [
        "SELECT public.todos.id FROM todos WHERE public.todos.owner = auth.user_id()",
        "SELECT t.id FROM public.todos AS t WHERE public.t.owner = auth.user_id()",
    ] {
        let name = if query.contains("AS t") { "t" } else { "todos" };
        let yielded = format!("s|0[\"u1\"] {name}/a {{\"id\":\"a\"}}\n");
        assert_eq!(super::row(&super::stream(query), super::TODOS, "a|u1|~|~|~|~"), yielded);
    }

    check_rows(
        "SELECT public.todos.* FROM todos, other.lists WHERE other.lists.id = public.todos.list",
        &["a|u1|l1|1|t|~"],
        expect![[r#"
            s|0["l1"] todos/a {"id":"a","owner":"u1","list":"l1","n":1,"done":1,"meta":null}
        "#]],
    );

    check_refused(
        &[
            "SELECT other.t.id FROM t",
            "SELECT public.t.* FROM other.t",
            "SELECT public.x.id FROM (SELECT id FROM t) AS x",
            "SELECT a.b.c.id FROM t",
            "SELECT a.b.c.* FROM t",
        ],
        expect![[r#"
            SELECT other.t.id FROM t
            6:14 `t` is not of the schema `other` in this query
              write `t.column`
            SELECT public.t.* FROM other.t
            6:14 `t` is not of the schema `public` in this query
              write `t.column`
            SELECT public.x.id FROM (SELECT id FROM t) AS x
            6:14 `x` is not of the schema `public` in this query
              write `x.column`
            SELECT a.b.c.id FROM t
            6:14 a column is named `column`, `table.column` or `schema.table.column`
              give the table an alias and write `alias.column`
            SELECT a.b.c.* FROM t
            6:14 write `t.*` with the table's own name
        "#]],
    );
}

#[test]
fn table_names_match_in_any_case() {
    for (query, name) in [
        (r#"SELECT T.id FROM todos AS "T" WHERE t.n = 1"#, "T"),
        (r#"SELECT "t".id FROM todos AS "T""#, "T"),
        (r#"SELECT Todos.id FROM todos"#, "todos"),
        (r#"SELECT S.id FROM (SELECT id FROM todos) AS "S""#, "todos"),
    ] {
        let yielded = format!("s|0[] {name}/a {{\"id\":\"a\"}}\n");
        assert_eq!(super::row(&super::stream(query), super::TODOS, "a|u1|~|1|~|~"), yielded);
    }

    // An exact match wins. Without one, several matches are ambiguous.
    check_rows(
        r#"SELECT t.id FROM todos AS "t", todos AS "T" WHERE t.id = "T".list"#,
        &["a|~|b|~|~|~"],
        expect![[r#"
            s|0["a"] t/a {"id":"a"}
            lookup 0 [] -> ["b"]
        "#]],
    );

    check_refused(
        &[r#"SELECT tt.id FROM t AS "Tt", t AS "tT""#, r#"SELECT id FROM t AS "T" WHERE u.a = 1"#],
        expect![[r#"
            SELECT tt.id FROM t AS "Tt", t AS "tT"
            6:14 `tt` in `tt.id` is not a table of this query
              the tables are `Tt`, `tT`
            SELECT id FROM t AS "T" WHERE u.a = 1
            6:37 `u` in `u.a` is not a table of this query
              the table is `T`
        "#]],
    );
}

#[test]
fn a_text_after_e_may_have_escapes() {
    check_rows(
        r"SELECT id, E'it\'s\n' AS x FROM todos WHERE owner = e'u\\1'",
        &[r"a|u\1|~|~|~|~", r"b|u\\1|~|~|~|~"],
        expect![[r#"
            s|0[] todos/a {"id":"a","x":"it's\n"}
        "#]],
    );
}
