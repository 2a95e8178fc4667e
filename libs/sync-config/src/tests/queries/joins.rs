//! Several tables and arrays in one query: buckets of rows, lookups and questions.

use super::*;
use crate::tests::{auto_subscribed, granted};

/// Compares the output of rows of several tables and what a request is granted.
fn check_all(query: &str, tables: &[(&str, &[&str])], request: &str, expected: Expect) {
    let yaml = auto_subscribed(query);
    let config = compile(&yaml);
    let mut text = String::new();

    let mut answers: Vec<(String, Vec<String>)> = Vec::new();
    for (spec, values) in tables {
        let found = rows(&config, &table(spec), values);
        for line in found.lines().filter_map(|line| line.strip_prefix("lookup ")) {
            let (question, output) = line.split_once(" -> ").unwrap();
            match answers.iter_mut().find(|(known, _)| known == question) {
                Some((_, outputs)) => outputs.push(output.to_owned()),
                None => answers.push((question.to_owned(), vec![output.to_owned()])),
            }
        }
        text += &found;
    }

    let answers: Vec<(&str, Vec<&str>)> = answers
        .iter()
        .map(|(question, outputs)| {
            (question.as_str(), outputs.iter().map(String::as_str).collect())
        })
        .collect();
    let answers: Vec<(&str, &[&str])> =
        answers.iter().map(|(question, outputs)| (*question, outputs.as_slice())).collect();

    text += &granted(&yaml, request, &answers);
    expected.assert_eq(&text);
}

const LISTS: &str = "lists(id text, org text)";
const MEMBERS: &str = "members(org text, usr text, role text)";

