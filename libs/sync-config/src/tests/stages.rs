//! The limit on dependent lookups: tables that must be asked one after the other.

use std::fmt::Write;

use super::{TestRequest, auto_subscribed, format_findings};
use crate::{STAGES_MAX, SyncConfig};

/// Returns nested subqueries, each with a condition on the output of the next.
fn nested(tables: usize) -> String {
    let mut condition = "a = auth.user_id()".to_owned();
    for number in 1..tables {
        condition = format!("a IN (SELECT b FROM c{number} WHERE {condition})");
    }
    format!("SELECT b FROM c{tables} WHERE {condition}")
}

/// Returns the same chain as joins, which may be longer than nested queries.
fn joined(tables: usize) -> String {
    let mut from = "c1".to_owned();
    for number in 2..=tables {
        write!(from, " JOIN c{number} ON c{number}.a = c{}.b", number - 1).unwrap();
    }
    format!("SELECT c{tables}.b FROM {from} WHERE c1.a = auth.user_id()")
}

/// Returns the number of question rounds when each question has an answer, or the findings.
fn rounds(condition: &str) -> Result<usize, String> {
    let yaml = auto_subscribed(&format!("SELECT id FROM t WHERE {condition}"));
    let config = SyncConfig::compile(&yaml);
    let config = config.map_err(|findings| format_findings(&findings))?;
    let request = TestRequest::new(r#"{"claims": {"x": ["x", "y"]}}"#);
    let mut evaluation =
        config.prepare(&request.borrow(), &crate::RequestLimits::UNLIMITED).unwrap().evaluation();
    let mut rounds = 0;
    while !evaluation.questions().is_empty() {
        let answers = vec![vec![r#"["x"]"#.to_owned()]; evaluation.questions().len()];
        evaluation.answer(&answers);
        rounds += 1;
    }
    Ok(rounds)
}

fn check(condition: &str, expected: usize) {
    assert_eq!(rounds(condition), Ok(expected), "{condition}");
}

fn check_refused(condition: &str) {
    let found = rounds(condition).unwrap_err();
    let over = STAGES_MAX + 1;
    let message =
        format!("6:30 the query needs {over} lookup rounds; the maximum is {STAGES_MAX}\n");
    assert!(found.starts_with(&message), "{condition}\n{found}");
    assert!(found.contains("use a shorter chain"), "{found}");
}

#[test]
fn each_table_of_a_chain_is_a_round() {
    for tables in [1, 2, 10] {
        check(&format!("t.a IN ({})", nested(tables)), tables);
        check(&format!("t.a IN ({})", joined(tables)), tables);
    }
    // Lookups that do not depend on answers are in the first round.
    check("t.a IN (SELECT c.b FROM c, d WHERE c.a = auth.user_id() AND d.a = auth.user_id())", 1);
    check("t.a IN (SELECT c.b FROM c WHERE c.a IN auth.parameter('x'))", 1);
}

fn array_and_chain(tables: usize) -> String {
    format!("t.z IN auth.parameter('x') AND t.a IN ({})", joined(tables))
}

#[test]
fn a_chain_may_be_as_long_as_the_limit() {
    check(&format!("t.a IN ({})", joined(STAGES_MAX)), STAGES_MAX);
    check_refused(&format!("t.a IN ({})", joined(STAGES_MAX + 1)));
    // An array of the request needs no round.
    check(&array_and_chain(STAGES_MAX), STAGES_MAX);
    check_refused(&array_and_chain(STAGES_MAX + 1));
}

#[test]
fn independent_chains_share_their_rounds() {
    let long = joined(STAGES_MAX);
    let short = joined(STAGES_MAX / 2);
    check(&format!("t.a IN ({long}) AND t.c IN ({short})"), STAGES_MAX);
    check(&format!("t.a IN ({short}) OR t.c IN ({long})"), STAGES_MAX);
    check(&format!("t.a IN ({short}) AND NOT EXISTS ({long})"), STAGES_MAX);
    check(&format!("t.a IN ({short}) AND auth.user_id() NOT IN ({long})"), STAGES_MAX);
}

#[test]
fn negated_queries_count_as_rounds() {
    let over = joined(STAGES_MAX + 1);
    check_refused(&format!("t.a = 1 AND NOT EXISTS ({over})"));
    check_refused(&format!(
        "t.a = 1 AND NOT EXISTS (SELECT 1 FROM d WHERE d.x = 1 AND NOT EXISTS ({over}))"
    ));
}
