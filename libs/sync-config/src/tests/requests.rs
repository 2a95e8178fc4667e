//! Requests: subscriptions, values of the request, and granted buckets.

mod limits;
mod lookups;
mod user;

use expect_test::{Expect, expect};

use super::{auto_subscribed, definition, granted, stream};

fn check(yaml: &str, request: &str, answers: &[(&str, &[&str])], expected: Expect) {
    expected.assert_eq(&granted(yaml, request, answers));
}

#[test]
fn an_auto_subscribed_stream_is_granted_to_every_request() {
    let yaml = auto_subscribed("SELECT * FROM t");
    check(
        &yaml,
        "{}",
        &[],
        expect![[r#"
        s|0[] priority 3 [{"default":0}]
        stream s default
    "#]],
    );
    check(&yaml, r#"{"defaults": false}"#, &[], expect![[""]]);
    check(&stream("SELECT * FROM t"), "{}", &[], expect![[""]]);
}

#[test]
fn explicit_subscriptions_have_parameters_and_priorities_of_their_own() {
    let yaml = stream("SELECT * FROM t WHERE a = subscription.parameter('a')");

    check(
        &yaml,
        r#"{"subscriptions": [
            {"stream": "s", "parameters": {"a": "x"}},
            {"stream": "s", "parameters": {"a": "y"}, "override_priority": 1},
            {"stream": "s", "parameters": {"a": "x"}, "override_priority": 2},
            {"stream": "s", "parameters": {"b": "x"}},
            {"stream": "s", "parameters": {"a": null}},
            {"stream": "s"},
            {"stream": "unknown", "parameters": {}},
            {"stream": "s", "parameters": {"a": "z"}, "override_priority": 4}
        ]}"#,
        &[],
        expect![[r#"
            s|0["x"] priority 2 [{"sub":0},{"sub":2}]
            s|0["y"] priority 1 [{"sub":1}]
            stream s [{"subscription":7,"message":"priority 4 is not one of 0 to 3"}]
        "#]],
    );
}

#[test]
fn an_explicit_subscription_without_parameters_replaces_the_default_one() {
    let yaml = auto_subscribed("SELECT * FROM t");
    check(
        &yaml,
        r#"{"subscriptions": [{"stream": "s"}]}"#,
        &[],
        expect![[r#"
        s|0[] priority 3 [{"sub":0}]
        stream s default
    "#]],
    );

    check(
        &yaml,
        r#"{"subscriptions": [{"stream": "s", "parameters": {}}]}"#,
        &[],
        expect![[r#"
        s|0[] priority 3 [{"default":0},{"sub":0}]
        stream s default
    "#]],
    );
}

fn stream_with_value(value: &str) -> String {
    auto_subscribed(&format!("SELECT * FROM t WHERE a = {value}"))
}

#[test]
fn request_values_become_bucket_parameters() {
    let request = r#"{"sub": "u\"1", "claims": {
            "sub": "u\"1", "n": 1.0, "r": 1.5, "big": 9007199254740993, "t": true, "z": null,
            "o": {"k": [1, 2.0], "a.b": 1}, "a.b": "dotted", "parameters": {"p": "old"}
        }, "parameters": {"c": "conn", "list": [1]}}"#;

    let mut text = String::new();
    for value in [
        "auth.user_id()",
        "auth.parameter('n')",
        "auth.parameter('r')",
        "auth.parameter('big')",
        "auth.parameter('t')",
        "auth.parameter('z')",
        "auth.parameter('missing')",
        "auth.parameter('o')",
        "auth.parameter('$.o.k')",
        "auth.parameter('$.o.k.1')",
        "auth.parameter('a.b')",
        "auth.parameters() ->> 'sub'",
        "auth.parameters() -> 'sub'",
        "auth.parameters() -> 'o' ->> 'k'",
        "auth.parameter('n' || '')",
        "json_extract(auth.parameters(), '$.o.k')",
        "upper(connection.parameter('c'))",
        "connection.parameters() ->> 'list'",
        "connection.parameters()",
        "subscription.parameters()",
        "'constant'",
    ] {
        let found = granted(&stream_with_value(value), request, &[]);
        text += &format!("{value}: {}\n", found.lines().next().unwrap_or_default());
    }

    expect![[r#"
        auth.user_id(): s|0["u\"1"] priority 3 [{"default":0}]
        auth.parameter('n'): s|0[1] priority 3 [{"default":0}]
        auth.parameter('r'): s|0[1.5] priority 3 [{"default":0}]
        auth.parameter('big'): s|0[9007199254740993] priority 3 [{"default":0}]
        auth.parameter('t'): s|0[1] priority 3 [{"default":0}]
        auth.parameter('z'): stream s default
        auth.parameter('missing'): stream s default
        auth.parameter('o'): s|0["{\"k\":[1,2.0],\"a.b\":1}"] priority 3 [{"default":0}]
        auth.parameter('$.o.k'): s|0["[1,2.0]"] priority 3 [{"default":0}]
        auth.parameter('$.o.k.1'): s|0[2] priority 3 [{"default":0}]
        auth.parameter('a.b'): s|0["dotted"] priority 3 [{"default":0}]
        auth.parameters() ->> 'sub': s|0["u\"1"] priority 3 [{"default":0}]
        auth.parameters() -> 'sub': s|0["\"u\\\"1\""] priority 3 [{"default":0}]
        auth.parameters() -> 'o' ->> 'k': s|0["[1,2.0]"] priority 3 [{"default":0}]
        auth.parameter('n' || ''): s|0[1] priority 3 [{"default":0}]
        json_extract(auth.parameters(), '$.o.k'): s|0["[1,2.0]"] priority 3 [{"default":0}]
        upper(connection.parameter('c')): s|0["CONN"] priority 3 [{"default":0}]
        connection.parameters() ->> 'list': s|0["[1]"] priority 3 [{"default":0}]
        connection.parameters(): s|0["{\"c\":\"conn\",\"list\":[1]}"] priority 3 [{"default":0}]
        subscription.parameters(): stream s default
        'constant': s|0[] priority 3 [{"default":0}]
    "#]]
    .assert_eq(&text);
}

#[test]
fn request_values_become_parameters_of_bucket_definitions() {
    let request = r#"{"claims": {"role": "admin", "parameters": {"p": "old", "a.b": 1}},
        "parameters": {"c": "conn", "d": {"e": 5}}}"#;

    let mut text = String::new();
    for value in [
        "request.user_id()",
        "request.jwt() ->> 'role'",
        "request.parameters() ->> 'c'",
        "request.parameter('d')",
        "request.parameter('d.e')",
        "request.parameter('$.d.e')",
        "token_parameters.user_id",
        "token_parameters.p",
        r#"token_parameters."a.b""#,
        "user_parameters.c",
        "user_parameters.missing",
    ] {
        let yaml =
            definition(&[&format!("SELECT {value} AS x")], &["SELECT * FROM t WHERE a = bucket.x"]);
        let found = granted(&yaml, request, &[]);
        text += &format!("{value}: {}\n", found.lines().next().unwrap_or_default());
    }

    expect![[r#"
        request.user_id(): b["u1"] priority 3 [{"default":0}]
        request.jwt() ->> 'role': b["admin"] priority 3 [{"default":0}]
        request.parameters() ->> 'c': b["conn"] priority 3 [{"default":0}]
        request.parameter('d'): b["{\"e\":5}"] priority 3 [{"default":0}]
        request.parameter('d.e'): stream b default
        request.parameter('$.d.e'): b[5] priority 3 [{"default":0}]
        token_parameters.user_id: b["u1"] priority 3 [{"default":0}]
        token_parameters.p: b["old"] priority 3 [{"default":0}]
        token_parameters."a.b": b[1] priority 3 [{"default":0}]
        user_parameters.c: b["conn"] priority 3 [{"default":0}]
        user_parameters.missing: stream b default
    "#]]
    .assert_eq(&text);
}

#[test]
fn request_arrays_yield_a_bucket_for_each_value() {
    let yaml = auto_subscribed("SELECT * FROM t WHERE a IN auth.parameter('a')");
    check(
        &yaml,
        r#"{"claims": {"a": ["x", "y", "x", 1, 1.0, true, null, 1.5, [2], {"b": 1}, "1"]}}"#,
        &[],
        expect![[r#"
            s|0["x"] priority 3 [{"default":0}]
            s|0["y"] priority 3 [{"default":0}]
            s|0[1] priority 3 [{"default":0}]
            s|0[1.5] priority 3 [{"default":0}]
            s|0["[2]"] priority 3 [{"default":0}]
            s|0["{\"b\":1}"] priority 3 [{"default":0}]
            s|0["1"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );

    check(
        &yaml,
        r#"{"claims": {"a": []}}"#,
        &[],
        expect![[r#"
        stream s default
    "#]],
    );

    check(
        &yaml,
        "{}",
        &[],
        expect![[r#"
        stream s default
    "#]],
    );

    check(
        &yaml,
        r#"{"claims": {"a": 5}}"#,
        &[],
        expect![[r#"
        stream s default [{"subscription":"default","message":"cannot evaluate the subscription: a value is not a JSON array"}]
    "#]],
    );

    check(
        &yaml,
        r#"{"claims": {"a": {"b": 1}}}"#,
        &[],
        expect![[r#"
            s|0[1] priority 3 [{"default":0}]
            stream s default
        "#]],
    );

    check(
        &yaml,
        r#"{"claims": {"a": "x"}}"#,
        &[],
        expect![[r#"
            stream s default [{"subscription":"default","message":"cannot evaluate the subscription: a value is not valid JSON, or is nested more than 1000 levels deep"}]
        "#]],
    );
}

#[test]
fn several_parameters_are_combined() {
    let yaml = auto_subscribed(
        "SELECT * FROM t WHERE a IN auth.parameter('a') AND b IN auth.parameter('b') \
         AND c = auth.user_id()",
    );

    check(
        &yaml,
        r#"{"claims": {"a": ["x", "y"], "b": [1, 2]}}"#,
        &[],
        expect![[r#"
        s|0["x",1,"u1"] priority 3 [{"default":0}]
        s|0["x",2,"u1"] priority 3 [{"default":0}]
        s|0["y",1,"u1"] priority 3 [{"default":0}]
        s|0["y",2,"u1"] priority 3 [{"default":0}]
        stream s default
    "#]],
    );
}

#[test]
fn two_conditions_on_one_value_are_intersected() {
    let yaml = auto_subscribed(
        "SELECT * FROM t WHERE a IN auth.parameter('a') AND a IN connection.parameter('a')",
    );

    check(
        &yaml,
        r#"{"claims": {"a": ["x", "y", "z"]}, "parameters": {"a": ["z", "w", "y"]}}"#,
        &[],
        expect![[r#"
            s|0["y"] priority 3 [{"default":0}]
            s|0["z"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );

    let yaml = auto_subscribed(
        "SELECT * FROM t WHERE a IN (SELECT a FROM m WHERE u = auth.user_id()) \
         AND a IN connection.parameter('a')",
    );

    check(
        &yaml,
        r#"{"parameters": {"a": ["z", "x"]}}"#,
        &[(r#"0 ["u1"]"#, &[r#"["x"]"#, r#"["y"]"#])],
        expect![[r#"
            question 0 ["u1"]
            s|0["x"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

#[test]
fn two_memberships_in_one_array_are_two_parameters() {
    let yaml = auto_subscribed(
        "SELECT * FROM t WHERE auth.user_id() IN tags AND auth.parameter('x') IN tags \
         AND auth.user_id() IN tags",
    );
    check(
        &yaml,
        r#"{"claims": {"x": "a"}}"#,
        &[],
        expect![[r#"
        s|0["u1","a"] priority 3 [{"default":0}]
        stream s default
    "#]],
    );
}

#[test]
fn request_filters_decide_on_all_buckets() {
    let yaml = auto_subscribed(
        "SELECT * FROM t WHERE auth.parameter('role') = 'admin' \
         OR (a = auth.user_id() AND NOT (connection.parameter('hidden') IS NOT NULL))",
    );

    check(
        &yaml,
        r#"{"claims": {"role": "admin"}}"#,
        &[],
        expect![[r#"
        s|0[] priority 3 [{"default":0}]
        s|1["u1"] priority 3 [{"default":0}]
        stream s default
    "#]],
    );

    check(
        &yaml,
        r#"{"claims": {"role": "admin"}, "parameters": {"hidden": 0}}"#,
        &[],
        expect![[r#"
            s|0[] priority 3 [{"default":0}]
            stream s default
        "#]],
    );

    check(
        &yaml,
        r#"{"parameters": {"hidden": 0}}"#,
        &[],
        expect![[r#"
        stream s default
    "#]],
    );
}

#[test]
fn parameters_from_one_row_stay_together() {
    let yaml = definition(
        &["SELECT a, b, request.user_id() AS u FROM m WHERE owner = request.user_id()"],
        &["SELECT * FROM t WHERE x = bucket.a AND y = bucket.b AND z = bucket.u"],
    );

    check(
        &yaml,
        "{}",
        &[(r#"0 ["u1"]"#, &[r#"[1,"x"]"#, r#"[2,"y"]"#])],
        expect![[r#"
        question 0 ["u1"]
        b[1,"x","u1"] priority 3 [{"default":0}]
        b[2,"y","u1"] priority 3 [{"default":0}]
        stream b default
    "#]],
    );
}

#[test]
fn bucket_definitions_act_like_auto_subscribed_streams() {
    let yaml = definition(&[], &["SELECT * FROM t"]);
    check(
        &yaml,
        "{}",
        &[],
        expect![[r#"
        b[] priority 3 [{"default":0}]
        stream b default
    "#]],
    );
    check(&yaml, r#"{"defaults": false}"#, &[], expect![[""]]);
}

#[test]
fn parameter_queries_are_a_union() {
    let yaml = definition(
        &[
            "SELECT request.user_id() AS u, 'a' AS k, 1 AS _priority",
            "SELECT 'b' AS k, owner AS u FROM m WHERE member = request.user_id()",
            "SELECT request.user_id() AS u, 'a' AS k WHERE request.jwt() ->> 'role' = 'admin'",
        ],
        &["SELECT * FROM t WHERE x = bucket.u AND y = bucket.k"],
    );

    check(
        &yaml,
        r#"{"claims": {"role": "admin"}}"#,
        &[(r#"0 ["u1"]"#, &[r#"["u2"]"#])],
        expect![[r#"
            question 0 ["u1"]
            b["u1","a"] priority 1 [{"default":0}]
            b["u2","b"] priority 3 [{"default":0}]
            stream b default
        "#]],
    );
}

#[test]
fn a_bucket_granted_twice_has_both_subscriptions_and_the_higher_priority() {
    let yaml = "config: {edition: 3}\nstreams:\n  a:\n    auto_subscribe: true\n    priority: 2\n    \
        queries:\n      - SELECT * FROM t WHERE x IN subscription.parameter('x')\n      \
        - SELECT * FROM u WHERE y IN subscription.parameter('x')\n";

    check(
        yaml,
        r#"{"subscriptions": [
            {"stream": "a", "parameters": {"x": [1, 2]}, "override_priority": 3},
            {"stream": "a", "parameters": {"x": [2, 3]}, "override_priority": 0}
        ]}"#,
        &[],
        expect![[r#"
            a|0[1] priority 3 [{"sub":0}]
            a|0[2] priority 0 [{"sub":0},{"sub":1}]
            a|0[3] priority 0 [{"sub":1}]
            stream a default
        "#]],
    );
}

#[test]
fn too_many_buckets_are_a_subscription_error() {
    let yaml = auto_subscribed(
        "SELECT * FROM t WHERE a IN auth.parameter('a') AND b IN auth.parameter('a')",
    );
    let items: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    let request = format!(r#"{{"claims": {{"a": [{}]}}}}"#, items.join(","));

    check(
        &yaml,
        &request,
        &[],
        expect![[r#"
        stream s default [{"subscription":"default","message":"cannot evaluate the subscription: too many combinations of array elements"}]
    "#]],
    );

    let yaml = auto_subscribed(
        "SELECT * FROM t WHERE a IN \
         (SELECT x FROM m WHERE u IN auth.parameter('a') AND v IN auth.parameter('a'))",
    );

    check(
        &yaml,
        &request,
        &[],
        expect![[r#"
        stream s default [{"subscription":"default","message":"cannot evaluate the subscription: too many combinations of array elements"}]
    "#]],
    );
}
