//! Valid queries with some of their tokens changed.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::random::{Choices, RandomConfig, RandomRequest, Schema, decisions, mutated};
use super::check_findings;
use crate::{RowOutput, SyncConfig};

const SCHEMA_CHOICES: usize = 60;
const CONFIG_CHOICES: usize = 300;
const CHANGE_CHOICES: usize = 500;
/// Number of changed copies of one random config, which takes longer to generate than to change.
const CHANGED_COPIES: usize = 8;

/// Queries with what the random streams lack.
const QUERIES: [&str; 10] = [
    "SELECT *, upper(a) AS a FROM t WHERE a = 'x' AND b BETWEEN 1 AND 2 OR c IS NOT TRUE",
    "SELECT id, a::text AS a, CAST(b AS real) AS b, c ->> '$.x.0' AS c FROM app.t AS u",
    "SELECT t.* FROM t JOIN u ON u.id = t.u_id WHERE u.o = auth.parameter('o')",
    "WITH c AS (SELECT a FROM u WHERE b = auth.user_id()) SELECT id FROM t WHERE a IN c",
    "SELECT id FROM t WHERE a LIKE '!%x%' ESCAPE '!' AND datetime(b, 'subsec') > '2024'",
    "SELECT id FROM t WHERE a IS NOT DISTINCT FROM b AND NOT (c << 2 | 1) % 3 = 0",
    "SELECT id, CASE a WHEN 1 THEN 'x' ELSE -b END AS d FROM t WHERE b IN ARRAY[1, 2]",
    "SELECT id, substring(a from 2 for 3) AS s, TRIM(LEADING 'x' FROM a) AS q FROM t",
    "SELECT id, st_x(g) AS x, st_astext(g) AS y, hex(a) AS h, base64(a) AS k FROM t",
    "SELECT t.id FROM t, json_each(t.tags) e WHERE e.value ->> 'u' = auth.user_id()",
];
/// Parameter queries and data queries of bucket definitions.
const PARAMETERS: [&str; 3] = [
    "SELECT id AS a FROM t WHERE b = request.user_id() AND c IN request.jwt() -> 'c'",
    "SELECT value AS a FROM json_each(request.jwt() -> 'x') WHERE value > 1",
    "SELECT token_parameters.a AS a, 2 AS _priority WHERE user_parameters.b = 1",
];
const DATA: [&str; 2] = [
    "SELECT id, a FROM t WHERE bucket.a IN tags AND c = 1 OR lower(b) = bucket.a",
    "SELECT upper(id) AS id, * FROM app.t AS u WHERE u.a = bucket.a AND u.b ->> 'x' IN ('y', 'z')",
];

/// Least share of changed configs that compile, and of those that do not, in per cent.
const SHARE_MIN: usize = 10;

/// Compiles a changed config and evaluates rows and a request with it. Returns whether it compiles.
fn check_survives(yaml: &str, schema: &Schema, choices: &mut Choices<'_>) -> bool {
    let config = match SyncConfig::compile(yaml) {
        Ok(config) => config,
        Err(findings) => {
            assert!(!findings.is_empty());
            check_findings(&findings, yaml);
            return false;
        }
    };

    check_findings(config.warnings(), yaml);

    let live = schema.live();
    check_findings(&config.check(&live), yaml);

    let explanation = config.explain();
    assert_eq!(explanation.tables.len(), config.tables().len());

    let rows = schema.rows(choices);
    let mut out = RowOutput::default();

    let mut outputs = vec![Vec::new(); config.lookups().len()];
    for (table, rows) in live.iter().zip(&rows) {
        let evaluator = match config.bind(table) {
            Ok(Some(evaluator)) => evaluator,
            Ok(None) => continue,
            Err(findings) => {
                check_findings(&findings, yaml);
                continue;
            }
        };

        for row in rows {
            evaluator.evaluate(row, &mut out);
            for bucket in out.buckets() {
                serde_json::from_str::<serde_json::Value>(bucket.data).expect("data is JSON");
            }
            for lookup in out.lookups() {
                outputs[lookup.lookup].push(lookup.output.to_owned());
            }
        }
    }

    let request = RandomRequest::new(choices, 1).request();
    let mut evaluation =
        config.prepare(&request.borrow(), &crate::RequestLimits::UNLIMITED).unwrap().evaluation();
    let mut steps = 0;
    while !evaluation.questions().is_empty() {
        let answers: Vec<Vec<String>> = evaluation
            .questions()
            .iter()
            .map(|question| outputs[question.lookup].clone())
            .collect();
        evaluation.answer(&answers);
        steps += 1;
        assert!(steps <= config.lookups().len(), "each step asks each lookup at most once");
    }

    for bucket in evaluation.finish().unwrap().buckets {
        serde_json::from_str::<serde_json::Value>(&bucket.params).expect("parameters are JSON");
    }

    true
}

