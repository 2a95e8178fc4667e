//! Requests that must not match a subquery: questions, granted buckets and explanations.

use expect_test::{Expect, expect};

use crate::tests::{TestRequest, auto_subscribed, compile, format_findings, granted, stream};
use crate::{Definition, SyncConfig};

fn check(query: &str, request: &str, answers: &[(&str, &[&str])], expected: &Expect) {
    expected.assert_eq(&granted(&auto_subscribed(query), request, answers));
}

fn check_explanation(query: &str, expected: &Expect) {
    expected.assert_eq(&compile(&stream(query)).explain().streams[0].to_string());
}

const BANNED: &str =
    "SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT user_id FROM banned) AND org = 'o1'";

#[test]
fn a_bucket_is_granted_while_its_negated_lookup_is_empty() {
    let granted = expect![[r#"
        question 0 ["u1"]
        question 1 []
        s|0[] priority 3 [{"default":0}]
        stream s default
    "#]];

    let refused = expect![[r#"
        question 0 ["u1"]
        question 1 []
        stream s default
    "#]];
    check(BANNED, "{}", &[], &granted);
    check(BANNED, "{}", &[(r#"0 ["u2"]"#, &["[]"])], &granted);
    check(BANNED, "{}", &[(r#"0 ["u1"]"#, &["[]"])], &refused);

    // NULL in the list makes `NOT IN` unknown, so nothing is granted.
    check(BANNED, "{}", &[("1 []", &["[]"])], &refused);
}

/// Returns the definitions, and the hashes of the lookups.
fn definitions_and_lookups(query: &str) -> (Vec<Definition>, Vec<String>) {
    let config = compile(&auto_subscribed(query));
    let hashes: Vec<String> = config.lookups().iter().map(|one| one.hash.clone()).collect();
    (config.definitions().to_vec(), hashes)
}

#[test]
fn equivalent_negations_compile_to_the_same_lookups() {
    let expected =
        definitions_and_lookups("SELECT id FROM t WHERE auth.user_id() NOT IN (SELECT u FROM b)");

    assert_eq!(expected.1.len(), 2);

    for condition in [
        "NOT auth.user_id() IN (SELECT u FROM b)",
        "NOT (NOT (auth.user_id() NOT IN (SELECT u FROM b)))",
        "NOT (auth.user_id() IN (SELECT u FROM b) OR auth.user_id() IN (SELECT u FROM b))",
    ] {
        assert_eq!(
            definitions_and_lookups(&format!("SELECT id FROM t WHERE {condition}")),
            expected,
            "{condition}"
        );
    }

    let by_name = "WITH c AS (SELECT u FROM b) SELECT id FROM t WHERE auth.user_id() NOT IN c";
    assert_eq!(definitions_and_lookups(by_name), expected);

    // The negated lookup is the one that `IN` uses.
    let (_, present) =
        definitions_and_lookups("SELECT id FROM t WHERE auth.user_id() IN (SELECT u FROM b)");
    assert_eq!(present[..], expected.1[..1]);

    let (_, present) = definitions_and_lookups(
        "SELECT id FROM t WHERE NOT (auth.user_id() NOT IN (SELECT u FROM b))",
    );
    assert_eq!(present[..], expected.1[..1]);
}

#[test]
fn negated_queries_may_use_all_request_parameters() {
    let query = "SELECT id FROM t WHERE org = subscription.parameter('org') AND NOT EXISTS \
                 (SELECT 1 FROM banned WHERE banned.user_id = auth.user_id() \
                 AND banned.org = subscription.parameter('org'))";
    let request = r#"{"defaults": false, "subscriptions": [
        {"stream": "s", "parameters": {"org": "o1"}},
        {"stream": "s", "parameters": {"org": "o2"}},
        {"stream": "s"}
    ]}"#;

    check(
        query,
        request,
        &[(r#"0 ["u1","o1"]"#, &["[]"])],
        &expect![[r#"
            question 0 ["u1","o1"]
            question 0 ["u1","o2"]
            s|0["o2"] priority 3 [{"sub":1}]
            stream s default
        "#]],
    );
}

/// Returns the printed end of an evaluation that grants the bucket, or does not.
fn bucket_and_stream(is_granted: bool) -> String {
    let bucket = if is_granted { "s|0[] priority 3 [{\"default\":0}]\n" } else { "" };
    format!("{bucket}stream s default\n")
}

#[test]
fn every_alternative_of_a_negated_query_must_be_empty() {
    let query = "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM a WHERE a.x = auth.user_id() \
                 OR a.y = auth.user_id() AND a.z IN (SELECT z FROM b WHERE b.u = auth.user_id()))";
    // Lookup 0 is `a` by `x`, 1 is `b` by `u`, 2 is `a` by `y` and `z`.
    let all = granted(&auto_subscribed(query), "{}", &[]);
    assert_eq!(
        all,
        format!("question 0 [\"u1\"]\nquestion 1 [\"u1\"]\n{}", bucket_and_stream(true))
    );

    let of_b: (&str, &[&str]) = (r#"1 ["u1"]"#, &[r#"["z1"]"#]);
    let of_x: (&str, &[&str]) = (r#"0 ["u1"]"#, &["[]"]);
    let of_yz: (&str, &[&str]) = (r#"2 ["u1","z1"]"#, &["[]"]);

    for (answers, is_granted) in [
        (&[of_x][..], false),
        (&[of_b][..], true),
        (&[of_yz][..], true),
        (&[of_b, of_yz][..], false),
        (&[of_b, of_x][..], false),
    ] {
        let text = granted(&auto_subscribed(query), "{}", answers);
        assert!(text.ends_with(&bucket_and_stream(is_granted)), "{answers:?}: {text}");
        assert_eq!(text.contains("s|0"), is_granted, "{answers:?}: {text}");
    }
}

#[test]
fn null_not_in_a_list_is_granted_only_if_the_list_is_empty() {
    // Lookup 0 finds the value in the list, 1 finds NULLs in it, 2 finds any row of it.
    let query = "SELECT id FROM t WHERE coalesce(auth.parameter('a'), auth.parameter('b')) NOT IN (SELECT u FROM b)";
    let granted = expect![[r#"
        question 1 []
        question 2 []
        s|0[] priority 3 [{"default":0}]
        stream s default
    "#]];

    check(query, "{}", &[], &granted);

    check(
        query,
        "{}",
        &[("2 []", &["[]"])],
        &expect![[r#"
            question 1 []
            question 2 []
            stream s default
        "#]],
    );

    check(
        query,
        r#"{"claims": {"b": 1}}"#,
        &[("2 []", &["[]"])],
        &expect![[r#"
            question 0 [1]
            question 1 []
            s|0[] priority 3 [{"default":0}]
            stream s default
        "#]],
    );

    // Values that cannot be NULL need only the first lookup.
    let query = "SELECT id FROM t WHERE coalesce(auth.parameter('a'), '') NOT IN (SELECT 1 FROM b)";
    assert_eq!(compile(&auto_subscribed(query)).lookups().len(), 1);
}

#[test]
fn negated_overlap_is_granted_if_no_element_is_found() {
    let query = "SELECT id FROM t WHERE NOT (auth.parameter('roles') && (SELECT role FROM locked))";
    let claims = r#"{"claims": {"roles": ["r1", null]}}"#;

    check(
        query,
        claims,
        &[],
        &expect![[r#"
            question 0 ["r1"]
            s|0[] priority 3 [{"default":0}]
            stream s default
        "#]],
    );

    check(
        query,
        claims,
        &[(r#"0 ["r1"]"#, &["[]"])],
        &expect![[r#"
            question 0 ["r1"]
            stream s default
        "#]],
    );

    check(
        query,
        "{}",
        &[],
        &expect![[r#"
            stream s default
        "#]],
    );
}

#[test]
fn not_within_not_is_supported() {
    let query = "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM locks WHERE locks.org = 'o1' \
                 AND auth.user_id() NOT IN (SELECT user_id FROM keepers WHERE user_id IS NOT NULL))";
    let locked: (&str, &[&str]) = ("0 []", &["[]"]);
    let keeper: (&str, &[&str]) = (r#"1 ["u1"]"#, &["[]"]);
    for (answers, is_granted) in [
        (&[][..], true),
        (&[locked][..], false),
        (&[keeper][..], true),
        (&[locked, keeper][..], true),
    ] {
        let text = granted(&auto_subscribed(query), "{}", answers);
        assert_eq!(text.contains("s|0"), is_granted, "{answers:?}: {text}");
    }
}

#[test]
fn negated_and_positive_lookups_share_question_rounds() {
    let query = "SELECT id FROM t WHERE org IN (SELECT org FROM a WHERE x IN \
                 (SELECT x FROM b WHERE u = auth.user_id())) AND NOT EXISTS (SELECT 1 FROM c WHERE x IN \
                 (SELECT x FROM d WHERE u = auth.user_id()))";
    let of_a: (&str, &[&str]) = (r#"1 ["x1"]"#, &[r#"["o1"]"#]);
    let of_b: (&str, &[&str]) = (r#"0 ["u1"]"#, &[r#"["x1"]"#]);
    let of_d: (&str, &[&str]) = (r#"2 ["u1"]"#, &[r#"["x2"]"#]);

    check(
        query,
        "{}",
        &[of_a, of_b, of_d],
        &expect![[r#"
            question 0 ["u1"]
            question 2 ["u1"]
            question 1 ["x1"]
            question 3 ["x2"]
            s|0["o1"] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

#[test]
fn nothing_is_granted_before_all_questions_are_answered() {
    let config = compile(&auto_subscribed("SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM b)"));
    let request = TestRequest::new("{}");
    let mut evaluation =
        config.prepare(&request.borrow(), &crate::RequestLimits::UNLIMITED).unwrap().evaluation();
    assert_eq!(evaluation.clone().finish().unwrap().buckets, []);
    evaluation.answer(&[Vec::new()]);
    assert_eq!(evaluation.finish().unwrap().buckets.len(), 1);
}

#[test]
fn an_evaluation_error_under_not_grants_nothing() {
    let query = "SELECT id FROM t WHERE NOT EXISTS \
                 (SELECT 1 FROM json_each(auth.parameter('a')) e WHERE e.value = 'x')";

    check(
        query,
        r#"{"claims": {"a": "x"}}"#,
        &[],
        &expect![[r#"
            stream s default [{"subscription":"default","message":"cannot evaluate the subscription: a value is not valid JSON, or is nested more than 1000 levels deep"}]
        "#]],
    );

    check(
        query,
        r#"{"claims": {"a": ["x"]}}"#,
        &[],
        &expect![[r#"
            stream s default
        "#]],
    );

    check(
        query,
        r#"{"claims": {"a": ["y"]}}"#,
        &[],
        &expect![[r#"
            s|0[] priority 3 [{"default":0}]
            stream s default
        "#]],
    );
}

/// Returns the number of families of a stream with two queries.
fn family_count(conditions: [&str; 2]) -> usize {
    let yaml = format!(
        "config: {{edition: 3}}\nstreams:\n  s:\n    queries:\n      \
         - SELECT id FROM t WHERE {}\n      - SELECT id FROM u WHERE {}\n",
        conditions[0], conditions[1],
    );
    compile(&yaml).definitions().len()
}

#[test]
fn queries_with_equal_negated_conditions_share_a_family() {
    let not_in = "auth.user_id() NOT IN (SELECT u FROM b)";
    assert_eq!(family_count([not_in, not_in]), 1);
    assert_eq!(family_count([not_in, "1 = 1"]), 2);
    assert_eq!(family_count([not_in, "auth.user_id() NOT IN (SELECT u FROM c)"]), 2);
    assert_eq!(family_count([not_in, "auth.user_id() IN (SELECT u FROM b)"]), 2);
}

fn warnings(condition: &str) -> String {
    let config = SyncConfig::compile(&stream(&format!("SELECT id FROM t WHERE {condition}")));
    format_findings(config.unwrap().warnings())
}

#[test]
fn negated_conditions_count_for_the_client_parameter_warning() {
    let of_client = warnings("connection.parameter('x') NOT IN (SELECT x FROM b)");
    assert!(of_client.contains("any client can read this"), "{of_client}");
    let of_both = "connection.parameter('x') NOT IN (SELECT x FROM b WHERE u = auth.user_id())";
    assert_eq!(warnings(of_both), "");
    assert_eq!(warnings("auth.user_id() NOT IN (SELECT u FROM b)"), "");
}

#[test]
fn explanations_list_negated_conditions() {
    check_explanation(
        "SELECT id FROM t WHERE org = auth.parameter('org') AND auth.user_id() NOT IN \
         (SELECT user_id FROM banned WHERE auth.parameter('role') = 'guest')",
        &expect![[r#"
            stream s  (subscribed by the app, priority 3)
              family s|0
                rows: public.t as t, id
                  by org
                found by:
                  1. auth.parameter('org')
                  but not if there is:
                    only if auth.parameter('role') = 'guest'
                    1. auth.user_id()
                    2. public.banned where user_id = auth.user_id()  if there is one
                  but not if there is:
                    only if auth.parameter('role') = 'guest'
                    1. public.banned where user_id IS NULL  if there is one
                buckets: one, of auth.parameter('org')
        "#]],
    );

    check_explanation(
        "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM a WHERE NOT EXISTS (SELECT 1))",
        &expect![[r#"
            stream s  (subscribed by the app, priority 3)
              family s|0
                rows: public.t as t, id
                found by: every request
                  but not if there is:
                    1. public.a  if there is one
                    but not if there is: always
                buckets: one for all
        "#]],
    );
}

#[test]
fn tables_of_negated_conditions_cost_lookups() {
    let tables = compile(&stream(BANNED)).explain().tables;
    let banned = tables.iter().find(|table| table.table == "public.banned").unwrap();
    assert_eq!((banned.families, banned.lookups), (0, 2));
    assert_eq!(banned.reads, ["user_id"]);
}
