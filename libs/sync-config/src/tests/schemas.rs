//! Checks of a config against the tables of the database.

use expect_test::expect;

use super::{compile, definition, format_findings, stream, table};

fn check(yaml: &str, tables: &[&str]) -> String {
    let tables: Vec<_> = tables.iter().map(|spec| table(spec)).collect();
    format_findings(&compile(yaml).check(&tables))
}

#[test]
fn tables_missing_in_the_database_are_errors() {
    let yaml = stream("SELECT id FROM todo");
    expect![[r#"
        6:22 there is no table `todo`
          did you mean `todos`?
    "#]]
    .assert_eq(&check(&yaml, &["todos(id text)", "lists(id text)"]));

    expect![[r#"
        6:22 there is no table `todo`
          there is one in the schema `app`: write `app.todo`
    "#]]
    .assert_eq(&check(&yaml, &["app.todo(id text)"]));

    expect![[r#"
        6:22 there is no table `todo`
          the tables of the schema `public` are: a, b
    "#]]
    .assert_eq(&check(&yaml, &["a(id text)", "b(id text)"]));

    expect![[r#"
        6:22 there is no table `todo`
    "#]]
    .assert_eq(&check(&yaml, &[]));

    expect![[r#"
        6:22 there is no table `app.todo`
          there is one in the schema `public`: write `public.todo`
    "#]]
    .assert_eq(&check(&stream("SELECT id FROM app.todo"), &["todo(id text)"]));

    expect![[r#"
        6:22 there is no table `todo`
          did you mean `"ToDo"`?
    "#]]
    .assert_eq(&check(&stream("SELECT id FROM ToDo"), &["ToDo(id text)"]));
}

#[test]
fn columns_missing_in_the_database_are_errors() {
    let yaml = stream(
        "SELECT id, nam FROM todos WHERE ownerId = auth.user_id() AND list IN \
         (SELECT list_id FROM members WHERE usr = auth.user_id() AND zzz)",
    );
    let todos = r#"todos(id text, name text, "ownerId" text, list text)"#;

    expect![[r#"
        6:18 the table `todos` has no column `nam`
          did you mean `name`?
        6:39 the table `todos` has no column `ownerid`
          did you mean `"ownerId"`?
        6:111 the table `members` has no column `usr`
          its columns are: list_id, user_id
        6:136 the table `members` has no column `zzz`
          its columns are: list_id, user_id
    "#]]
    .assert_eq(&check(&yaml, &[todos, "members(list_id text, user_id text)"]));

    let config = compile(&yaml);
    expect![[r#"
        6:18 the table `todos` has no column `nam`
          did you mean `name`?
        6:39 the table `todos` has no column `ownerid`
          did you mean `"ownerId"`?
    "#]]
    .assert_eq(&format_findings(&config.bind(&table(todos)).unwrap_err()));
}

#[test]
fn a_star_without_an_id_is_an_error() {
    let yaml = stream("SELECT *, a AS b FROM t");
    expect![[r#"
        6:14 the table `t` has no column `id`
          every synced row needs one: name its key, as in `SELECT key AS id, ...`
    "#]]
    .assert_eq(&check(&yaml, &["t(key text, a text)"]));
    expect![[""]].assert_eq(&check(&yaml, &["t(id text, a text)"]));
    expect![[""]].assert_eq(&check(&stream("SELECT *, a AS id FROM t"), &["t(key text, a text)"]));
    assert!(compile(&yaml).bind(&table("t(key text, a text)")).is_err());
}

#[test]
fn comparisons_that_are_never_true_are_a_warning() {
    let spec = "t(id text, n int4, s text, d numeric, b bytea, f bool)";
    let yaml = stream(
        "SELECT * FROM t WHERE n = auth.user_id() AND s = 1 AND d > 2.5 AND b = 'x' AND n = '1' \
         AND f = 'true' AND n IN ('a', 1) AND s::integer = 1 AND f = true AND n = auth.parameter('x')",
    );

    expect![[r#"
        6:29 warning: `n` is a number on devices: it equals the user only if `sub` is a number in the token
          if `sub` is a text, write `n::text`
        6:52 warning: `s` is a text on devices and is never equal to a number
          write `s::real` or `s::integer`, or compare with a text
        6:62 warning: `d` is a text on devices and is never equal to a number
          write `d::real` or `d::integer`, or compare with a text
        6:74 warning: `b` is a blob and is never equal to a text or number
          write `hex(b)` and compare with hexadecimal digits
        6:86 warning: `n` is a number on devices and is never equal to a text
          write `n::text`, or compare with a number; booleans are 1 and 0
        6:98 warning: `f` is a number on devices and is never equal to a text
          write `f::text`, or compare with a number; booleans are 1 and 0
        6:113 warning: `n` is a number on devices and is never equal to a text
          write `n::text`, or compare with a number; booleans are 1 and 0
    "#]]
    .assert_eq(&check(&yaml, &[spec]));

    assert!(compile(&yaml).bind(&table(spec)).unwrap().is_some());
}

#[test]
fn tables_that_the_config_does_not_read_have_no_evaluator() {
    let config = compile(&stream("SELECT * FROM t"));
    assert!(config.bind(&table("u(id text)")).unwrap().is_none());
    assert!(config.bind(&table("app.t(id text)")).unwrap().is_none());
    assert!(config.bind(&table("t(id text)")).unwrap().is_some());
}

#[test]
fn each_table_is_listed_once() {
    let yaml = definition(
        &["SELECT a AS x FROM t"],
        &["SELECT * FROM public.t WHERE a = bucket.x", "SELECT * FROM app.t WHERE a = bucket.x"],
    );
    let config = compile(&yaml);
    let names: Vec<String> = config.tables().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["t", "app.t"]);
    assert_eq!(config.lookups()[0].table, 0);
}

#[test]
fn a_cte_that_hides_a_table_is_a_warning() {
    let tables = ["lists(id text)", "todos(id text, list text)", "app.teams(id text)"];
    let yaml = "config: {edition: 3}\nwith:\n  lists: SELECT id FROM todos\n  Todos: SELECT id FROM lists\n\
                streams:\n  s:\n    with: {teams: SELECT id FROM lists}\n    query: >\n      \
                WITH todos AS (SELECT id FROM teams) SELECT * FROM public.todos\n      \
                WHERE list IN (SELECT id FROM lists) AND list IN (SELECT id FROM todos)\n";
    expect![[r#"
        3:3 warning: `lists` is a CTE that hides the table of this name
          give it another name, or write `public.lists` for the table
        9:12 warning: `todos` is a CTE that hides the table of this name
          give it another name, or write `public.todos` for the table
    "#]]
    .assert_eq(&check(yaml, &tables));
}
