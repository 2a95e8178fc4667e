//! Random values of random types in PostgreSQL's text format, and their JSON.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::values::{QUERY, convert};
use super::{compile, stream};
use crate::{Attribute, PgType, PgTypes};

#[derive(Clone, Debug)]
enum Type {
    Text,
    Integer,
    Domain(Box<Type>),
    Array(Box<Type>),
    Composite(Vec<Type>),
    Range(Box<Type>),
    Multirange(Box<Type>),
}

/// Non-null value as PostgreSQL prints it, and as JSON.
#[derive(Clone, Debug)]
struct Printed {
    text: String,
    json: Json,
}

type Values = BoxedStrategy<Option<Printed>>;

fn types() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![3 => Just(Type::Text), 1 => Just(Type::Integer)];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            1 => boxed.clone().prop_map(Type::Domain),
            2 => boxed.clone().prop_map(Type::Array),
            2 => prop::collection::vec(inner, 0..4).prop_map(Type::Composite),
            1 => boxed.clone().prop_map(Type::Range),
            1 => boxed.prop_map(Type::Multirange),
        ]
    })
}

fn values(kind: &Type) -> Values {
    let some = match kind {
        Type::Text => prop_oneof![
            "[a-z \"\\\\{}(),\\[\\];\t\né]{0,5}",
            prop::sample::select(vec!["NULL", "null", "empty", "", "\"", "\\"])
                .prop_map(str::to_owned),
        ]
        .prop_map(|text| Printed { json: json!(text), text })
        .boxed(),
        Type::Integer => {
            any::<i64>().prop_map(|n| Printed { text: n.to_string(), json: json!(n) }).boxed()
        }
        Type::Domain(base) => return values(base),
        Type::Array(element) => arrays(values(element)),
        Type::Composite(attributes) => {
            let attributes: Vec<Values> = attributes.iter().map(values).collect();
            attributes.prop_map(|values| composite(&values)).boxed()
        }
        Type::Range(bound) => ranges(&values(bound), true),
        Type::Multirange(bound) => prop::collection::vec(ranges(&values(bound), false), 0..3)
            .prop_map(|ranges| {
                let texts: Vec<&str> = ranges.iter().map(|range| range.text.as_str()).collect();
                let text = format!("{{{}}}", texts.join(","));
                Printed { text, json: ranges.iter().map(|range| range.json.clone()).collect() }
            })
            .boxed(),
    };

    prop::option::weighted(0.8, some).boxed()
}

/// Returns arrays of one or two dimensions, some with explicit lower bounds.
fn arrays(element: Values) -> BoxedStrategy<Printed> {
    let flat = prop::collection::vec(element.clone(), 0..4);
    let rows =
        move |width| prop::collection::vec(prop::collection::vec(element.clone(), width), 1..3);
    let two = (1..3_usize).prop_flat_map(rows);

    prop_oneof![
        3 => flat.prop_map(|elements| array(&elements)),
        1 => two.prop_map(|rows| {
            let rows: Vec<Printed> = rows.iter().map(|row| array(row)).collect();
            let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
            let text = format!("[0:{}][-3:9]={{{}}}", rows.len() - 1, texts.join(","));
            Printed { text, json: rows.iter().map(|row| row.json.clone()).collect() }
        }),
    ]
    .boxed()
}

fn array(elements: &[Option<Printed>]) -> Printed {
    let texts: Vec<String> = elements
        .iter()
        .map(|element| match element {
            None => "NULL".to_owned(),
            Some(Printed { text, .. }) => {
                let is_word = text.eq_ignore_ascii_case("NULL");
                if is_word || must_be_quoted(text, "{},") {
                    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
                } else {
                    text.clone()
                }
            }
        })
        .collect();

    let json = elements.iter().map(json_of).collect();
    Printed { text: format!("{{{}}}", texts.join(",")), json }
}

fn composite(values: &[Option<Printed>]) -> Printed {
    let texts: Vec<String> = values.iter().map(|value| field(value, "(),")).collect();
    let members = values.iter().enumerate().map(|(at, value)| (name(at), json_of(value)));
    Printed { text: format!("({})", texts.join(",")), json: Json::Object(members.collect()) }
}

fn ranges(bound: &Values, may_be_empty: bool) -> BoxedStrategy<Printed> {
    let bounds = (bound.clone(), bound.clone(), any::<bool>(), any::<bool>());
    let range = bounds.prop_map(|(lower, upper, opens, ends)| {
        let text = format!(
            "{}{},{}{}",
            if opens { '(' } else { '[' },
            field(&lower, "()[],"),
            field(&upper, "()[],"),
            if ends { ')' } else { ']' }
        );

        let json = json!({
            "lower": json_of(&lower),
            "upper": json_of(&upper),
            "lower_exclusive": u8::from(opens),
            "upper_exclusive": u8::from(ends),
        });

        Printed { text, json }
    });

    let empty = Just(Printed { text: "empty".to_owned(), json: json!("empty") });
    prop_oneof![4 => range, u32::from(may_be_empty) => empty].boxed()
}

/// Prints a field of a composite, or a bound of a range.
fn field(value: &Option<Printed>, special: &str) -> String {
    match value {
        None => String::new(),
        Some(Printed { text, .. }) if must_be_quoted(text, special) => {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""))
        }
        Some(Printed { text, .. }) => text.clone(),
    }
}

fn must_be_quoted(text: &str, special: &str) -> bool {
    text.is_empty()
        || text
            .contains(|c: char| special.contains(c) || matches!(c, '"' | '\\' | ' ' | '\t'..='\r'))
}

fn json_of(value: &Option<Printed>) -> Json {
    value.as_ref().map_or(Json::Null, |value| value.json.clone())
}

fn name(attribute: usize) -> String {
    format!("a\"{attribute}")
}

/// Adds the type to the known types and returns its OID.
fn describe(kind: &Type, known: &mut Vec<(u32, PgType)>) -> u32 {
    let described = match kind {
        Type::Text => return 25,
        Type::Integer => return 20,
        Type::Domain(base) => PgType::Domain(describe(base, known)),
        Type::Array(element) => {
            PgType::Array { element: describe(element, known), delimiter: b',' }
        }
        Type::Composite(attributes) => PgType::Composite(
            attributes
                .iter()
                .enumerate()
                .map(|(at, kind)| Attribute { name: name(at), type_oid: describe(kind, known) })
                .collect(),
        ),
        Type::Range(bound) => PgType::Range(describe(bound, known)),
        Type::Multirange(bound) => PgType::Multirange(describe(bound, known)),
    };

    let oid = 100_000 + u32::try_from(known.len()).unwrap();
    known.push((oid, described));
    oid
}

proptest! {
    #[test]
    fn printed_values_convert_to_their_json((kind, value) in types().prop_flat_map(|kind| {
        let kind = Type::Composite(vec![kind]);
        (Just(kind.clone()), values(&kind).prop_filter("NULL", Option::is_some))
    })) {
        let Printed { text, json } = value.unwrap();
        let mut known = Vec::new();
        let oid = describe(&kind, &mut known);
        let known: PgTypes = known.into_iter().collect();
        let found = convert(&compile(&stream(QUERY)), &known, oid, &text);
        let found: String = serde_json::from_str(&found).unwrap_or(found);
        let found: Json = serde_json::from_str(&found).unwrap_or(Json::String(found));
        prop_assert_eq!(found, json, "{}", text);
    }
}