/// Returns a config with queries from the lists above, one of them changed.
fn changed_listed_queries(choices: &mut Choices<'_>) -> String {
    let (one, other) = if choices.below(2) == 0 {
        (choices.pick(&PARAMETERS), choices.pick(&DATA))
    } else {
        ("SELECT a AS c FROM u WHERE b = auth.user_id()", choices.pick(&QUERIES))
    };
    let is_definition = PARAMETERS.contains(&one);
    let is_first = is_definition && choices.below(2) == 0;
    let one = mutated_if(is_first, one, choices);
    let other = mutated_if(!is_first, other, choices);

    if is_definition {
        return format!(
            "config: {{edition: 2}}\nbucket_definitions:\n  b:\n    parameters: |\n      {one}\n    \
             data:\n    - |\n      {other}\n"
        );
    }

    format!(
        "config: {{edition: 3}}\nwith:\n  d: |\n    {one}\nstreams:\n  t0:\n    \
         auto_subscribe: true\n    query: |\n      {other}\n"
    )
}

/// Returns the query in one line, changed or not.
fn mutated_if(is_changed: bool, query: &str, choices: &mut Choices<'_>) -> String {
    let query = if is_changed { mutated(query, choices) } else { query.to_owned() };
    query.replace('\n', " ")
}

fn changed(random: &RandomConfig, choices: &mut Choices<'_>) -> String {
    match choices.below(4) {
        0 => mutated(&random.yaml(), choices),
        1 => changed_listed_queries(choices),
        _ => {
            let changed = random.map(&mut |sql| {
                let is_changed = sql.contains(' ') && choices.below(3) == 0;
                if is_changed { mutated(sql, choices) } else { sql.to_owned() }
            });
            changed.yaml()
        }
    }
}

#[test]
fn mutated_queries_do_not_panic_and_findings_have_places() {
    let changes = prop::collection::vec(decisions(CHANGE_CHOICES), CHANGED_COPIES);
    let [all, compiled] = [Cell::new(0), Cell::new(0)];
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let choices = (decisions(SCHEMA_CHOICES), decisions(CONFIG_CHOICES), changes);
    let result = runner.run(&choices, |(tables, config, changes)| {
        let schema = Schema::new(&mut Choices::new(&tables));
        let random = RandomConfig::new(&mut Choices::new(&config), &schema);
        for change in changes {
            let mut choices = Choices::new(&change);
            let yaml = changed(&random, &mut choices);
            let survives = std::panic::catch_unwind(|| {
                check_survives(&yaml, &schema, &mut Choices::new(&change))
            });
            let Ok(compiles) = survives else { return Err(TestCaseError::fail(yaml)) };
            all.set(all.get() + 1);
            compiled.set(compiled.get() + usize::from(compiles));
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let share = 100 * compiled.get() / all.get();

    assert!((SHARE_MIN..=100 - SHARE_MIN).contains(&share), "{share} % compile");
}
