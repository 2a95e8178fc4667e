//! Random bucket definitions of edition 2.

use super::config::{RandomQuery, RandomStream};
use super::expression::{ColumnType, KnownColumn, column, row_value};
use super::query::{Queries, USES_ALL_PARAMETERS};
use super::request::{request_array, request_value};
use super::schema::{Class, Kind, Schema, quoted, write_name};
use super::{Both, Choices};

/// Bucket definitions, each with the stream that it is equivalent to.
#[derive(Clone, Debug)]
pub(in crate::tests) struct RandomDefinitions {
    pub(in crate::tests) yaml: String,
    pub(in crate::tests) streams: Vec<RandomStream>,
}

const NAMES: [(&str, Class); 2] = [("a", Class::Text), ("b", Class::Number)];
const DEPTH: usize = 2;

fn list_items(queries: Vec<&str>) -> String {
    queries.iter().map(|query| format!("      - |\n        {query}\n")).collect::<String>()
}

impl RandomDefinitions {
    pub(in crate::tests) fn new(choices: &mut Choices<'_>, schema: &Schema) -> Self {
        let mut queries = Queries::new(choices, schema);
        queries.is_plain = true;
        queries.choices.is_early = true;

        let mut yaml = "config: {edition: 2}\nbucket_definitions:\n".to_owned();

        let mut streams = Vec::new();
        for index in 0..=queries.choices.below(2) {
            let count = 1 + queries.choices.below(NAMES.len());
            let names = &NAMES[..count];
            let parameters: Vec<Both> =
                (0..=queries.choices.below(2)).map(|_| queries.parameters(names)).collect();
            let union: Vec<&str> = parameters.iter().map(|one| one.sqlite.as_str()).collect();
            let union = union.join(" UNION ALL ");
            let found = (0..=queries.choices.below(2)).filter_map(|_| queries.data(names, &union));
            let data: Vec<RandomQuery> = found.collect();
            let name = format!("t{index}");

            yaml += &format!(
                "  {name}:\n    parameters:\n{}    data:\n{}",
                list_items(parameters.iter().map(|one| one.ours.as_str()).collect()),
                list_items(data.iter().map(|one| one.ours.as_str()).collect()),
            );

            streams.push(RandomStream {
                name,
                auto_subscribe: true,
                ctes: Vec::new(),
                queries: data,
            });
        }

        Self { yaml, streams }
    }
}

/// Rewrites stream functions as those of bucket definitions, which have no subscriptions.
fn of_definition(both: &Both) -> Both {
    let mut ours = both.ours.replace("subscription.", "connection.");
    for (function, whole) in
        [("auth.parameter('", "request.jwt()"), ("connection.parameter('", "request.parameters()")]
    {
        while let Some((before, rest)) = ours.split_once(function) {
            let (name, after) = rest.split_once("')").unwrap();
            ours = format!("{before}{whole} ->> '{name}'{after}");
        }
    }

    for (of_stream, of_definition) in [
        ("auth.user_id", "request.user_id"),
        ("auth.parameters", "request.jwt"),
        ("connection.parameters", "request.parameters"),
    ] {
        ours = ours.replace(of_stream, of_definition);
    }

    Both::pair(ours, Both::sqlite_of(&both.sqlite.replace("?4", "?3"), true))
}

impl Queries<'_, '_> {
    /// Returns a parameter query with these output parameters.
    fn parameters(&mut self, names: &[(&str, Class)]) -> Both {
        let (from, known) = match self.choices.below(4) {
            0 => (None, Vec::new()),
            1 => {
                let array = request_array(self.choices);
                let known = KnownColumn {
                    qualifier: "json_each".to_owned(),
                    name: "value".to_owned(),
                    kind: ColumnType::Any,
                    owner: None,
                    is_key: false,
                    is_inner: false,
                    is_bare: true,
                };

                (Some(Both::new("json_each($1)", &[&array])), vec![known])
            }
            _ => {
                let (from, known) = self.unnamed_table();
                (Some(from), known)
            }
        };

        let mut items = Both::default();
        for (index, (name, class)) in names.iter().enumerate() {
            let of_row = (self.choices.below(4) < 3)
                .then(|| row_value(self.choices, &known, *class))
                .flatten();
            let value =
                of_row.map_or_else(|| request_value(self.choices, *class), |(value, _)| value);
            items.push_same(if index == 0 { "" } else { ", " });
            items.push(&Both::new(&format!("$1 AS {name}"), &[&value]));
        }

        let mut query = Both::new("SELECT $1", &[&items]);
        if let Some(from) = &from {
            query.push(&Both::new(" FROM $1", &[from]));
        }

        if self.choices.below(4) < 3 {
            let condition = self.condition(&known, DEPTH);
            query.push(&Both::new(" WHERE $1", &[&condition]));
        }

        of_definition(&query)
    }

