//! Random expressions of the SQLite engine, compared with SQLite in value and type.
//!
//! SQLite gets the columns as bound parameters, which have no affinity. Left out are: texts of
//! reals, `upper` and `lower` (both are JavaScript's), and bytes that are not UTF-8. Positions of
//! substrings are near their texts, as distant ones meet internal limits of SQLite.

use std::collections::HashMap;

use proptest::prelude::*;
use rusqlite::types::{Value as Owned, ValueRef};
use rusqlite::{Connection, params_from_iter};
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

const SPEC: &str = "t(i int8, r float8, s text, n text, b bytea, c bytea, d bytea)";
const INTEGERS: [i64; 12] =
    [0, 1, -1, 3, 7, -64, 100, 1 << 53, i64::MAX, i64::MIN, i64::MIN + 1, 4_503_599_627_370_496];
const REALS: [&str; 16] = [
    "0.0",
    "-0.0",
    "0.5",
    "-2.5",
    "3.0",
    "2.675",
    "0.125",
    "1e18",
    "-1e19",
    "1e300",
    "5e-324",
    "4503599627370495.5",
    "9007199254740993.0",
    "-0.15",
    "1.45",
    "99.995",
];
const TEXTS: [&str; 24] = [
    "",
    "a",
    "A",
    "ab",
    "aab",
    "3",
    "3x",
    "-2.5",
    "1e2",
    " 7 ",
    ".5",
    "5.",
    "1e",
    "+4",
    "0x10",
    "9223372036854775808",
    "-9223372036854775809",
    "1e19",
    "é",
    "É😀a",
    "%_",
    "ßx",
    "-",
    "1.0",
];
const BLOBS: [&str; 6] = ["", "a", "ab", "3", "-2.5", "1e2"];
const PATTERNS: [&str; 12] = [
    "''",
    "'%'",
    "'_'",
    "'a%'",
    "'%A'",
    "'%a_%'",
    "'__'",
    "'%é%'",
    "'a%%b'",
    "'3_'",
    "'!%_' ESCAPE '!'",
    "'%!_' ESCAPE '!'",
];

impl Both {
    /// Replaces `$1`, `$2` and so on by the operands.
    fn new(template: &str, operands: &[&Self]) -> Self {
        let mut ours = template.to_owned();
        let mut sqlite = template.to_owned();
        for (index, operand) in operands.iter().enumerate() {
            let place = format!("${}", index + 1);
            ours = ours.replace(&place, &operand.ours);
            sqlite = sqlite.replace(&place, &operand.sqlite);
        }
        Self { ours, sqlite }
    }

    fn same(text: impl Into<String>) -> Self {
        let ours = text.into();
        Self { sqlite: ours.clone(), ours }
    }

    /// Replaces a real by a constant, as texts of reals are not compared.
    fn not_real(&self) -> Self {
        Self::new("CASE typeof($1) WHEN 'real' THEN 'r' ELSE $1 END", &[self])
    }
}

fn column(name: &str) -> Both {
    let index = ["i", "r", "s", "n", "b", "c", "d"].iter().position(|known| *known == name);
    Both { ours: name.to_owned(), sqlite: format!("?{}", index.unwrap() + 1) }
}

fn leaf() -> impl Strategy<Value = Both> {
    // SQLite reads the literal of the least integer as a real.
    let integers: Vec<i64> = INTEGERS.into_iter().filter(|n| *n != i64::MIN).collect();
    prop_oneof![
        4 => prop::sample::select(vec!["i", "r", "s", "n", "b"]).prop_map(column),
        1 => prop::sample::select(integers).prop_map(|n| Both::same(format!("({n})"))),
        1 => prop::sample::select(REALS.to_vec()).prop_map(|r| Both::same(format!("({r})"))),
        2 => prop::sample::select(TEXTS.to_vec()).prop_map(|s| Both::same(format!("'{s}'"))),
        1 => Just(Both::same("NULL")),
    ]
}

