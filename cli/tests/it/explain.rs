//! `tidewater explain`.

use expect_test::expect;
use serde_json::{Value, json};

use crate::program::{VALID_CONFIG, check_missing_config, run_on_config, stdout};

const BAD: &str = "\
config:
  edition: 3
streams:
  lists:
    query: SELECT * FROM lists GROUP BY id
";

#[test]
fn a_config_is_explained_as_text() {
    expect![[r#"
        stream todos  (subscribed by the app, priority 3)
          family todos|0
            rows: public.todos as todos, all columns
              by owner_id
            found by:
              1. auth.user_id()
            buckets: one, of auth.user_id()

        table public.todos: a change of a row writes up to 1 bucket family and 0 lookups; reads all columns
    "#]]
    .assert_eq(&stdout(&run_on_config("explain", VALID_CONFIG, &[]), 0));
}

#[test]
fn a_config_is_explained_as_json() {
    let output = stdout(&run_on_config("explain", VALID_CONFIG, &["--format", "json"]), 0);
    let expected = json!({
        "ok": true,
        "streams": [{
            "name": "todos", "is_bucket_definition": false, "auto_subscribe": false, "priority": 3,
            "families": [{
                "name": "todos|0",
                "rows": [{
                    "table": "public.todos", "output_table": "todos", "columns": ["*"],
                    "without_underscore": false, "arrays": [], "conditions": [],
                    "keys": ["owner_id"], "reads": ["*"],
                }],
                "found_by": [{
                    "priority": 3, "conditions": [],
                    "steps": [{"kind": "value", "value": "auth.user_id()"}],
                    "parameters": ["auth.user_id()"], "absent": [],
                }],
            }],
        }],
        "tables": [{"table": "public.todos", "families": 1, "lookups": 0, "reads": ["*"]}],
    });

    assert_eq!(serde_json::from_str::<Value>(&output).unwrap(), expected);
    assert_eq!(output.lines().count(), 1, "{output}");
}

#[test]
fn errors_are_reported_as_validate_does() {
    for format in ["text", "json"] {
        let args = ["--format", format];
        let explained = stdout(&run_on_config("explain", BAD, &args), 2);
        assert_eq!(explained, stdout(&run_on_config("validate", BAD, &args), 2));
        assert!(explained.contains("`GROUP` is not supported"), "{explained}");
    }
}

#[test]
fn a_missing_file_is_wrong_usage_without_output() {
    check_missing_config("explain", &[]);
}
