//! Random expressions of the default engine, compared with SQLite.
//!
//! Where the language deviates on purpose, the SQL for SQLite is adapted: NULL is false in AND, OR
//! and NOT, `<>` is NOT of `=`, the truth of a text is that of its leading integer, casts to
//! integer round down, and substrings never begin before the start of the text.

use std::collections::HashMap;

use proptest::prelude::*;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::value::RawValue;

use super::{compile, stream, table};
use crate::RowOutput;
use crate::value::Value;
use crate::value::json;

/// Expression in both languages: ours and SQLite's.
#[derive(Clone, Debug)]
struct Both {
    ours: String,
    sqlite: String,
}

fn same(text: impl Into<String>) -> Both {
    let ours = text.into();
    Both { sqlite: ours.clone(), ours }
}

const TEXTS: [&str; 12] =
    ["", "a", "A", "ab", "3", "3x", "-2.5", "1e2", " 7", ".5", "abc", "9223372036854775808"];
const INTEGERS: [i64; 8] = [0, 1, -1, 3, 7, 100, i64::MAX, i64::MIN + 1];
const REALS: [&str; 7] = ["0.5", "-2.5", "3.0", "100.0", "0.25", "-0.75", "9007199254740992.0"];

fn leaf() -> impl Strategy<Value = Both> {
    prop_oneof![
        prop::sample::select(vec!["i", "r", "s", "f", "n"]).prop_map(same),
        prop::sample::select(INTEGERS.to_vec()).prop_map(|integer| same(integer.to_string())),
        prop::sample::select(REALS.to_vec()).prop_map(same),
        prop::sample::select(TEXTS.to_vec()).prop_map(|text| same(format!("'{text}'"))),
        Just(same("NULL")),
        Just(same("TRUE")),
    ]
}

fn without_real(a: &str) -> String {
    format!("iif(typeof({a}) = 'real', 'r', {a})")
}

/// Replaces reals by a constant: JavaScript prints them with more digits than SQLite.
fn without_reals(a: &Both) -> Both {
    Both { ours: without_real(&a.ours), sqlite: without_real(&a.sqlite) }
}

/// Returns SQL for SQLite with the truth that an expression has in the language.
fn truth(sqlite: &str) -> String {
    format!("(iif(typeof({sqlite}) = 'text', CAST({sqlite} AS integer), {sqlite}))")
}

fn expression() -> impl Strategy<Value = Both> {
    leaf().prop_recursive(4, 24, 3, |inner| {
        prop_oneof![9 => operators(inner.clone()), 5 => tests(inner.clone()), 5 => calls(inner)]
    })
}