    fn unnamed_table(&mut self) -> (Both, Vec<KnownColumn>) {
        let schema = self.schema;
        let table = &schema.tables[self.choices.below(schema.tables.len())];
        let mut name = write_name(table.name, self.choices);
        if table.schema != "public" {
            name = format!("{}.{name}", table.schema);
        }

        let known = table.columns.iter().map(|column| KnownColumn {
            qualifier: quoted(table.name),
            name: column.name.to_owned(),
            kind: ColumnType::Kind(column.kind),
            owner: None,
            is_key: false,
            is_inner: false,
            is_bare: true,
        });

        let sqlite = format!("{} {}", table.sqlite_name(), quoted(table.name));
        (Both::pair(name, sqlite), known.collect())
    }

    /// Returns a data query that uses these parameters, which are the columns of `union` in SQLite.
    fn data(&mut self, names: &[(&str, Class)], union: &str) -> Option<RandomQuery> {
        let (from, mut known) = self.table();
        for known in &mut known {
            known.is_bare = true;
        }

        let key = known[0].clone();
        let (items, out) = self.items(&known, &key);
        let mut condition = self.parameter_conditions(&known, names)?;
        if self.choices.below(3) == 0 {
            let other = self.parameter_conditions(&known, names)?;
            condition = Both::new("($1@t OR $2@t)", &[&condition, &other]);
        }

        let condition = of_definition(&condition);
        let items = of_definition(&items);
        let id = format!("{}.{}", key.qualifier, quoted(&key.name));
        let owner = key.owner?;

        Some(RandomQuery {
            ours: format!("SELECT {} FROM {} WHERE {}", items.ours, from.ours, condition.ours),
            sqlite: format!(
                "SELECT DISTINCT {id}, {} FROM {}, ({union}) p WHERE {USES_ALL_PARAMETERS} AND {}",
                items.sqlite, from.sqlite, condition.sqlite
            ),
            names: out,
            object_type: self.owners[owner].clone(),
        })
    }

    /// Returns a condition that compares a row with all parameters, and perhaps with more.
    fn parameter_conditions(
        &mut self,
        known: &[KnownColumn],
        names: &[(&str, Class)],
    ) -> Option<Both> {
        let mut all: Option<Both> = None;
        for (name, class) in names {
            let parameter = Both::pair(format!("bucket.{name}"), format!("p.{name}"));
            let array =
                column(self.choices, known, |known| known.kind == ColumnType::Kind(Kind::Array))
                    .filter(|_| self.choices.one_in(3));

            let tie = if let Some(array) = array {
                let array = array.write(self.choices);
                let ours = format!("{} IN {}", parameter.ours, array.ours);
                Both::pair(
                    ours,
                    format!(
                        "{} IN (SELECT value FROM json_each({}))",
                        parameter.sqlite, array.sqlite
                    ),
                )
            } else {
                // Every table has a text column, and the length of it is a number.
                let value = match row_value(self.choices, known, *class) {
                    Some((value, _)) => value,
                    None => Both::new("length($1)", &[&known[1].write(self.choices)]),
                };
                let template = self.choices.pick(&["$1 = $2", "$2 = $1"]);
                Both::new(template, &[&value, &parameter])
            };

            all = Some(match all {
                None => Both::new("($1)", &[&tie]),
                Some(all) => Both::new("($1@t AND ($2)@t)", &[&all, &tie]),
            });
        }

        let all = all?;
        if self.choices.below(2) == 0 {
            return Some(all);
        }

        self.is_of_request = false;

        let row = self.condition(known, 1);
        self.is_of_request = true;
        Some(Both::new("($1@t AND $2@t)", &[&all, &row]))
    }
}
