//! Traces of rows: the conditions that hold, and agreement with the evaluation.

use super::{auto_subscribed, compile, table};
use crate::{Outcome, QueryTrace, RowOutput};

/// Traces a row and checks that the trace names exactly the buckets of the evaluation.
fn trace(yaml: &str, spec: &str, values: &str) -> Vec<QueryTrace> {
    let config = compile(yaml);
    let table = table(spec);
    let values: Vec<Option<&str>> =
        values.split('|').map(|value| (value != "~").then_some(value)).collect();
    let traced = config.trace_row(&table, &values).unwrap();

    let mut out = RowOutput::default();
    config.bind(&table).unwrap().unwrap().evaluate(&values, &mut out);
    let mut evaluated: Vec<_> =
        out.buckets().map(|row| (row.definition, row.params.to_owned())).collect();
    let mut named: Vec<_> = traced
        .iter()
        .flat_map(|query| query.buckets.iter().map(|params| (query.definition, params.clone())))
        .collect();
    evaluated.sort();
    named.sort();
    named.dedup();
    assert_eq!(named, evaluated);
    traced
}

/// Returns each condition with its outcome, and the values that it reads.
fn conditions(query: &QueryTrace) -> Vec<String> {
    let conditions = query.conditions.iter().map(|one| {
        let columns: Vec<_> =
            one.columns.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{}: {:?} {}", one.sql, one.outcome, columns.join(","))
    });
    conditions.collect()
}

const TODOS: &str = "todos(id text, owner text, done int4, tags jsonb, picture bytea)";

#[test]
fn each_part_of_a_condition_has_its_own_outcome_and_values() {
    let yaml = auto_subscribed(
        "SELECT id FROM todos WHERE owner = auth.user_id() AND done = 0 AND owner != 'x'",
    );
    let traced = trace(&yaml, TODOS, "t1|u1|1|[]|~");
    assert_eq!(
        conditions(&traced[0]),
        ["done = 0: False done=1", "NOT owner = 'x': True owner=\"u1\""]
    );
    assert_eq!(traced[0].keys[0].sql, "owner");
    assert_eq!(traced[0].keys[0].value.as_deref(), Some("\"u1\""));
    assert!(traced[0].buckets.is_empty());

    let traced = trace(&yaml, TODOS, "t1|u1|~|[]|~");
    assert_eq!(traced[0].conditions[0].outcome, Outcome::Null);
    assert_eq!(traced[0].conditions[0].columns, [("done".into(), "null".into())]);
    let traced = trace(&yaml, TODOS, "t1|u1|0|[]|~");
    assert_eq!(traced[0].buckets, ["[\"u1\"]"]);
}

#[test]
fn a_parameter_that_is_null_is_in_no_bucket() {
    let yaml = auto_subscribed("SELECT id FROM todos WHERE owner = auth.user_id()");
    let traced = trace(&yaml, TODOS, "t1|~|0|[]|~");
    assert_eq!((traced[0].keys[0].value.clone(), traced[0].buckets.len()), (None, 0));
}

#[test]
fn each_branch_of_an_or_is_a_query_of_its_own() {
    let yaml = auto_subscribed(
        "SELECT id FROM todos WHERE done = 0 AND (owner = auth.user_id() OR owner = 'all')",
    );
    let traced = trace(&yaml, TODOS, "t1|u2|0|[]|~");
    assert_eq!(traced.len(), 2);
    let failing = traced.iter().filter(|query| query.buckets.is_empty()).count();
    assert_eq!(failing, 1, "owner = 'all' is false: {traced:?}");
}

#[test]
fn conditions_on_elements_hold_if_any_element_fits() {
    let yaml = auto_subscribed(
        "SELECT todos.id FROM todos, json_each(todos.tags) AS tag
         WHERE tag.value = auth.user_id() AND todos.done = 0 AND tag.key > 0",
    );
    let traced = trace(&yaml, TODOS, r#"t1|u1|0|["a","b"]|~"#);
    assert_eq!(traced[0].buckets, ["[\"b\"]"]);
    let traced = trace(&yaml, TODOS, r#"t1|u1|0|["a"]|~"#);
    let outcomes: Vec<_> = traced[0].conditions.iter().map(|one| &one.outcome).collect();
    assert_eq!(outcomes.iter().filter(|outcome| ***outcome == Outcome::False).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| ***outcome == Outcome::True).count(), 1);
}

#[test]
fn a_condition_that_cannot_be_evaluated_says_why() {
    let yaml = auto_subscribed("SELECT id FROM todos WHERE json_array_length(owner) = 1");
    let traced = trace(&yaml, TODOS, "t1|no json|0|[]|~");
    assert!(matches!(&traced[0].conditions[0].outcome, Outcome::Error(_)), "{traced:?}");
    assert!(traced[0].error.is_some());
}

#[test]
fn a_table_that_is_not_read_has_no_query() {
    let config = compile(&auto_subscribed("SELECT id FROM todos"));
    assert!(config.trace_row(&table("other(id text)"), &[Some("1")]).unwrap().is_empty());
}

#[test]
fn devices_get_tables_with_the_types_of_their_values() {
    let yaml = "
config: { edition: 3 }
streams:
  a: { query: SELECT * FROM todos }
  b: { query: 'SELECT id, upper(owner) AS owner, done + 0.5 AS share, length(owner) AS n FROM todos AS \"tasks\"' }
  c: { query: 'SELECT id, done = 1 AS is_done, coalesce(done, owner) AS any, NULL AS nothing FROM todos AS \"tasks\"' }
";
    let tables = compile(yaml).output_tables(&[table(TODOS), table("other(id text)")]).unwrap();
    let shown: Vec<_> = tables
        .iter()
        .map(|table| {
            let columns = table.columns.iter();
            let columns: Vec<_> =
                columns.map(|one| format!("{} {:?}", one.name, one.column_type)).collect();
            format!("{}: {}", table.name, columns.join(", "))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "todos: owner Text, done Integer, tags Text",
            "tasks: owner Text, share Real, n Integer, is_done Integer, any Text, nothing Text",
        ]
    );
}
