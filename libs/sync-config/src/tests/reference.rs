//! The reference of the language, sentence by sentence: what each says is accepted, and what it makes
//! of rows and requests, and what each says is refused.

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

use super::{compile, definition, granted, list, refused, row, stream};

/// `todos`, for one query of a stream.
const TODOS: &str = "todos(id text, owner text, list text, n int4, done bool, meta text)";

/// What the rows of `todos` yield in a stream of one query.
fn check_rows(query: &str, values: &[&str], expected: Expect) {
    let text: String = values.iter().map(|values| row(&stream(query), TODOS, values)).collect();
    expected.assert_eq(&text);
}

/// Of configs that are refused: each query's findings.
fn check_refused(queries: &[&str], expected: Expect) {
    let text: String =
        queries.iter().map(|query| format!("{query}\n{}", refused(&stream(query)))).collect();
    expected.assert_eq(&text);
}

/// The warnings of a config that is accepted.
fn check_compiled(yaml: &str, expected: Expect) {
    expected.assert_eq(&list(compile(yaml).warnings()));
}

/// What a row of another table answers to the lookups of one query of a stream.
fn lookups(query: &str, table: &str, values: &str) -> String {
    row(&stream(query), table, values)
}

/// What a request is granted by a stream that subscribes by itself, without lookups.
fn check_request(query: &str, request: &str, expected: Expect) {
    let yaml = stream(query).replace("    query:", "    auto_subscribe: true\n    query:");
    expected.assert_eq(&granted(&yaml, request, &[]));
}

/// What the rows of `todos` yield in a bucket definition of edition 2 without parameters.
fn check_definition_rows(query: &str, values: &[&str], expected: Expect) {
    let yaml = definition(&[], &[query]);
    let text: String = values.iter().map(|values| row(&yaml, TODOS, values)).collect();
    expected.assert_eq(&text);
}
