//! Accepted forms of queries, and how they evaluate rows.

mod bucket_definitions;
mod joins;
mod parameters;
mod rows;

use expect_test::{Expect, expect};

use super::{compile, definition, row, rows, stream, table};

const TODOS: &str = "todos(id text, owner_id text, n int4, done bool, meta json)";

fn check(query: &str, values: &str, expected: Expect) {
    expected.assert_eq(&row(&stream(query), TODOS, values));
}

fn check_definition(parameters: &[&str], data: &[&str], values: &str, expected: Expect) {
    expected.assert_eq(&row(&definition(parameters, data), TODOS, values));
}
