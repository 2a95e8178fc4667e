//! Bucket parameters: buckets of rows and keys of lookups.

use super::*;

#[test]
fn conditions_on_the_row_are_filters() {
    let filters = [
        "n = 7",
        "n != 7",
        "n <> 8 AND n < 8 AND n <= 7 AND n > 6 AND n >= 7",
        "done",
        "NOT done",
        "done = true",
        "meta IS NULL",
        "meta IS NOT NULL",
        "n IN (1, 7)",
        "n NOT IN (1, 7)",
        "owner_id = id OR n = 7",
        "owner_id = id",
        "meta = meta",
        "NOT (meta = meta)",
        "7.0 = n",
        "n = '7'",
        "owner_id > n",
    ];

    let mut text = String::new();
    for filter in filters {
        let found =
            row(&stream(&format!("SELECT id FROM todos WHERE {filter}")), TODOS, "t1|u1|7|t|~");
        text += &format!("{filter}: {}\n", if found.is_empty() { "no" } else { "yes" });
    }

    expect![[r#"
        n = 7: yes
        n != 7: no
        n <> 8 AND n < 8 AND n <= 7 AND n > 6 AND n >= 7: yes
        done: yes
        NOT done: no
        done = true: yes
        meta IS NULL: yes
        meta IS NOT NULL: no
        n IN (1, 7): yes
        n NOT IN (1, 7): no
        owner_id = id OR n = 7: yes
        owner_id = id: no
        meta = meta: no
        NOT (meta = meta): yes
        7.0 = n: yes
        n = '7': no
        owner_id > n: yes
    "#]]
    .assert_eq(&text);
}

#[test]
fn equality_with_a_request_value_is_a_parameter() {
    check(
        "SELECT id FROM todos WHERE owner_id = auth.user_id()",
        "t1|u1|7|t|~",
        expect![[r#"
        s|0["u1"] todos/t1 {"id":"t1"}
    "#]],
    );

    check(
        "SELECT id FROM todos WHERE auth.parameter('org') = n AND owner_id = connection.parameter('o')",
        "t1|u1|7|t|~",
        expect![[r#"
            s|0[7,"u1"] todos/t1 {"id":"t1"}
        "#]],
    );

    check("SELECT id FROM todos WHERE owner_id = auth.user_id()", "t1|~|7|t|~", expect![[r#""#]]);
}

#[test]
fn whole_reals_are_integers_in_parameters() {
    let yaml = stream("SELECT id FROM t WHERE x = auth.parameter('x')");
    let spec = "t(id text, x float8)";
    let config = compile(&yaml);
    let values = ["1|1", "1|-0", "1|1.5", "1|1e21", "1|9223372036854775807", "1|NaN", "1|Infinity"];
    expect![[r#"
        s|0[1] t/1 {"id":"1"}
        s|0[0] t/1 {"id":"1"}
        s|0[1.5] t/1 {"id":"1"}
        s|0[1e+21] t/1 {"id":"1"}
        s|0[9223372036854776000.0] t/1 {"id":"1"}
        s|0[9e999] t/1 {"id":"1"}
    "#]]
    .assert_eq(&rows(&config, &table(spec), &values));
}

#[test]
fn parameters_are_canonical_json() {
    check(
        "SELECT id FROM todos WHERE owner_id = auth.user_id() AND n = auth.parameter('n')",
        "t1|a \"b\"\\\n\u{1}é|7|t|~",
        expect![[r#"
            s|0["a \"b\"\\\n\u0001é",7] todos/t1 {"id":"t1"}
        "#]],
    );
}

#[test]
fn membership_in_a_request_array_is_one_parameter() {
    check(
        "SELECT id FROM todos WHERE owner_id IN auth.parameter('owners')",
        "t1|u1|7|t|~",
        expect![[r#"
            s|0["u1"] todos/t1 {"id":"t1"}
        "#]],
    );

    check(
        "SELECT id FROM todos WHERE owner_id IN subscription.parameters() -> 'owners'",
        "t1|u1|7|t|~",
        expect![[r#"
            s|0["u1"] todos/t1 {"id":"t1"}
        "#]],
    );
}

#[test]
fn a_row_array_yields_a_bucket_for_each_element() {
    let query = "SELECT id FROM todos WHERE auth.user_id() IN meta";
    check(
        query,
        r#"t1|u1|7|t|["u1", "u2", "u1", null, 3.0]"#,
        expect![[r#"
        s|0["u1"] todos/t1 {"id":"t1"}
        s|0["u2"] todos/t1 {"id":"t1"}
        s|0[3] todos/t1 {"id":"t1"}
    "#]],
    );

    check(query, "t1|u1|7|t|~", expect![[r#""#]]);
    check(query, "t1|u1|7|t|[]", expect![[r#""#]]);

    check(
        query,
        r#"t1|u1|7|t|{"a": 1}"#,
        expect![[r#"
            s|0[1] todos/t1 {"id":"t1"}
        "#]],
    );

    check(
        query,
        "t1|u1|7|t|[1",
        expect![[r#"
            error s|0: a value is not valid JSON, or is nested more than 1000 levels deep
        "#]],
    );
}

#[test]
fn alternatives_are_variants() {
    check(
        "SELECT id FROM todos WHERE owner_id = auth.user_id() OR n = auth.parameter('n') OR done",
        "t1|u1|7|t|~",
        expect![[r#"
            s|0["u1"] todos/t1 {"id":"t1"}
            s|1[7] todos/t1 {"id":"t1"}
            s|2[] todos/t1 {"id":"t1"}
        "#]],
    );

    check(
        "SELECT id FROM todos WHERE auth.user_id() IN (owner_id, id)",
        "t1|u1|7|t|~",
        expect![[r#"
            s|0["u1"] todos/t1 {"id":"t1"}
            s|0["t1"] todos/t1 {"id":"t1"}
        "#]],
    );

    check(
        "SELECT id FROM todos WHERE NOT (NOT (owner_id = auth.user_id()) AND NOT (n = 7))",
        "t1|u1|7|t|~",
        expect![[r#"
            s|0["u1"] todos/t1 {"id":"t1"}
            s|1[] todos/t1 {"id":"t1"}
        "#]],
    );
}

#[test]
fn alternatives_that_differ_only_in_filters_are_merged() {
    let yaml = stream(
        "SELECT id FROM todos WHERE (owner_id = auth.user_id() AND n = 1) \
         OR (owner_id = auth.user_id() AND done)",
    );
    assert_eq!(compile(&yaml).definitions().len(), 1);
    let config = compile(&yaml);
    let values = ["a|u1|1|f|~", "b|u1|2|t|~", "c|u1|1|t|~", "d|u1|2|f|~"];
    expect![[r#"
        s|0["u1"] todos/a {"id":"a"}
        s|0["u1"] todos/b {"id":"b"}
        s|0["u1"] todos/c {"id":"c"}
    "#]]
    .assert_eq(&rows(&config, &table(TODOS), &values));
}

#[test]
fn an_inner_query_is_a_lookup() {
    let yaml = stream(
        "SELECT * FROM lists WHERE org_id IN \
         (SELECT org FROM members WHERE usr = auth.user_id() AND role != 'guest')",
    );
    let config = compile(&yaml);
    expect![[r#"
        s|0["o1"] lists/l1 {"id":"l1","org_id":"o1"}
    "#]]
    .assert_eq(&rows(&config, &table("lists(id text, org_id text)"), &["l1|o1"]));

    let members = table("members(org text, usr text, role text)");
    let values = ["o1|u1|admin", "o1|u1|guest", "~|u1|admin", "o1|~|admin", "o1|u1|~"];

    expect![[r#"
        lookup 0 ["u1"] -> ["o1"]
        lookup 0 ["u1"] -> ["o1"]
    "#]]
    .assert_eq(&rows(&config, &members, &values));
}

#[test]
fn a_table_may_be_data_and_lookup_at_once() {
    let yaml = stream(
        "SELECT m.* FROM members m WHERE m.org IN \
         (SELECT org FROM members WHERE usr = auth.user_id())",
    );
    let config = compile(&yaml);
    let members = table("members(id text, org text, usr text)");
    expect![[r#"
        s|0["o1"] m/m1 {"id":"m1","org":"o1","usr":"u1"}
        lookup 0 ["u1"] -> ["o1"]
    "#]]
    .assert_eq(&rows(&config, &members, &["m1|o1|u1"]));
}

#[test]
fn alternatives_of_an_inner_query_are_variants() {
    let yaml = stream(
        "SELECT id FROM lists WHERE org_id IN \
         (SELECT org FROM members WHERE usr = auth.user_id() OR public)",
    );
    let config = compile(&yaml);
    expect![[r#"
        s|0["o1"] lists/l1 {"id":"l1"}
    "#]]
    .assert_eq(&rows(&config, &table("lists(id text, org_id text)"), &["l1|o1"]));

    let members = table("members(org text, usr text, public bool)");
    expect![[r#"
        lookup 0 ["u1"] -> ["o1"]
        lookup 1 [] -> ["o1"]
        lookup 0 ["u1"] -> ["o2"]
    "#]]
    .assert_eq(&rows(&config, &members, &["o1|u1|t", "o2|u1|f"]));
}

#[test]
fn queries_with_equal_parameters_share_their_buckets() {
    let yaml = "config: {edition: 3}\nstreams:\n  s:\n    queries:\n      \
        - SELECT id FROM lists WHERE owner = auth.user_id()\n      \
        - SELECT id FROM todos WHERE owner_id = auth.user_id()\n      \
        - SELECT id FROM todos WHERE owner_id = auth.parameter('x')\n      \
        - SELECT id FROM todos AS again\n";
    let config = compile(yaml);
    let names: Vec<&str> = config.definitions().iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["s|0", "s|1", "s|2"]);

    expect![[r#"
        s|0["u1"] lists/l1 {"id":"l1"}
    "#]]
    .assert_eq(&rows(&config, &table("lists(id text, owner text)"), &["l1|u1"]));

    expect![[r#"
        s|0["u1"] todos/t1 {"id":"t1"}
        s|1["u1"] todos/t1 {"id":"t1"}
        s|2[] again/t1 {"id":"t1"}
    "#]]
    .assert_eq(&rows(&config, &table(TODOS), &["t1|u1|7|t|~"]));
}

#[test]
fn the_last_query_wins_for_equal_objects_in_a_bucket() {
    let yaml = "config: {edition: 3}\nstreams:\n  s:\n    queries:\n      \
        - SELECT id, 1 AS v FROM todos\n      - SELECT id, 2 AS v FROM todos\n";
    expect![[r#"
        s|0[] todos/t1 {"id":"t1","v":2}
    "#]]
    .assert_eq(&row(yaml, TODOS, "t1|u1|7|t|~"));
}
