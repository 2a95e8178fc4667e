//! How many tables may be asked one after the other.

use std::fmt::Write;

use super::{TestRequest, list, stream};
use crate::{STAGES_MAX, SyncConfig};

/// Inner queries within each other, each of which is asked what the one within it answers.
fn nested(tables: usize) -> String {
    let mut condition = "a = auth.user_id()".to_owned();
    for number in 1..tables {
        condition = format!("a IN (SELECT b FROM c{number} WHERE {condition})");
    }
    format!("SELECT b FROM c{tables} WHERE {condition}")
}

/// The same with joins, which may be more.
fn joined(tables: usize) -> String {
    let mut from = "c1".to_owned();
    for number in 2..=tables {
        write!(from, " JOIN c{number} ON c{number}.a = c{}.b", number - 1).unwrap();
    }
    format!("SELECT c{tables}.b FROM {from} WHERE c1.a = auth.user_id()")
}

/// The rounds of questions of a request when each question has an answer; else what is said.
fn rounds(condition: &str) -> Result<usize, String> {
    let yaml = stream(&format!("SELECT id FROM t WHERE {condition}"));
    let config = SyncConfig::compile(&format!("{yaml}    auto_subscribe: true\n"));
    let config = config.map_err(|findings| list(&findings))?;
    let request = TestRequest::new(r#"{"claims": {"x": ["x", "y"]}}"#);
    let mut evaluation = config.request(&request.borrow());
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
    let message = format!(
        "6:30 {over} tables must be asked one after the other; {STAGES_MAX} are possible\n"
    );
    assert!(found.starts_with(&message), "{condition}\n{found}");
    assert!(found.contains("use shorter chains of joins and inner queries"), "{found}");
}

#[test]
fn a_chain_is_as_long_as_its_tables() {
    for tables in [1, 2, 10] {
        check(&format!("t.a IN ({})", nested(tables)), tables);
        check(&format!("t.a IN ({})", joined(tables)), tables);
    }
    // What is asked of nothing that is answered needs no rounds before it.
    check("t.a IN (SELECT c.b FROM c, d WHERE c.a = auth.user_id() AND d.a = auth.user_id())", 1);
    check("t.a IN (SELECT c.b FROM c WHERE c.a IN auth.parameter('x'))", 1);
}

#[test]
fn a_chain_may_be_as_long_as_the_limit() {
    check(&format!("t.a IN ({})", joined(STAGES_MAX)), STAGES_MAX);
    check_refused(&format!("t.a IN ({})", joined(STAGES_MAX + 1)));
    // An array of the request takes slots and no round.
    let with_array = |tables| format!("t.z IN auth.parameter('x') AND t.a IN ({})", joined(tables));
    check(&with_array(STAGES_MAX), STAGES_MAX);
    check_refused(&with_array(STAGES_MAX + 1));
}

#[test]
fn chains_that_are_asked_side_by_side_count_once() {
    let (long, short) = (joined(STAGES_MAX), joined(STAGES_MAX / 2));
    check(&format!("t.a IN ({long}) AND t.c IN ({short})"), STAGES_MAX);
    check(&format!("t.a IN ({short}) OR t.c IN ({long})"), STAGES_MAX);
    check(&format!("t.a IN ({short}) AND NOT EXISTS ({long})"), STAGES_MAX);
    check(&format!("t.a IN ({short}) AND auth.user_id() NOT IN ({long})"), STAGES_MAX);
}

#[test]
fn what_must_be_absent_counts_too() {
    let over = joined(STAGES_MAX + 1);
    check_refused(&format!("t.a = 1 AND NOT EXISTS ({over})"));
    check_refused(&format!(
        "t.a = 1 AND NOT EXISTS (SELECT 1 FROM d WHERE d.x = 1 AND NOT EXISTS ({over}))"
    ));
}
