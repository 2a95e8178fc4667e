//! `json_each` in `FROM`.

use expect_test::expect;

use super::super::{granted, row};
use super::{check_refused, check_request, lookups, stream};

const NOTES: &str = "notes(id text, shares json)";

fn rows(query: &str, values: &[&str]) -> String {
    values.iter().map(|values| row(&stream(query), NOTES, values)).collect()
}

#[test]
fn json_each_of_a_row_has_values_and_keys() {
    let values = [
        r#"a|{"u1": "rw", "u2": "r"}"#,
        r#"b|["u1", "u2"]"#,
        r#"c|"u1""#,
        "d|null",
        "e|~",
        "f|{}",
        "g|u1",
    ];

    expect![[r#"
        s|0["u1"] notes/a {"id":"a"}
        s|0["u2"] notes/a {"id":"a"}
        s|0[0] notes/b {"id":"b"}
        s|0[1] notes/b {"id":"b"}
        error s|0: a value is not valid JSON, or is nested more than 1000 levels deep
    "#]]
    .assert_eq(&rows(
        "SELECT notes.id FROM notes, json_each(notes.shares) AS s WHERE s.key = auth.user_id()",
        &values,
    ));

    expect![[r#"
        s|0["u1"] notes/a {"id":"a"}
        error s|0: a value is not valid JSON, or is nested more than 1000 levels deep
    "#]]
    .assert_eq(&rows(
        "SELECT notes.id FROM notes JOIN json_each(notes.shares) AS s ON s.value = 'rw' \
         WHERE s.key = auth.user_id()",
        &values,
    ));

    expect![[r#"
        s|0["u1"] notes/b {"id":"b"}
        s|0["u2"] notes/b {"id":"b"}
        error s|0: a value is not valid JSON, or is nested more than 1000 levels deep
    "#]]
    .assert_eq(&rows(
        "SELECT notes.id FROM notes, json_each(notes.shares) WHERE json_each.value = auth.user_id() \
         AND typeof(json_each.key) = 'integer'",
        &values,
    ));

    // A scalar has no key.
    expect![[r#"
        s|0["u1"] notes/c {"id":"c"}
        error s|0: a value is not valid JSON, or is nested more than 1000 levels deep
    "#]]
    .assert_eq(&rows(
        "SELECT notes.id FROM notes, json_each(notes.shares) AS s WHERE s.value = auth.user_id() \
         AND s.key IS NULL",
        &values,
    ));
}

#[test]
fn json_each_of_the_request_has_values_and_keys() {
    let request = r#"{"claims": {"lists": {"l1": "owner", "l2": "guest"}, "ids": ["x", "y"]}}"#;
    check_request(
        "SELECT todos.* FROM todos, json_each(auth.parameter('lists')) AS l \
         WHERE todos.list = l.key AND l.value != 'guest'",
        request,
        expect![[r#"
            s|0["l1"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );

    check_request(
        "SELECT * FROM todos WHERE list IN (SELECT key FROM json_each(auth.parameter('lists')))",
        request,
        expect![[r#"
            s|0["l1"] priority 3 [{"default":0}]
            s|0["l2"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );

    check_request(
        "SELECT todos.* FROM todos JOIN json_each(auth.parameter('ids')) AS i \
         ON todos.n = i.key AND todos.list = i.value",
        request,
        expect![[r#"
            s|0[0,"x"] priority 3 [{"default":0}]
            s|0[1,"y"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

#[test]
fn json_each_of_a_lookup_row_yields_answers() {
    let query = "SELECT * FROM todos WHERE list IN \
                 (SELECT s.key FROM notes, json_each(notes.shares) AS s WHERE s.value = auth.user_id())";
    expect![[r#"
        lookup 0 ["u1"] -> ["l1"]
        lookup 0 ["u2"] -> ["l2"]
    "#]]
    .assert_eq(&lookups(query, NOTES, r#"a|{"l1": "u1", "l2": "u2"}"#));
}

#[test]
fn json_each_of_the_request_works_in_bucket_definitions() {
    for edition in [1, 2] {
        let yaml = format!(
            "config: {{edition: {edition}}}\nbucket_definitions:\n  b:\n    parameters:\n      \
             - SELECT key AS list FROM json_each(request.jwt() -> 'lists') WHERE value = 'owner'\n    \
             data: [SELECT * FROM todos WHERE list = bucket.list]\n"
        );

        expect![[r#"
            b["l1"] priority 3 [{"default":0}]
            stream b default
        "#]]
        .assert_eq(&granted(
            &yaml,
            r#"{"claims": {"lists": {"l1": "owner", "l2": "guest"}}}"#,
            &[],
        ));
    }
}

#[test]
fn json_each_has_one_argument_and_only_two_columns() {
    check_refused(
        &[
            "SELECT t.id FROM t, json_each(t.a) AS e WHERE e.atom = 1",
            "SELECT t.id, e.key AS k FROM t, json_each(t.a) AS e",
            "SELECT t.id, e.value AS v FROM t, json_each(t.a) AS e",
            "SELECT * FROM json_each(auth.parameter('a')) AS e",
            "SELECT t.id FROM t, json_each(t.a, '$.b') AS e",
            "SELECT t.id FROM t, json_each() AS e",
            "SELECT t.id FROM t, json_each(t.a) AS e, json_each(e.value) AS f WHERE f.value = 1",
            "SELECT t.id FROM t, json_tree(t.a) AS e",
            "SELECT t.id FROM t, public.json_each(t.a) AS e",
        ],
        expect![[r#"
            SELECT t.id FROM t, json_each(t.a) AS e WHERE e.atom = 1
            6:53 `json_each` has no column `atom`
              it has `value` and `key`
            SELECT t.id, e.key AS k FROM t, json_each(t.a) AS e
            6:20 elements of an array cannot be synced as columns
              select columns of the table
            SELECT t.id, e.value AS v FROM t, json_each(t.a) AS e
            6:20 elements of an array cannot be synced as columns
              select columns of the table
            SELECT * FROM json_each(auth.parameter('a')) AS e
            6:14 elements of an array cannot be synced as columns
              select columns of the table
            SELECT t.id FROM t, json_each(t.a, '$.b') AS e
            6:27 `json_each` takes 1 argument, not 2
            SELECT t.id FROM t, json_each() AS e
            6:27 `json_each` takes 1 argument, not 0
            SELECT t.id FROM t, json_each(t.a) AS e, json_each(e.value) AS f WHERE f.value = 1
            6:58 an array within an element of another array is not supported
              the array must be of a table's row or of the request
            SELECT t.id FROM t, json_tree(t.a) AS e
            6:27 the function `json_tree` is not supported in `FROM`
              use `json_each(array)`
            SELECT t.id FROM t, public.json_each(t.a) AS e
            6:27 the function `json_each` is not supported in `FROM`
              use `json_each(array)`
        "#]],
    );
}
