//! Limits on a request: each stops the evaluation where it is reached, and names the cause.

use serde_json::{Value as Json, json};

use super::super::{TestRequest, auto_subscribed, compile, stream};
use crate::{Granted, LimitExceeded, RequestLimits};

/// Evaluates a request within the default limits. Each question is answered by `outputs`.
fn limited(yaml: &str, request: &Json, outputs: &[String]) -> Result<Granted, LimitExceeded> {
    let request = TestRequest::new(&request.to_string());
    let config = compile(yaml);
    let prepared = config.prepare(&request.borrow(), &RequestLimits::default())?;
    let mut evaluation = prepared.evaluation();
    while !evaluation.questions().is_empty() {
        let answers = vec![outputs; evaluation.questions().len()];
        evaluation.answer(&answers);
    }
    evaluation.finish()
}

fn check_refused(yaml: &str, request: &Json, outputs: &[String], expected: &str) {
    let exceeded = limited(yaml, request, outputs).expect_err("a limit is exceeded");
    assert_eq!(exceeded.to_string(), expected);
}

fn numbers(range: std::ops::Range<u32>) -> Vec<u32> {
    range.collect()
}

fn subscriptions(count: u32, parameters: impl Fn(u32) -> Json) -> Json {
    let subscription = |number| json!({ "stream": "s", "parameters": parameters(number) });
    json!({ "subscriptions": (0..count).map(subscription).collect::<Vec<_>>() })
}

const TWO_ARRAYS: &str = "SELECT * FROM t WHERE a IN subscription.parameter('a') \
                          AND b IN subscription.parameter('b')";

#[test]
fn two_arrays_are_combined_up_to_the_limit_only() {
    let request = subscriptions(
        300,
        |number| json!({ "a": numbers(number * 100..number * 100 + 100), "b": numbers(0..100) }),
    );
    check_refused(
        &stream(TWO_ARRAYS),
        &request,
        &[],
        "This client would read more than 1000 buckets. By stream: s (1001). The limit was reached in \
         stream 's', streams.subscriptions[0], by subscription.parameter('a'), \
         subscription.parameter('b'). Subscribe to less, or put rows that belong together in one \
         bucket",
    );
}

#[test]
fn buckets_count_once_however_many_subscriptions_grant_them() {
    let request = subscriptions(10, |_| json!({ "a": numbers(0..10), "b": numbers(0..100) }));
    let granted = limited(&stream(TWO_ARRAYS), &request, &[]).unwrap();
    assert_eq!(granted.buckets.len(), 1_000);
    assert!(granted.buckets.iter().all(|bucket| bucket.subscriptions.len() == 10));
}

#[test]
fn the_same_buckets_many_times_are_stopped_by_the_steps() {
    let request = subscriptions(1_000, |_| json!({ "a": numbers(0..10), "b": numbers(0..100) }));
    let exceeded = limited(&stream(TWO_ARRAYS), &request, &[]).unwrap_err().to_string();
    assert!(exceeded.contains("takes more than 500000 steps"), "{exceeded}");
    assert!(exceeded.contains("in stream 's', streams.subscriptions["), "{exceeded}");
}

#[test]
fn an_array_before_a_lookup_asks_up_to_the_limit_only() {
    let yaml = auto_subscribed(
        "SELECT * FROM t WHERE a IN (SELECT x FROM m WHERE u IN connection.parameter('a'))",
    );
    let request = json!({ "parameters": { "a": numbers(0..10_000) } });
    check_refused(
        &yaml,
        &request,
        &[],
        "This client needs more than 2000 parameter lookups. The limit was reached in stream 's', by \
         connection.parameter('a'). Send fewer or shorter values",
    );

    let request = json!({ "parameters": { "a": numbers(0..2_000) } });
    assert!(limited(&yaml, &request, &[]).is_ok());
}

#[test]
fn questions_of_all_rounds_and_streams_count_together() {
    let query = "SELECT * FROM t WHERE a IN (SELECT x FROM m WHERE u IN connection.parameter('a'))";
    let yaml = format!(
        "config: {{edition: 3}}\nstreams:\n  one:\n    auto_subscribe: true\n    query: {query}\n  \
         two:\n    auto_subscribe: true\n    query: {}\n",
        query.replace("FROM m", "FROM other")
    );
    let request = json!({ "parameters": { "a": numbers(0..1_001) } });
    let exceeded = limited(&yaml, &request, &[]).unwrap_err().to_string();
    assert!(exceeded.contains("more than 2000 parameter lookups"), "{exceeded}");
    assert!(exceeded.contains("in stream 'two'"), "{exceeded}");
}

#[test]
fn outputs_count_once_and_are_named_by_stream_and_not_by_table() {
    let yaml = auto_subscribed(
        "SELECT * FROM t WHERE a IN (SELECT x FROM secret_members WHERE u = auth.user_id())",
    );
    let outputs: Vec<String> = (0..1_001).map(|number| json!([number]).to_string()).collect();
    assert_eq!(limited(&yaml, &json!({}), &outputs[..1_000]).unwrap().buckets.len(), 1_000);
    check_refused(
        &yaml,
        &json!({}),
        &outputs,
        "The parameter lookups of this client yield more than 1000 rows. By stream: s (1001). Let a \
         query select fewer rows, or distinct values only",
    );

    let repeated: Vec<String> = outputs[..1_000].iter().cycle().take(5_000).cloned().collect();
    assert!(limited(&yaml, &json!({}), &repeated).is_ok());
}

#[test]
fn subscriptions_are_counted_before_they_are_evaluated() {
    check_refused(
        &stream("SELECT * FROM t"),
        &subscriptions(116_000, |_| json!({})),
        &[],
        "This client has more than 1000 subscriptions. By stream: s (116000). Unsubscribe from what \
         the app does not show",
    );
    let granted = limited(&stream("SELECT * FROM t"), &subscriptions(1_000, |_| json!({})), &[]);
    assert_eq!(granted.unwrap().buckets[0].subscriptions.len(), 1_000);
}

#[test]
fn a_long_text_that_is_read_for_each_element_is_stopped_by_the_steps() {
    let yaml = auto_subscribed(
        "SELECT * FROM t WHERE a IN (SELECT value FROM json_each(connection.parameter('a')) \
         WHERE value = upper(connection.parameter('long')) || 'x')",
    );
    let request = json!({ "parameters": { "a": numbers(0..5_000), "long": "x".repeat(60_000) } });
    let exceeded = limited(&yaml, &request, &[]).unwrap_err().to_string();
    assert!(exceeded.contains("steps"), "{exceeded}");
    assert!(!exceeded.contains("xx"), "no value is printed: {exceeded}");
}

#[test]
fn a_prepared_request_is_evaluated_again_and_again() {
    let yaml = auto_subscribed(
        "SELECT * FROM t WHERE a IN (SELECT x FROM m WHERE u = auth.user_id()) AND b IN \
         connection.parameter('b')",
    );
    let config = compile(&yaml);
    let request = TestRequest::new(r#"{"parameters": {"b": [1, 2]}}"#);
    let prepared = config.prepare(&request.borrow(), &RequestLimits::default()).unwrap();
    drop(request);

    for outputs in [vec![r#"["x"]"#.to_owned()], vec![], vec![r#"["y"]"#.to_owned()]] {
        let mut evaluation = prepared.evaluation();
        evaluation.answer(&[&outputs]);
        assert_eq!(evaluation.finish().unwrap().buckets.len(), outputs.len() * 2);
    }
}