fn expression() -> impl Strategy<Value = Both> {
    leaf().prop_recursive(4, 20, 3, |inner| {
        prop_oneof![
            4 => operators(inner.clone()),
            3 => choices(inner.clone()),
            4 => calls(inner),
            1 => bytes(),
        ]
    })
}

fn operators(inner: impl Strategy<Value = Both> + Clone) -> impl Strategy<Value = Both> {
    let of_values = vec![
        "($1 = $2)",
        "($1 != $2)",
        "($1 < $2)",
        "($1 <= $2)",
        "($1 > $2)",
        "($1 >= $2)",
        "($1 + $2)",
        "($1 - $2)",
        "($1 * $2)",
        "($1 / $2)",
        "($1 % $2)",
        "($1 & $2)",
        "($1 | $2)",
        "($1 << $2)",
        "($1 >> $2)",
        "($1 AND $2)",
        "($1 OR $2)",
        "(NOT $1)",
        "(-$1)",
        "(+$1)",
        "($1 IS NULL)",
        "($1 IS NOT DISTINCT FROM $2)",
        "($1 IS DISTINCT FROM $2)",
        "CAST($1 AS integer)",
        "CAST($1 AS real)",
        "CAST($1 AS numeric)",
    ];

    let of_texts = vec!["($1 || $2)", "CAST($1 AS text)", "CAST($1 AS blob)"];
    let two = (inner.clone(), inner.clone());
    let of_values = (two.clone(), prop::sample::select(of_values))
        .prop_map(|((a, b), template)| Both::new(template, &[&a, &b]));
    let of_texts = (two, prop::sample::select(of_texts))
        .prop_map(|((a, b), template)| Both::new(template, &[&a.not_real(), &b.not_real()]));
    let like = (inner, prop::sample::select(PATTERNS.to_vec()), any::<bool>()).prop_map(
        |(a, pattern, negated)| {
            let not = if negated { "NOT " } else { "" };
            Both::new(&format!("($1 {not}LIKE {pattern})"), &[&a.not_real()])
        },
    );

    prop_oneof![6 => of_values, 2 => of_texts, 1 => like]
}

fn choices(inner: impl Strategy<Value = Both> + Clone) -> impl Strategy<Value = Both> {
    let three = vec![
        "($1 BETWEEN $2 AND $3)",
        "($1 NOT BETWEEN $2 AND $3)",
        "CASE WHEN $1 THEN $2 ELSE $3 END",
        "CASE WHEN $1 THEN $2 WHEN $3 THEN 'x' END",
        "CASE $1 WHEN $2 THEN 'x' ELSE $3 END",
        "CASE $1 WHEN $2 THEN 'x' WHEN $3 THEN 'y' END",
        "iif($1, $2, $3)",
        "coalesce($1, $2, $3)",
        "ifnull($1, $2)",
        "nullif($1, $2)",
        "($1 IN ($2, $3))",
        "($1 NOT IN ($2, $3, 3))",
    ];

    let three = (inner.clone(), inner.clone(), inner.clone(), prop::sample::select(three))
        .prop_map(|(a, b, c, template)| Both::new(template, &[&a, &b, &c]));

    // In the language `IS TRUE` compares with 1.
    let truth = (inner, prop::sample::select(vec![("TRUE", 1), ("FALSE", 0)]), any::<bool>())
        .prop_map(|(a, (name, number), negated)| {
            let not = if negated { "NOT " } else { "" };
            let ours = format!("({} IS {not}{name})", a.ours);
            Both { ours, sqlite: format!("({} IS {not}{number})", a.sqlite) }
        });

    prop_oneof![6 => three, 1 => truth]
}

