//! Random streams and bucket definitions over random tables, compared with SQLite.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params_from_iter};
use serde_json::json;

use super::super::random::{
    Choices, RandomConfig, RandomDefinitions, RandomQuery, RandomRequest, RandomStream, Rows,
    Schema, decisions,
};
use super::store::{Store, Synced};
use crate::SyncConfig;
use crate::value::Value;
use crate::value::json;

/// Numbers of random decisions about the tables, the config, and the rows and requests.
const SCHEMA_CHOICES: usize = 60;
const CONFIG_CHOICES: usize = 400;
const WORLD_CHOICES: usize = 300;
/// Limit of shrinking steps for a failure.
const SHRINK_MAX: u32 = 20_000;
/// Limit of generated configs without a query. They are rare.
const REJECTS_MAX: u32 = 100_000;
/// Least share of configs that compile, in per cent.
const STREAMS_ACCEPTED_MIN: usize = 65;
const DEFINITIONS_ACCEPTED_MIN: usize = 80;
/// Least share of requests that get anything, in per cent.
const SYNCED_MIN: usize = 10;

/// Counters that show how much was really compared.
#[derive(Default)]
struct Counts {
    all: Cell<usize>,
    accepted: Cell<usize>,
    asked: Cell<usize>,
    synced: Cell<usize>,
}

fn add(count: &Cell<usize>) {
    count.set(count.get() + 1);
}

/// Creates the tables in SQLite and inserts the rows.
fn fill(connection: &Connection, schema: &Schema, rows: &Rows) {
    for (table, rows) in schema.tables.iter().zip(rows) {
        let name = table.sqlite_name();
        connection.execute_batch(&format!("DROP TABLE IF EXISTS {name}")).unwrap();
        let columns: Vec<String> =
            table.columns.iter().map(|column| super::super::random::quoted(column.name)).collect();
        let columns = columns.join(", ");
        connection.execute_batch(&format!("CREATE TABLE {name} ({columns})")).unwrap();
        for row in rows {
            let places = vec!["?"; row.len()].join(", ");
            let insert = format!("INSERT INTO {name} VALUES ({places})");
            connection.execute(&insert, params_from_iter(table.sqlite_row(row))).unwrap();
        }
    }
}

/// Returns the id and the selected values of a result row of SQLite.
fn selected(query: &RandomQuery, row: &rusqlite::Row<'_>) -> (String, BTreeMap<String, String>) {
    let mut members = BTreeMap::new();
    for (index, name) in query.names.iter().enumerate() {
        let mut text = String::new();
        members.remove(name);
        if json::push_value(&value_at(row, index + 1), &mut text) {
            members.insert(name.clone(), text);
        }
    }

    let id = value_at(row, 0).into_text(crate::value::Engine::JavaScript).unwrap();
    (id.into_owned(), members)
}

fn value_at(row: &rusqlite::Row<'_>, index: usize) -> Value<'static> {
    match row.get_ref(index).unwrap() {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => Value::text(String::from_utf8(text.to_vec()).unwrap()),
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec().into()),
    }
}

/// Returns what SQLite selects for all queries of the streams that the request is subscribed to.
fn selected_by_sqlite(
    connection: &Connection,
    streams: &[RandomStream],
    given: &RandomRequest,
) -> Synced {
    let mut synced = Synced::new();
    for (index, stream) in streams.iter().enumerate() {
        let evaluations = given.evaluations(index, stream.auto_subscribe);
        for query in &stream.queries {
            let mut statement = connection
                .prepare(&query.sqlite)
                .unwrap_or_else(|error| panic!("{}: {error}", query.sqlite));

            for parameters in &evaluations {
                let connection_parameters = given.connection.clone().unwrap_or(json!({}));
                let values = (
                    given.user,
                    given.claims.to_string(),
                    connection_parameters.to_string(),
                    parameters.to_string(),
                );

                let rows = statement.query_map(values, |row| Ok(selected(query, row))).unwrap();
                for (id, members) in rows.map(Result::unwrap) {
                    let object = (query.object_type.clone(), id);
                    synced.entry(object).or_default().insert(members);
                }
            }
        }
    }

    synced
}

