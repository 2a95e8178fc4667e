//! `tidewater validate`, as a person and as a program run it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Output};

use expect_test::{Expect, expect};

const GOOD: &str = "\
config:
  edition: 3
streams:
  todos:
    query: SELECT * FROM todos WHERE owner_id = auth.user_id()
";
const BAD: &str = "\
config:
  edition: 3
streams:
  todos:
    query: SELECT title FROM todos WHERE owner_id > auth.user_id()
  lists:
    query: SELECT * FROM lists, todos
    colour: blue
";
const DANGEROUS: &str = "\
config:
  edition: 3
streams:
  todos:
    query: SELECT * FROM todos WHERE owner_id = connection.parameter('owner')
";

fn validate(config: &str, args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.yaml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewater"));
    command.current_dir(dir.path()).env_clear().args(["validate", "c.yaml"]).args(args);
    command.output().unwrap()
}

fn check(config: &str, args: &[&str], code: i32, stdout: &Expect) {
    let output = validate(config, args);
    assert_eq!(output.status.code(), Some(code));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    stdout.assert_eq(&String::from_utf8(output.stdout).unwrap());
}

#[test]
fn a_valid_config_is_called_so() {
    check(
        GOOD,
        &[],
        0,
        &expect![[r#"
        c.yaml is valid: 1 definition over 1 table
    "#]],
    );
    check(
        GOOD,
        &["--json"],
        0,
        &expect![[r#"
        {"file":"c.yaml","valid":true,"errors":[],"warnings":[],"definitions":["todos|0"],"tables":["public.todos"]}
    "#]],
    );
}

#[test]
fn all_errors_are_told_at_once_with_their_places() {
    check(
        BAD,
        &[],
        2,
        &expect![[r#"
        c.yaml:5:12: error: the query has no column `id`
         5 |     query: SELECT title FROM todos WHERE owner_id > auth.user_id()
           |            ^
          hint: every synced row needs one: name its key, as in `SELECT key AS id, ...`

        c.yaml:5:42: error: values of the row and of the request can be compared by `=` and `IN` only
         5 |     query: SELECT title FROM todos WHERE owner_id > auth.user_id()
           |                                          ^
          hint: write `column = <request value>` or `column IN <request array>`

        c.yaml:7:32: error: `JOIN` is not supported
         7 |     query: SELECT * FROM lists JOIN todos
           |                                ^
          hint: select from one table, and refer to others by `x IN (SELECT ...)`

        c.yaml:8:5: error: unknown key `colour`
         8 |     colour: blue
           |     ^
          hint: the keys here are: auto_subscribe, priority, accept_potentially_dangerous_queries, query, queries

        c.yaml is not valid: 4 errors
    "#]],
    );
    check(
        BAD,
        &["--json"],
        2,
        &expect![[r#"
        {"file":"c.yaml","valid":false,"errors":[{"line":5,"column":12,"message":"the query has no column `id`","hint":"every synced row needs one: name its key, as in `SELECT key AS id, ...`"},{"line":5,"column":42,"message":"values of the row and of the request can be compared by `=` and `IN` only","hint":"write `column = <request value>` or `column IN <request array>`"},{"line":7,"column":32,"message":"`JOIN` is not supported","hint":"select from one table, and refer to others by `x IN (SELECT ...)`"},{"line":8,"column":5,"message":"unknown key `colour`","hint":"the keys here are: auto_subscribe, priority, accept_potentially_dangerous_queries, query, queries"}],"warnings":[]}
    "#]],
    );
}

#[test]
fn warnings_do_not_fail() {
    check(
        DANGEROUS,
        &[],
        0,
        &expect![[r#"
        c.yaml:5:12: warning: any client can read this: it depends on parameters that clients choose and on nothing in the token
         5 |     query: SELECT * FROM todos WHERE owner_id = connection.parameter('owner')
           |            ^
          hint: compare with `auth.user_id()` or `auth.parameter(...)` too, or set `accept_potentially_dangerous_queries: true`

        c.yaml is valid: 1 definition over 1 table, 1 warning
    "#]],
    );
}

#[test]
fn a_database_that_cannot_be_asked_is_no_verdict() {
    let url = "postgres://u:p@127.0.0.1:1/app?sslmode=disable";
    let output = validate(GOOD, &["--database-url", url]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot connect to PostgreSQL at 127.0.0.1:1"), "{stderr}");
    let output = validate(GOOD, &["--database-url", "host=h"]);
    assert_eq!(output.status.code(), Some(2));
}
