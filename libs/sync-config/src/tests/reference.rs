//! The language reference, sentence by sentence: accepted forms with the rows and buckets they
//! yield, and rejected forms.

mod bucket_names;
mod config;
mod definitions;
mod early_streams;
mod expressions;
mod from;
mod json_each;
mod request_functions;
mod selection;
mod stream_keys;
mod streams;
mod values;

use expect_test::Expect;

use super::{auto_subscribed, compile, definition, format_findings, granted, refused, row, stream};

/// The table `todos`, for queries of one stream.
const TODOS: &str = "todos(id text, owner text, list text, n int4, done bool, meta text)";

/// Compares the output of rows of `todos` in a stream with one query.
fn check_rows(query: &str, values: &[&str], expected: Expect) {
    let text: String = values.iter().map(|values| row(&stream(query), TODOS, values)).collect();
    expected.assert_eq(&text);
}

/// Compares the findings of each query, as the only one of a stream.
fn check_refused(queries: &[&str], expected: Expect) {
    let text: String =
        queries.iter().map(|query| format!("{query}\n{}", refused(&stream(query)))).collect();
    expected.assert_eq(&text);
}

/// Compares the warnings of a config that compiles.
fn check_compiled(yaml: &str, expected: Expect) {
    expected.assert_eq(&format_findings(compile(yaml).warnings()));
}

/// Returns how a row of another table answers the lookups of a stream's query.
fn lookups(query: &str, table: &str, values: &str) -> String {
    row(&stream(query), table, values)
}

/// Compares what is granted to a request by an auto-subscribed stream without lookups.
fn check_request(query: &str, request: &str, expected: Expect) {
    let yaml = auto_subscribed(query);
    expected.assert_eq(&granted(&yaml, request, &[]));
}

/// Compares the output of rows of `todos` in a bucket definition of edition 2 without parameters.
fn check_definition_rows(query: &str, values: &[&str], expected: Expect) {
    let yaml = definition(&[], &[query]);
    let text: String = values.iter().map(|values| row(&yaml, TODOS, values)).collect();
    expected.assert_eq(&text);
}