fn calls(inner: impl Strategy<Value = Both> + Clone) -> impl Strategy<Value = Both> {
    let of_numbers = vec!["abs($1)", "round($1)", "round($1, $2)", "typeof($1)"];
    let of_texts = vec![
        "length($1)",
        "hex($1)",
        "instr($1, $2)",
        "substr($1, $2 % 50)",
        "substr($1, $2 % 50, $3 % 50)",
        "trim($1)",
        "ltrim($1)",
        "rtrim($1)",
        "trim($1, $2)",
        "ltrim($1, $2)",
        "rtrim($1, $2)",
        "replace($1, $2, $3)",
        "replace($1, 'a', $2)",
        "json_valid(CAST($1 AS text))",
    ];

    let three = (inner.clone(), inner.clone(), inner);
    let of_numbers = (three.clone(), prop::sample::select(of_numbers))
        .prop_map(|((a, b, _), template)| Both::new(template, &[&a, &b]));
    let of_texts = (three, prop::sample::select(of_texts)).prop_map(|((a, b, c), template)| {
        Both::new(template, &[&a.not_real(), &b.not_real(), &c.not_real()])
    });

    prop_oneof![1 => of_numbers, 3 => of_texts]
}

/// Returns expressions over blobs with random bytes.
fn bytes() -> impl Strategy<Value = Both> {
    let templates = vec![
        "hex($1)",
        "length($1)",
        "instr($1, $2)",
        "($1 < $2)",
        "($1 = $2)",
        "typeof($1)",
        "hex(substr($1, $3))",
        "hex(substr($1, $3, 2))",
        "hex(CAST($1 AS blob))",
        "abs(-length($1))",
    ];

    (prop::sample::select(templates), -3..6_i8).prop_map(|(template, number)| {
        let number = Both::same(format!("({number})"));
        Both::new(template, &[&column("c"), &column("d"), &number])
    })
}

#[derive(Clone, Debug)]
struct Row(Vec<Owned>);

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0, 1, 65, 97, 255]), 0..5)
}

fn row() -> impl Strategy<Value = Row> {
    (
        prop::sample::select(INTEGERS.to_vec()),
        prop::sample::select(REALS.to_vec()),
        prop::sample::select(TEXTS.to_vec()),
        prop::sample::select(BLOBS.to_vec()),
        any_bytes(),
        any_bytes(),
    )
        .prop_map(|(i, r, s, b, c, d)| {
            Row(vec![
                Owned::Integer(i),
                Owned::Real(r.parse().unwrap()),
                Owned::Text(s.to_owned()),
                Owned::Null,
                Owned::Blob(b.as_bytes().to_vec()),
                Owned::Blob(c),
                Owned::Blob(d),
            ])
        })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn print_value(value: &Owned) -> Option<String> {
    match value {
        Owned::Null => None,
        Owned::Integer(integer) => Some(integer.to_string()),
        Owned::Real(real) => Some(format!("{real:e}")),
        Owned::Text(text) => Some(text.clone()),
        Owned::Blob(blob) => Some(format!("\\x{}", hex(blob))),
    }
}

/// Prints the row as PostgreSQL does.
fn printed(row: &Row) -> Vec<Option<String>> {
    row.0.iter().map(print_value).collect()
}

/// Returns the first column's type, and its value as JSON.
fn typed_json_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<String> {
    let value = match row.get_ref(0)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => Value::text(std::str::from_utf8(text).unwrap().to_owned()),
        ValueRef::Blob(blob) => return Ok(format!("\"blob\" \"{}\"", hex(blob))),
    };
    let mut out = format!("\"{}\" ", value.type_name());
    json::push_value(&value, &mut out);
    Ok(out)
}

/// Returns SQLite's value as type and JSON, or `None` for an error.
fn in_sqlite(connection: &Connection, expression: &str, row: &Row) -> Option<String> {
    // All values are bound, so the statement must use each parameter.
    let sql = format!("SELECT {expression} WHERE coalesce(1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)");

    match connection.query_row(&sql, params_from_iter(&row.0), typed_json_of) {
        Ok(value) => Some(value),
        Err(error) if error.to_string().contains("integer overflow") => None,
        Err(error) => panic!("{sql}: {error}"),
    }
}

