//! Forms that public sync configs have, with the meaning that PowerSync gives them.

use expect_test::{Expect, expect};

use super::{compile, definition, format_findings, granted, refused, row, stream};

const NOTES: &str = "notes(id text, owner_id text, other_id text, n int4, list jsonb)";

fn check_granted(parameters: &[&str], request: &str, answers: &[(&str, &[&str])], found: Expect) {
    let yaml = definition(parameters, &["SELECT id FROM notes"]);
    found.assert_eq(&granted(&yaml, request, answers));
}

#[test]
fn a_parameter_query_without_columns_decides_who_gets_the_bucket() {
    check_granted(
        &["SELECT FROM users WHERE users.id = request.user_id()"],
        "{}",
        &[(r#"0 ["u1"]"#, &["[]"])],
        expect![[r#"
            question 0 ["u1"]
            b[] priority 3 [{"default":0}]
            stream b default
        "#]],
    );
    check_granted(
        &["SELECT FROM users WHERE users.id = request.user_id()"],
        "{}",
        &[],
        expect![[r#"
            question 0 ["u1"]
            stream b default
        "#]],
    );

    let admins = ["SELECT WHERE request.jwt() ->> 'role' = 'admin'"];
    check_granted(
        &admins,
        r#"{"claims": {"role": "admin"}}"#,
        &[],
        expect![[r#"
            b[] priority 3 [{"default":0}]
            stream b default
        "#]],
    );
    check_granted(
        &admins,
        r#"{"claims": {"role": "user"}}"#,
        &[],
        expect![[r#"
            stream b default
        "#]],
    );

    for everybody in ["SELECT", "select;", "SELECT WHERE true"] {
        check_granted(
            &[everybody],
            "{}",
            &[],
            expect![[r#"
                b[] priority 3 [{"default":0}]
                stream b default
            "#]],
        );
    }
}

#[test]
fn a_row_of_such_a_query_answers_for_its_user() {
    let parameters = ["SELECT FROM users WHERE users.id = request.user_id() AND NOT banned"];
    let yaml = definition(&parameters, &["SELECT id FROM notes"]);
    let users = "users(id text, banned bool)";
    expect![[r#"
        lookup 0 ["u1"] -> []
    "#]]
    .assert_eq(&row(&yaml, users, "u1|f"));
    expect![[""]].assert_eq(&row(&yaml, users, "u1|t"));
}

#[test]
fn other_queries_need_columns() {
    for query in ["SELECT FROM notes", "SELECT", "SELECT WHERE true"] {
        let found = refused(&stream(query));
        assert!(found.starts_with("6:7 the query "), "{query}: {found}");
        let found = refused(&definition(&[], &[query]));
        assert!(found.starts_with("7:9 the query "), "{query}: {found}");
    }
    expect![[r#"
        6:7 the query selects no column
          write `SELECT * FROM ...`, or name the columns
    "#]]
    .assert_eq(&refused(&stream("SELECT FROM notes")));
    assert!(
        refused(&stream("SELECT id FROM notes WHERE owner_id IN (SELECT FROM users)"))
            .contains("one column")
    );
}

/// A row is in a bucket whose parameter equals all values that it is compared with.
#[test]
fn a_parameter_may_be_compared_with_several_values() {
    let found = |condition: &str, values: &str| {
        let query = format!("SELECT id FROM notes WHERE {condition}");
        row(&definition(&["SELECT request.user_id() AS u"], &[&query]), NOTES, values)
    };
    let one = "b[\"u1\"] notes/1 {\"id\":\"1\"}\n";

    let both = "owner_id = bucket.u AND (owner_id = bucket.u OR other_id = bucket.u)";
    assert_eq!(found(both, "1|u1|u2|1|[]"), one);
    assert_eq!(found(both, "1|u1|~|1|[]"), one);
    assert_eq!(found(both, "1|~|u1|1|[]"), "");

    let equal = "owner_id = bucket.u AND other_id = bucket.u";
    assert_eq!(found(equal, "1|u1|u1|1|[]"), one);
    assert_eq!(found(equal, "1|u1|u2|1|[]"), "");
    assert_eq!(found(equal, "1|u1|~|1|[]"), "");
    assert_eq!(found("owner_id = bucket.u AND bucket.u = owner_id", "1|u1|u2|1|[]"), one);

    let member = "owner_id = bucket.u AND bucket.u IN list";
    assert_eq!(found(member, r#"1|u1|u2|1|["u0", "u1"]"#), one);
    assert_eq!(found(member, r#"1|u1|u2|1|["u0"]"#), "");
    assert_eq!(found("bucket.u = 'u1' AND owner_id = bucket.u", "1|u1|u2|1|[]"), one);
    assert_eq!(found("bucket.u = 'u1' AND owner_id = bucket.u", "1|u2|u2|1|[]"), "");
}

/// Two ways into the same bucket give the row once.
#[test]
fn a_row_of_several_alternatives_is_in_the_bucket_once() {
    let query = "SELECT id FROM notes WHERE owner_id = bucket.u AND (n = 1 OR other_id = bucket.u)";
    let yaml = definition(&["SELECT request.user_id() AS u"], &[query]);
    let once = "b[\"u1\"] notes/1 {\"id\":\"1\"}\n";
    assert_eq!(row(&yaml, NOTES, "1|u1|u1|1|[]"), once);
}

#[test]
fn streams_without_a_config_are_the_early_form() {
    let yaml = "streams:\n  s:\n    auto_subscribe: true\n    query: SELECT id FROM notes WHERE owner_id = auth.user_id()\n";
    expect![[r#"
        1:1 warning: without edition 3 `streams` are an early form with fewer features
          set `edition: 3` in `config`
    "#]]
    .assert_eq(&format_findings(compile(yaml).warnings()));
    expect![[r#"
        s|0["u1"] notes/1 {"id":"1"}
    "#]]
    .assert_eq(&row(yaml, NOTES, "1|u1|u2|1|[]"));
    expect![[r#"
        s|0["u1"] priority 3 [{"default":0}]
        stream s default
    "#]]
    .assert_eq(&granted(yaml, "{}", &[]));
}

#[test]
fn event_definitions_are_a_warning() {
    let yaml = "config: {edition: 3}\nevent_definitions:\n  write_checkpoints:\n    payloads:\n      - \
                SELECT user_id, client_id, checkpoint FROM checkpoints\n\
                streams: {s: {query: SELECT * FROM notes}}\n";
    expect![[r#"
        2:1 warning: `event_definitions` has no effect: events are not delivered
          remove it, unless a PowerSync service reads the file
    "#]]
    .assert_eq(&format_findings(compile(yaml).warnings()));
}

#[test]
fn a_stream_may_have_any_name() {
    let long = "x".repeat(101);
    for name in ["a/role=user", "a[0]#b|1", "ключ \u{1f511}", "it's \"one\"", &long] {
        let quoted = name.replace('\'', "''");
        let yaml = format!(
            "config: {{edition: 3}}\nstreams:\n  '{quoted}':\n    auto_subscribe: true\n    query: SELECT id FROM notes\n"
        );
        assert_eq!(
            row(&yaml, NOTES, "1|u1|u2|1|[]"),
            format!("{name}|0[] notes/1 {{\"id\":\"1\"}}\n")
        );
        let found = granted(&yaml, "{}", &[]);
        assert!(found.ends_with(&format!("stream {name} default\n")), "{found}");
    }
}

/// PostgreSQL stores numbers that no `f64` has, and JSON that is nested deeper than serde_json reads.
#[test]
fn json_that_postgresql_stores_is_read() {
    let yaml = stream("SELECT id, list ->> 'a' AS a, list -> 'n' AS n FROM notes WHERE n > 0");
    expect![[r#"
        s|0[] notes/1 {"id":"1","a":"x","n":"1.7976931348623157e+308"}
    "#]]
    .assert_eq(&row(&yaml, NOTES, r#"1|u|u|1|{"a": "x", "n": 1e309}"#));

    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let expected = format!("s|0[] notes/1 {{\"id\":\"1\",\"a\":\"x\",\"n\":\"{deep}\"}}\n");
    assert_eq!(row(&yaml, NOTES, &format!(r#"1|u|u|1|{{"a": "x", "n": {deep}}}"#)), expected);

    let members = stream("SELECT id FROM notes WHERE auth.user_id() IN list");
    expect![[r#"
        s|0["u1"] notes/1 {"id":"1"}
        s|0[1.7976931348623157e+308] notes/1 {"id":"1"}
    "#]]
    .assert_eq(&row(&members, NOTES, r#"1|u|u|1|["u1", 1e400]"#));

    let too_deep = format!("{}1{}", "[".repeat(1_001), "]".repeat(1_001));
    let found = row(&yaml, NOTES, &format!(r#"1|u|u|1|{{"n": {too_deep}}}"#));
    assert!(found.starts_with("error ") && found.contains("1000 levels"), "{found}");
}

fn check_hint(yaml: &str, says: &str) {
    let found = refused(yaml);
    assert!(found.contains(&format!("  {says}\n")), "{says} is not in:\n{found}");
}

#[test]
fn functions_of_the_request_are_suggested() {
    for (condition, says) in [
        ("a = auth.user_id", "write `auth.user_id()`"),
        ("a = auth.uid()", "did you mean `auth.user_id()`?"),
        ("a = auth.jwt()", "did you mean `auth.parameters()`?"),
        ("a = auth.org_id", "write `auth.parameter('org_id')`"),
        ("a = user_id()", "did you mean `auth.user_id()`?"),
        ("a = jwt() ->> 'x'", "did you mean `auth.parameters()`?"),
        ("a = parameter('x')", "did you mean `auth.parameter(...)`?"),
        ("a = request.user_id()", "write `auth.user_id()`"),
        ("a = request.jwt() ->> 'x'", "write `auth.parameters()`"),
        ("a = request.parameters() ->> 'x'", "write `connection.parameters()`"),
        ("a = token_parameters.user_id", "write `auth.user_id()`"),
        ("a = token_parameters.org", "write `auth.parameter('org')`"),
        ("a = user_parameters.x", "write `connection.parameter('x')`"),
        ("a = subscription.project", "write `subscription.parameter('project')`"),
        ("a = auth.parameters('org')", "write `auth.parameter('org')`"),
        ("a = auth.parameter()", "name a claim of the token, as in `auth.parameter('org_id')`"),
        (
            "a = subscription.parameter()",
            "name a parameter, as in `subscription.parameter('project')`",
        ),
    ] {
        check_hint(&stream(&format!("SELECT id FROM t WHERE {condition}")), says);
    }

    for (query, says) in [
        ("SELECT auth.user_id() AS u", "write `request.user_id()`"),
        ("SELECT user_id() AS u", "did you mean `request.user_id()`?"),
        ("SELECT auth.parameter('x') AS u", "write `request.jwt() ->> ...`"),
        ("SELECT request.jwt('x') AS u", "write `request.jwt() ->> 'x'`"),
        ("SELECT request.org AS u", "write `request.jwt() ->> 'org'`"),
    ] {
        check_hint(&definition(&[query], &["SELECT id FROM t WHERE a = bucket.u"]), says);
    }
}

/// A table may have the name of a function's namespace.
#[test]
fn a_table_called_auth_has_columns() {
    let found = refused(&stream("SELECT id FROM auth WHERE auth.user_id = auth.user_id()"));
    assert_eq!(found, "accepted\n");
}

#[test]
fn mistakes_of_yaml_have_hints() {
    check_hint(
        "config: {edition: 3}\nstreams:\n  my_lists:\n  query: SELECT * FROM lists\n",
        "indent what belongs to it",
    );
    check_hint("config: {edition: 3}\nstreams:\nlists:\n", "indent what belongs to it");
    for (value, says) in [
        ("yes", "write `true`"),
        ("On", "write `true`"),
        ("'true'", "write `true`"),
        ("no", "write `false`"),
    ] {
        let yaml = format!(
            "config: {{edition: 3}}\nstreams: {{s: {{auto_subscribe: {value}, query: SELECT * FROM t}}}}\n"
        );
        check_hint(&yaml, says);
    }
}

#[test]
fn all_errors_of_a_query_are_reported() {
    expect![[r#"
        6:14 unknown function `uper`
          did you mean `upper`?
        6:55 unknown function `user_id`
          did you mean `auth.user_id()`?
        6:69 `u` in `u.x` is not a table of this query
          the table is `t`
        6:87 unknown function `lowr`
          did you mean `lower`?
        6:97 unknown function `lowwer`
          did you mean `lower`?
    "#]]
    .assert_eq(&refused(&stream(
        "SELECT uper(a) AS a, id FROM t WHERE owner_id = user_id() AND u.x = 1 AND (b OR lowr(c) = lowwer(d))",
    )));
}