/// Compares a config with SQLite over some rows, and again after changes to them.
fn check(
    schema: &Schema,
    streams: &[RandomStream],
    config: &SyncConfig,
    choices: &mut Choices<'_>,
    counts: &Counts,
) -> Result<(), TestCaseError> {
    let connection = Connection::open_in_memory().unwrap();
    let mut store = Store::new(config, schema);
    let mut rows = Rows::new();

    let mut next = schema.rows(choices);
    for _ in 0..3 {
        store.replace(&rows, &next);
        rows = next;
        fill(&connection, schema, &rows);

        for _ in 0..2 {
            let given = RandomRequest::new(choices, streams.len());
            let expected = selected_by_sqlite(&connection, streams, &given);
            add(&counts.asked);
            if !expected.is_empty() {
                add(&counts.synced);
            }
            let synced = store.synced(&given.request());
            prop_assert_eq!(synced, expected, "of {:#?}\nand {:?}", &given, &rows);
        }

        let mut fresh = Store::new(config, schema);
        fresh.replace(&Rows::new(), &rows);
        prop_assert_eq!(store.contents(), fresh.contents());
        next = schema.changes(&rows, choices);
    }

    Ok(())
}

/// File and the streams that it declares.
type GeneratedConfig = (String, Vec<RandomStream>);

fn percentage(part: &Cell<usize>, whole: &Cell<usize>) -> usize {
    100 * part.get() / whole.get()
}

/// Compares random configs with SQLite, and checks that enough of them compile and sync rows.
/// `make` returns `None` where the generated config would be empty.
fn check_many(accepted_min: usize, make: fn(&mut Choices<'_>, &Schema) -> Option<GeneratedConfig>) {
    let counts = Counts::default();
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: SHRINK_MAX,
        max_global_rejects: REJECTS_MAX,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let choices = (decisions(SCHEMA_CHOICES), decisions(CONFIG_CHOICES), decisions(WORLD_CHOICES));

    let result = runner.run(&choices, |(tables, config, world)| {
        let schema = Schema::new(&mut Choices::new(&tables));
        let made = make(&mut Choices::new(&config), &schema);
        let Some((yaml, streams)) = made else { return Err(TestCaseError::reject("nothing")) };
        add(&counts.all);
        let Ok(config) = SyncConfig::compile(&yaml) else { return Ok(()) };
        add(&counts.accepted);
        check(&schema, &streams, &config, &mut Choices::new(&world), &counts)
            .map_err(|error| TestCaseError::fail(format!("{error}\n{yaml}\n{streams:#?}")))
    });

    if let Err(error) = result {
        panic!("{error}");
    }

    let accepted = percentage(&counts.accepted, &counts.all);
    assert!(accepted >= accepted_min, "only {accepted} % of the configs compile");

    let synced = percentage(&counts.synced, &counts.asked);
    assert!(synced >= SYNCED_MIN, "only {synced} % of the requests get anything");
}

#[test]
fn random_streams_sync_what_sqlite_selects() {
    check_many(STREAMS_ACCEPTED_MIN, |choices, schema| {
        let random = RandomConfig::new(choices, schema);
        (!random.streams.is_empty()).then(|| (random.yaml(), random.streams))
    });
}

#[test]
fn random_bucket_definitions_sync_what_sqlite_selects() {
    check_many(DEFINITIONS_ACCEPTED_MIN, |choices, schema| {
        let random = RandomDefinitions::new(choices, schema);
        let has_data = random.streams.iter().all(|stream| !stream.queries.is_empty());
        has_data.then_some((random.yaml, random.streams))
    });
}