/// Returns our value as type and JSON, or the error.
fn in_ours(options: &str, expression: &str, row: &Row) -> String {
    let query = format!(
        "SELECT '1' AS id, typeof({expression}) AS y, \
         CASE typeof({expression}) WHEN 'blob' THEN hex({expression}) ELSE {expression} END AS v FROM t"
    );
    let config = compile(&stream(&query).replace("edition: 3", options));
    let evaluator = config.bind(&table(SPEC)).unwrap().unwrap();
    let values = printed(row);
    let values: Vec<Option<&str>> = values.iter().map(Option::as_deref).collect();
    let mut out = RowOutput::default();

    evaluator.evaluate(&values, &mut out);
    if let Some(error) = out.errors().first() {
        return error.clone();
    }

    let data: HashMap<String, Box<RawValue>> =
        serde_json::from_str(out.buckets().next().unwrap().data).unwrap();
    format!("{} {}", data["y"].get(), data["v"].get())
}

const JAVASCRIPT: &str = "edition: 3";
const SQLITE: &str = "edition: 3\n  unstable_sqlite_expression_engine: true";

/// Returns expressions that only SQLite has. They are the same in both engines.
fn sqlite_only_expression() -> impl Strategy<Value = Both> {
    let templates = vec![
        "coalesce($1, $2, $3)",
        "nullif($1, $2)",
        "abs($1)",
        "round($1)",
        "round($1, $2)",
        "trim($1)",
        "ltrim($1)",
        "rtrim($1)",
        "trim($1, $2)",
        "ltrim($1, $2)",
        "rtrim($1, $2)",
        "replace($1, $2, $3)",
        "($1 LIKE '%a_%')",
        "($1 % $2)",
        "($1 & $2)",
        "($1 | $2)",
        "($1 << $2)",
        "($1 >> $2)",
        "(-$1)",
        "($1 IS DISTINCT FROM $2)",
    ];

    (leaf(), leaf(), leaf(), prop::sample::select(templates)).prop_map(|(a, b, c, template)| {
        let is_of_texts = ["trim", "replace", "LIKE"].iter().any(|name| template.contains(name));
        let [a, b, c] =
            [a, b, c].map(|operand| if is_of_texts { operand.not_real() } else { operand });
        Both::new(template, &[&a, &b, &c])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn sqlite_only_expressions_agree_with_sqlite_in_both_engines(
        expression in sqlite_only_expression(),
        row in row(),
    ) {
        let connection = Connection::open_in_memory().unwrap();
        if let Some(expected) = in_sqlite(&connection, &expression.sqlite, &row) {
            for options in [JAVASCRIPT, SQLITE] {
                let found = in_ours(options, &expression.ours, &row);
                prop_assert_eq!(&found, &expected, "{} of {:?}", expression.ours, row);
            }
        }
    }

    #[test]
    fn the_sqlite_engine_agrees_with_sqlite(expression in expression(), row in row()) {
        let connection = Connection::open_in_memory().unwrap();
        if let Some(expected) = in_sqlite(&connection, &expression.sqlite, &row) {
            let found = in_ours(SQLITE, &expression.ours, &row);
            prop_assert_eq!(found, expected, "{} of {:?}", expression.ours, row);
        }
    }

    /// A decimal that ends in five is as near to a half as a real can be.
    #[test]
    fn round_agrees_with_sqlite(
        digits in 0..18_i32,
        whole in any::<u32>(),
        fraction in any::<u32>(),
        shift in 0..12_u8,
    ) {
        let decimal = format!("{}.{}5", whole >> (2 * shift), fraction % 10_u32.pow(shift.min(9).into()));
        let mut row = Row(vec![Owned::Null; 7]);
        row.0[1] = Owned::Real(decimal.parse().unwrap());

        let connection = Connection::open_in_memory().unwrap();
        let expected = in_sqlite(&connection, &format!("round(?2, {digits})"), &row).unwrap();
        let found = in_ours(SQLITE, &format!("round(r, {digits})"), &row);
        prop_assert_eq!(found, expected, "{} of {}", decimal, digits);
    }
}