fn operators(inner: impl Strategy<Value = Both> + Clone) -> impl Strategy<Value = Both> {
    let two = (inner.clone(), inner.clone());
    let operators = vec!["=", "!=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "||"];

    let binary = (two.clone(), prop::sample::select(operators)).prop_map(|((a, b), operator)| {
        let (a, b) = if operator == "||" { (without_reals(&a), without_reals(&b)) } else { (a, b) };
        let sqlite = match operator {
            "!=" | "<>" => format!("((+{} = +{}) IS NOT TRUE)", a.sqlite, b.sqlite),
            _ => format!("(+{} {operator} +{})", a.sqlite, b.sqlite),
        };
        Both { ours: format!("({} {operator} {})", a.ours, b.ours), sqlite }
    });

    let logical =
        (two, prop::sample::select(vec!["AND", "OR"])).prop_map(|((a, b), operator)| Both {
            ours: format!("({} {operator} {})", a.ours, b.ours),
            sqlite: format!(
                "({} IS TRUE {operator} {} IS TRUE)",
                truth(&a.sqlite),
                truth(&b.sqlite)
            ),
        });

    prop_oneof![2 => binary, 1 => logical]
}

fn tests(inner: impl Strategy<Value = Both> + Clone) -> impl Strategy<Value = Both> {
    let not = inner.clone().prop_map(|a| Both {
        ours: format!("(NOT {})", a.ours),
        sqlite: format!("({} IS NOT TRUE)", truth(&a.sqlite)),
    });

    let is_null = (inner.clone(), prop::sample::select(vec!["IS NULL", "IS NOT NULL"])).prop_map(
        |(a, test)| Both {
            ours: format!("({} {test})", a.ours),
            sqlite: format!("({} {test})", a.sqlite),
        },
    );

    let in_list = (inner, prop::collection::vec(leaf(), 2..4), any::<bool>()).prop_map(
        |(a, list, negated)| {
            let ours: Vec<&str> = list.iter().map(|item| item.ours.as_str()).collect();
            let ours = ours.join(", ");
            let is_in = format!("+{} IN ({ours})", a.sqlite);
            if negated {
                let sqlite = format!("(({is_in}) IS NOT TRUE)");
                Both { ours: format!("({} NOT IN ({ours}))", a.ours), sqlite }
            } else {
                Both { ours: format!("({} IN ({ours}))", a.ours), sqlite: format!("({is_in})") }
            }
        },
    );

    prop_oneof![2 => not, 1 => is_null, 2 => in_list]
}

fn calls(inner: impl Strategy<Value = Both> + Clone) -> impl Strategy<Value = Both> {
    let two = (inner.clone(), inner.clone());
    let cast = (inner.clone(), prop::sample::select(vec!["text", "real", "integer"])).prop_map(
        |(a, to)| {
            let a = if to == "text" { without_reals(&a) } else { a };
            let sqlite = if to == "integer" {
                // Below the smallest integer there is nothing to round down to.
                format!(
                    "(+CAST({a} AS integer) - (typeof({a}) = 'real' AND {a} > -9.2e18 \
                         AND CAST({a} AS integer) > {a}))",
                    a = a.sqlite
                )
            } else {
                format!("(+CAST({} AS {to}))", a.sqlite)
            };

            Both { ours: format!("CAST({} AS {to})", a.ours), sqlite }
        },
    );

    let names = vec!["upper", "lower", "length", "typeof", "hex"];
    let call = (inner.clone(), prop::sample::select(names)).prop_map(|(a, name)| {
        let a = if name == "typeof" { a } else { without_reals(&a) };
        Both { ours: format!("{name}({})", a.ours), sqlite: format!("{name}({})", a.sqlite) }
    });

    let call_two =
        (two, prop::sample::select(vec!["ifnull", "instr"])).prop_map(|((a, b), name)| {
            let a = without_reals(&a);
            let b = without_reals(&b);
            Both {
                ours: format!("{name}({}, {})", a.ours, b.ours),
                sqlite: format!("{name}({}, {})", a.sqlite, b.sqlite),
            }
        });

    let iif = (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| Both {
        ours: format!("iif({}, {}, {})", a.ours, b.ours, c.ours),
        sqlite: format!("iif({}, {}, {})", truth(&a.sqlite), b.sqlite, c.sqlite),
    });

    let substring = (inner, -3..5_i8, prop::option::of(-3..5_i8)).prop_map(|(a, from, count)| {
        let a = without_reals(&a);
        let rest = count.map(|count| format!(", {count}")).unwrap_or_default();
        let start = match from {
            ..0 => format!("max({from}, -length({}))", a.sqlite),
            0.. => from.to_string(),
        };
        Both {
            ours: format!("substring({}, {from}{rest})", a.ours),
            sqlite: format!("substr({}, {start}{rest})", a.sqlite),
        }
    });

    prop_oneof![2 => cast, 1 => call, 1 => call_two, 1 => iif, 1 => substring]
}

fn integers() -> impl Strategy<Value = String> {
    prop::sample::select(INTEGERS.to_vec()).prop_map(|n| n.to_string())
}

/// Returns a row in PostgreSQL's text format.
fn row() -> impl Strategy<Value = Vec<Option<String>>> {
    (
        integers(),
        prop::sample::select(REALS.to_vec()).prop_map(str::to_owned),
        prop::option::of(prop::sample::select(TEXTS.to_vec()).prop_map(str::to_owned)),
        any::<bool>().prop_map(|f| if f { "t" } else { "f" }.to_owned()),
        prop::option::of(integers()),
    )
        .prop_map(|(i, r, s, f, n)| vec![Some(i), Some(r), s, Some(f), n])
}

/// Returns the first column as JSON.
fn json_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<String> {
    let value = match row.get_ref(0)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => Value::text(String::from_utf8_lossy(text)),
        ValueRef::Blob(_) => panic!("no expression here is a blob"),
    };
    let mut out = String::new();
    json::push_value(&value, &mut out);
    Ok(out)
}

/// Returns SQLite's value of an expression over the row, as JSON.
fn evaluate_in_sqlite(expression: &str, row: &[Option<String>]) -> String {
    let connection = Connection::open_in_memory().unwrap();
    let i: Option<i64> = row[0].as_ref().map(|text| text.parse().unwrap());
    let r: Option<f64> = row[1].as_ref().map(|text| text.parse().unwrap());
    let f = row[3].as_ref().map(|text| i64::from(text == "t"));
    let n: Option<i64> = row[4].as_ref().map(|text| text.parse().unwrap());

    // Columns have no types, so that comparisons do not convert.
    connection.execute_batch("CREATE TABLE t (i, r, s, f, n)").unwrap();
    connection.execute("INSERT INTO t VALUES (?, ?, ?, ?, ?)", (i, r, &row[2], f, n)).unwrap();

    let sql = format!("SELECT {expression} FROM t");

    connection.query_row(&sql, (), json_of).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

proptest! {
    #[test]
    fn columns_and_filters_agree_with_sqlite(expression in expression(), row in row()) {
        let expected = evaluate_in_sqlite(&expression.sqlite, &row);
        let query = format!("SELECT '1' AS id, {0} AS v, ({0}) IS NULL AS z FROM t", expression.ours);
        let config = compile(&stream(&query));
        let table = table("t(i int8, r float8, s text, f bool, n int8)");
        let evaluator = config.bind(&table).unwrap().unwrap();
        let values: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
        let mut out = RowOutput::default();
        evaluator.evaluate(&values, &mut out);
        prop_assert!(out.errors().is_empty());
        let data: HashMap<String, Box<RawValue>> =
            serde_json::from_str(out.buckets().next().unwrap().data).unwrap();
        prop_assert_eq!(data["v"].get(), expected, "{}", expression.ours);

        let holds = evaluate_in_sqlite(&format!("({} IS TRUE)", truth(&expression.sqlite)), &row) == "1";
        let config = compile(&stream(&format!("SELECT '1' AS id FROM t WHERE {}", expression.ours)));
        let evaluator = config.bind(&table).unwrap().unwrap();
        evaluator.evaluate(&values, &mut out);
        prop_assert_eq!(out.buckets().count() == 1, holds, "WHERE {}", expression.ours);
    }
}