#[test]
fn a_joined_table_is_a_lookup() {
    check_all(
        "SELECT lists.* FROM lists JOIN members ON members.org = lists.org \
         WHERE members.usr = auth.user_id() AND members.role = 'admin'",
        &[(LISTS, &["l1|o1", "l2|~"]), (MEMBERS, &["o1|u1|admin", "o2|u1|guest", "o3|u2|admin"])],
        "{}",
        expect![[r#"
            s|0["o1"] lists/l1 {"id":"l1","org":"o1"}
            lookup 0 ["u1"] -> ["o1"]
            lookup 0 ["u2"] -> ["o3"]
            question 0 ["u1"]
            s|0["o1"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

#[test]
fn values_of_one_joined_row_stay_together() {
    check_all(
        "SELECT t.id FROM tasks t, members m WHERE m.usr = auth.user_id() AND m.org = t.org \
         AND m.role = t.role",
        &[
            ("tasks(id text, org text, role text)", &["t1|o1|admin", "t2|o1|guest"]),
            (MEMBERS, &["o1|u1|admin", "o2|u1|guest"]),
        ],
        "{}",
        expect![[r#"
            s|0["o1","admin"] t/t1 {"id":"t1"}
            s|0["o1","guest"] t/t2 {"id":"t2"}
            lookup 0 ["u1"] -> ["o1","admin"]
            lookup 0 ["u1"] -> ["o2","guest"]
            question 0 ["u1"]
            s|0["o1","admin"] priority 3 [{"default":0}]
            s|0["o2","guest"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

#[test]
fn lookups_are_chained_from_the_request_to_the_rows() {
    check_all(
        "SELECT c.id FROM comments c WHERE c.list IN (SELECT l.id FROM lists l WHERE l.org IN \
         (SELECT org FROM members WHERE usr = auth.user_id()))",
        &[
            ("comments(id text, list text)", &["c1|l1"]),
            (LISTS, &["l1|o1", "l2|o2"]),
            (MEMBERS, &["o1|u1|admin"]),
        ],
        "{}",
        expect![[r#"
            s|0["l1"] c/c1 {"id":"c1"}
            lookup 1 ["o1"] -> ["l1"]
            lookup 1 ["o2"] -> ["l2"]
            lookup 0 ["u1"] -> ["o1"]
            question 0 ["u1"]
            question 1 ["o1"]
            s|0["l1"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

#[test]
fn a_table_joined_to_the_request_only_must_have_a_row() {
    let query = "SELECT l.id FROM lists l JOIN admins a ON a.usr = auth.user_id()";
    let admins = "admins(usr text)";

    check_all(
        query,
        &[(LISTS, &["l1|o1"]), (admins, &["u1"])],
        "{}",
        expect![[r#"
            s|0[] l/l1 {"id":"l1"}
            lookup 0 ["u1"] -> []
            question 0 ["u1"]
            s|0[] priority 3 [{"default":0}]
            stream s default
        "#]],
    );

    check_all(
        query,
        &[(LISTS, &["l1|o1"]), (admins, &["u2"])],
        "{}",
        expect![[r#"
            s|0[] l/l1 {"id":"l1"}
            lookup 0 ["u2"] -> []
            question 0 ["u1"]
            stream s default
        "#]],
    );
}

#[test]
fn elements_of_a_row_array_may_be_filtered_and_compared() {
    check_all(
        "SELECT d.id FROM docs d, json_each(d.shares) s \
         WHERE s.value ->> 'usr' = auth.user_id() AND s.value ->> 'write' = 1",
        &[(
            "docs(id text, shares jsonb)",
            &[
                r#"d1|[{"usr": "u1", "write": true}, {"usr": "u2", "write": false}]"#,
                r#"d2|[{"usr": "u1", "write": false}, {"usr": "u3", "write": true}]"#,
                "d3|[]",
                "d4|~",
            ],
        )],
        "{}",
        expect![[r#"
            s|0["u1"] d/d1 {"id":"d1"}
            s|0["u3"] d/d2 {"id":"d2"}
            s|0["u1"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

#[test]
fn elements_of_a_request_array_may_be_filtered_and_compared() {
    check_all(
        "SELECT l.id FROM lists l, json_each(auth.parameter('orgs')) o \
         WHERE o.value ->> 'id' = l.org AND o.value ->> 'active' = 1",
        &[(LISTS, &["l1|o1", "l2|o2"])],
        r#"{"claims": {"orgs": [{"id": "o1", "active": true}, {"id": "o2", "active": false}]}}"#,
        expect![[r#"
            s|0["o1"] l/l1 {"id":"l1"}
            s|0["o2"] l/l2 {"id":"l2"}
            s|0["o1"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

#[test]
fn an_unused_left_join_changes_nothing() {
    check_all(
        "SELECT l.id FROM lists l LEFT JOIN members m ON m.org = l.org WHERE l.org = 'o1'",
        &[(LISTS, &["l1|o1", "l2|o2"])],
        "{}",
        expect![[r#"
            s|0[] l/l1 {"id":"l1"}
            s|0[] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

#[test]
fn a_left_join_is_an_inner_join_where_a_condition_needs_its_row() {
    check_all(
        "SELECT l.id FROM lists l LEFT JOIN members m ON m.org = l.org \
         WHERE m.usr = auth.user_id() OR l.org = 'public'",
        &[(LISTS, &["l1|o1", "l2|public"]), (MEMBERS, &["o1|u1|admin"])],
        "{}",
        expect![[r#"
            s|0["o1"] l/l1 {"id":"l1"}
            s|0["public"] l/l2 {"id":"l2"}
            s|1[] l/l2 {"id":"l2"}
            lookup 0 ["u1"] -> ["o1"]
            question 0 ["u1"]
            s|0["o1"] priority 3 [{"default":0}]
            s|1[] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

/// Selected rows must exist, so a left join of their table is an inner join.
#[test]
fn a_left_join_of_the_selected_table_is_an_inner_join() {
    check_all(
        "SELECT lists.* FROM members m LEFT JOIN lists ON lists.org = m.org \
         WHERE m.usr = auth.user_id()",
        &[(LISTS, &["l1|o1", "l2|o2"]), (MEMBERS, &["o1|u1|admin"])],
        "{}",
        expect![[r#"
            s|0["o1"] lists/l1 {"id":"l1","org":"o1"}
            s|0["o2"] lists/l2 {"id":"l2","org":"o2"}
            lookup 0 ["u1"] -> ["o1"]
            question 0 ["u1"]
            s|0["o1"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

#[test]
fn ctes_of_the_file_stream_and_query_are_inlined() {
    let yaml = "config: {edition: 3}\nwith:\n  \
        myOrgs: SELECT org FROM members WHERE usr = auth.user_id()\n  \
        hidden: SELECT 1 AS x FROM nowhere\n\
        streams:\n  s:\n    auto_subscribe: true\n    with:\n      \
        hidden: SELECT l.id FROM lists l WHERE l.org IN myOrgs\n    query: |\n      \
        WITH theirs AS (SELECT id FROM hidden)\n      \
        SELECT c.id FROM comments c WHERE c.list IN theirs\n";
    let config = compile(yaml);
    let tables: Vec<&str> = config.tables().iter().map(|table| table.name.as_str()).collect();

    assert_eq!(tables, ["comments", "lists", "members"]);

    let warnings: Vec<&str> =
        config.warnings().iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(warnings, ["`hidden` is not used"]);
    assert_eq!(config.warnings()[0].line, 4);

    expect![[r#"
        question 0 ["u1"]
        question 1 ["o1"]
        s|0["l1"] priority 3 [{"default":0}]
        stream s default
    "#]]
    .assert_eq(&granted(
        yaml,
        "{}",
        &[("0 [\"u1\"]", &["[\"o1\"]"]), ("1 [\"o1\"]", &["[\"l1\"]"])],
    ));
}

#[test]
fn a_subquery_in_from_may_be_selected_if_its_rows_are_of_one_table() {
    check_all(
        "SELECT d.* FROM (SELECT id, org AS o FROM lists WHERE org != 'x') AS d \
         JOIN members m ON m.org = d.o WHERE m.usr = auth.user_id()",
        &[(LISTS, &["l1|o1", "l2|x"]), (MEMBERS, &["o1|u1|admin"])],
        "{}",
        expect![[r#"
            s|0["o1"] lists/l1 {"id":"l1","o":"o1"}
            lookup 0 ["u1"] -> ["o1"]
            question 0 ["u1"]
            s|0["o1"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

#[test]
fn alternatives_over_equal_rows_share_one_family() {
    check_all(
        "SELECT id FROM lists WHERE org = auth.parameter('a') OR org = auth.parameter('b')",
        &[(LISTS, &["l1|o1"])],
        r#"{"claims": {"a": "o1", "b": "o2"}}"#,
        expect![[r#"
            s|0["o1"] lists/l1 {"id":"l1"}
            s|0["o1"] priority 3 [{"default":0}]
            s|0["o2"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

#[test]
fn parameter_queries_may_be_over_an_array_of_the_request() {
    let yaml = definition(
        &["SELECT value ->> 'id' AS org FROM json_each(request.jwt() -> 'orgs') \
           WHERE value ->> 'role' != 'guest'"],
        &["SELECT * FROM lists WHERE org = bucket.org"],
    );
    let request =
        r#"{"claims": {"orgs": [{"id": "o1", "role": "a"}, {"id": "o2", "role": "guest"}]}}"#;
    expect![[r#"
        b["o1"] priority 3 [{"default":0}]
        stream b default
    "#]]
    .assert_eq(&granted(&yaml, request, &[]));
}

fn warnings(query: &str) -> Vec<String> {
    let config = compile(&stream(query));
    config.warnings().iter().map(|one| format!("{}: {}", one.column, one.message)).collect()
}

#[test]
fn an_alias_that_renames_the_table_on_devices_is_a_warning() {
    let join = "JOIN members m ON m.org = l.org WHERE m.usr = auth.user_id()";
    assert_eq!(
        warnings(&format!("SELECT l.* FROM lists l {join}")),
        ["23: on devices the table of these rows is called `l`"]
    );

    for query in [
        &format!("SELECT l.* FROM lists AS \"l\" {join}"),
        &format!("SELECT lists.* FROM lists {}", join.replace("l.", "lists.")),
        "SELECT * FROM lists l",
    ] {
        assert_eq!(warnings(query), [""; 0], "{query}");
    }
}
