//! Requests: questions to lookups, and their answers.

use expect_test::expect;

use super::super::{auto_subscribed, compile};
use super::check;

#[test]
fn inner_queries_are_asked_once_and_grant_their_answers() {
    let yaml = "config: {edition: 3}\nstreams:\n  a:\n    auto_subscribe: true\n    priority: 2\n    \
        query: SELECT * FROM t WHERE a IN (SELECT org FROM m WHERE u = auth.user_id())\n  \
        b:\n    auto_subscribe: true\n    \
        query: SELECT * FROM v WHERE b IN (SELECT org FROM m WHERE u = auth.user_id())\n";
    assert_eq!(compile(yaml).lookups().len(), 1);

    check(
        yaml,
        "{}",
        &[(r#"0 ["u1"]"#, &[r#"["o1"]"#, r#"["o2"]"#, r#"["o1"]"#])],
        expect![[r#"
        question 0 ["u1"]
        a|0["o1"] priority 2 [{"default":0}]
        a|0["o2"] priority 2 [{"default":0}]
        b|0["o1"] priority 3 [{"default":1}]
        b|0["o2"] priority 3 [{"default":1}]
        stream a default
        stream b default
    "#]],
    );

    check(
        yaml,
        "{}",
        &[],
        expect![[r#"
        question 0 ["u1"]
        stream a default
        stream b default
    "#]],
    );
}

#[test]
fn an_inner_query_is_asked_once_for_each_element() {
    let yaml = auto_subscribed(
        "SELECT * FROM t WHERE a IN \
         (SELECT x FROM m WHERE u IN auth.parameter('us') AND v = auth.user_id() AND w IN (1, 2))",
    );

    check(
        &yaml,
        r#"{"claims": {"us": ["a", "b", "a"]}}"#,
        &[(r#"0 ["a","u1"]"#, &["[1]", "[2]"]), (r#"0 ["b","u1"]"#, &["[2]", "[3]"])],
        expect![[r#"
            question 0 ["a","u1"]
            question 0 ["b","u1"]
            s|0[1] priority 3 [{"default":0}]
            s|0[2] priority 3 [{"default":0}]
            s|0[3] priority 3 [{"default":0}]
            stream s default
        "#]],
    );

    check(
        &yaml,
        r#"{"claims": {"us": []}}"#,
        &[],
        expect![[r#"
        stream s default
    "#]],
    );
}

#[test]
fn a_request_value_in_an_inner_query_is_part_of_its_key() {
    let yaml = auto_subscribed(
        "SELECT * FROM t WHERE auth.user_id() IN (SELECT id FROM users WHERE is_admin) AND b = 1",
    );

    check(
        &yaml,
        "{}",
        &[(r#"0 ["u1"]"#, &["[]"])],
        expect![[r#"
        question 0 ["u1"]
        s|0[] priority 3 [{"default":0}]
        stream s default
    "#]],
    );

    check(
        &yaml,
        "{}",
        &[],
        expect![[r#"
        question 0 ["u1"]
        stream s default
    "#]],
    );
}

#[test]
fn request_filters_in_an_inner_query_are_evaluated_before_its_questions() {
    let yaml = auto_subscribed(
        "SELECT * FROM t WHERE a IN \
         (SELECT x FROM m WHERE u = auth.user_id() AND auth.parameter('ok') = 1)",
    );

    check(
        &yaml,
        r#"{"claims": {"ok": 1}}"#,
        &[(r#"0 ["u1"]"#, &["[7]"])],
        expect![[r#"
        question 0 ["u1"]
        s|0[7] priority 3 [{"default":0}]
        stream s default
    "#]],
    );

    check(
        &yaml,
        "{}",
        &[(r#"0 ["u1"]"#, &["[7]"])],
        expect![[r#"
        stream s default
    "#]],
    );
}

#[test]
fn malformed_answers_grant_nothing() {
    let yaml =
        auto_subscribed("SELECT * FROM t WHERE a IN (SELECT x FROM m WHERE u = auth.user_id())");
    let answers: &[&str] = &["", "x", "{}", "[]", "[1,2]", "[3]"];
    check(
        &yaml,
        "{}",
        &[(r#"0 ["u1"]"#, answers)],
        expect![[r#"
        question 0 ["u1"]
        s|0[3] priority 3 [{"default":0}]
        stream s default
    "#]],
    );
}
