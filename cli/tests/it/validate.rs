//! `tidewater validate` and `tidewater schema`.

use std::process::Output;

use expect_test::{Expect, expect};
use serde_json::Value;

use crate::program::{Program, VALID_CONFIG, check_missing_config, run_on_config, stderr, stdout};

const BAD: &str = "\
config:
  edition: 3
streams:
  todos:
    query: SELECT title FROM todos WHERE owner_id > auth.user_id()
  lists:
    query: SELECT * FROM lists GROUP BY id
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
    run_on_config("validate", config, args)
}

fn members(value: &Value) -> Vec<&String> {
    value.as_object().unwrap().keys().collect()
}

/// Returns `ok` and the findings of the JSON document. Each finding has all members.
fn findings(output: &Output, code: i32) -> (bool, Vec<Value>) {
    let document: Value = serde_json::from_str(&stdout(output, code)).unwrap();
    assert_eq!(members(&document), ["ok", "findings"]);

    let findings = document["findings"].as_array().unwrap().clone();
    for one in &findings {
        assert_eq!(members(one), ["severity", "line", "column", "message", "hint"]);
    }
    (document["ok"].as_bool().unwrap(), findings)
}

fn check(config: &str, args: &[&str], code: i32, expected: &Expect) {
    expected.assert_eq(&stdout(&validate(config, args), code));
}

#[test]
fn a_valid_config_is_reported_as_valid() {
    check(
        VALID_CONFIG,
        &[],
        0,
        &expect![[r#"
        c.yaml is valid: 1 stream over 1 table
    "#]],
    );

    check(
        VALID_CONFIG,
        &["--format=json"],
        0,
        &expect![[r#"
            {"ok":true,"findings":[]}
        "#]],
    );
}

#[test]
fn all_errors_are_reported_at_once_with_their_places() {
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

            c.yaml:7:32: error: `GROUP` is not supported
             7 |     query: SELECT * FROM lists GROUP BY id
               |                                ^
              hint: rows are synced as they are: aggregate on the device, or keep the result in a table

            c.yaml:8:5: error: unknown key `colour`
             8 |     colour: blue
               |     ^
              hint: the valid keys are: auto_subscribe, priority, accept_potentially_dangerous_queries, with, query, queries

            c.yaml is not valid: 4 errors
        "#]],
    );
    let (ok, findings) = findings(&validate(BAD, &["--format", "json"]), 2);
    assert!(!ok);
    let places = findings.iter().map(|one| format!("{}:{}", one["line"], one["column"]));
    assert_eq!(places.collect::<Vec<_>>(), ["5:12", "5:42", "7:32", "8:5"]);
    assert!(findings.iter().all(|one| one["severity"] == "error"), "{findings:?}");
    assert_eq!(findings[0]["message"], "the query has no column `id`");
    assert_eq!(
        findings[1]["hint"],
        "write `column = <request value>` or `column IN <request array>`"
    );
}

#[test]
fn warnings_do_not_make_a_config_invalid() {
    check(
        DANGEROUS,
        &[],
        0,
        &expect![[r#"
        c.yaml:5:12: warning: any client can read this: it depends on parameters that clients choose and on nothing in the token
         5 |     query: SELECT * FROM todos WHERE owner_id = connection.parameter('owner')
           |            ^
          hint: compare with `auth.user_id()` or `auth.parameter(...)` too, or set `accept_potentially_dangerous_queries: true`

        c.yaml is valid: 1 stream over 1 table, 1 warning
    "#]],
    );
    let (ok, findings) = findings(&validate(DANGEROUS, &["--format=json"]), 0);
    assert!(ok);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0]["severity"], "warning");
    assert_eq!((&findings[0]["line"], &findings[0]["column"]), (&5.into(), &12.into()));
}

#[test]
fn a_yaml_error_has_a_place_too() {
    // The quote is never closed, and stands after two characters of several bytes each.
    let broken = "config:\n  edition: 3\n{ é😀: \"a }\n";
    let output = validate(broken, &[]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("c.yaml:") && text.contains(": error: not YAML: "), "{text}");
    assert!(text.ends_with("c.yaml is not valid: 1 error\n"), "{text}");
    let (ok, found) = findings(&validate(broken, &["--format=json"]), 2);
    assert!(!ok && found.len() == 1, "{found:?}");
    assert!(found[0]["message"].as_str().unwrap().starts_with("not YAML: "), "{found:?}");
    assert_eq!(found[0]["hint"], Value::Null);
    let place = format!("c.yaml:{}:{}: ", found[0]["line"], found[0]["column"]);
    assert!(text.starts_with(&place), "{place} is not where {text}");
}

#[test]
fn columns_count_characters() {
    let config = "streams: {éü: {colour: blue, query: SELECT * FROM t}}\nconfig: {edition: 3}\n";
    let (_, found) = findings(&validate(config, &["--format=json"]), 2);
    // `streams: {` is 10 characters, the name 2 more (4 bytes), `: {` 3.
    assert_eq!((&found[0]["line"], &found[0]["column"]), (&1.into(), &16.into()), "{found:?}");
}

#[test]
fn a_missing_file_is_wrong_usage_without_output() {
    for format in ["text", "json"] {
        check_missing_config("validate", &["--format", format]);
    }
}

#[test]
fn an_unreachable_database_gives_no_verdict() {
    let url = "postgres://u:p@127.0.0.1:1/app?sslmode=disable";
    let output = validate(VALID_CONFIG, &["--database-url", url]);
    let stderr = stderr(&output, 1);
    assert!(stderr.contains("cannot connect to PostgreSQL at 127.0.0.1:1"), "{stderr}");
    let output = validate(VALID_CONFIG, &["--database-url", "host=h"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_schema_is_printed_unchanged() {
    let output = Program::new().run(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let file = include_bytes!("../../../libs/sync-config/sync-config.schema.json");
    assert!(output.stdout == file, "the output is not the file");
}

/// The line that names the schema for an editor is a comment.
#[test]
fn a_modeline_changes_nothing() {
    let config =
        format!("# yaml-language-server: $schema=./sync-config.schema.json\n{VALID_CONFIG}");
    check(
        &config,
        &["--format=json"],
        0,
        &expect![[r#"
        {"ok":true,"findings":[]}
    "#]],
    );
}
