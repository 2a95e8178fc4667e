//! Random queries.

use super::expression::{ColumnType, KnownColumn, column, column_of, literal, row_value};
use super::schema::{Class, Kind, Schema, write_name};
use super::{Both, Choices};

/// Generator of queries.
pub(in crate::tests) struct Queries<'q, 'l> {
    pub(super) choices: &'q mut Choices<'l>,
    pub(super) schema: &'q Schema,
    /// CTEs that are in scope.
    pub(super) ctes: Vec<Cte>,
    /// Names on devices of the rows selected from a table, one for each use of it.
    pub(super) owners: Vec<String>,
    /// Tables that are used under their own name somewhere.
    pub(super) bare_tables: Vec<&'static str>,
    /// Indexes of the table uses whose rows are selected.
    pub(super) selected: Vec<usize>,
    /// `true` for conditions without subqueries, and without `*` in the select list.
    pub(super) is_plain: bool,
    /// `true` if conditions may use values of the request.
    pub(super) is_of_request: bool,
    name_count: usize,
}

/// Named query.
#[derive(Clone, Debug)]
pub(super) struct Cte {
    pub(super) name: String,
    pub(super) query: Both,
    pub(super) columns: Vec<KnownColumn>,
}

/// Query of a stream.
pub(super) struct StreamQuery {
    pub(super) ours: String,
    /// Query for SQLite that selects a row's id and the columns in `names`.
    pub(super) sqlite: String,
    pub(super) names: Vec<String>,
    pub(super) object_type: String,
}

/// Condition that uses every parameter: SQLite rejects values for parameters that are not used.
pub(super) const USES_ALL_PARAMETERS: &str =
    "?1 IS NOT NULL AND ?2 IS NOT NULL AND ?3 IS NOT NULL AND ?4 IS NOT NULL";
/// Maximum depth of operators and subqueries.
const DEPTH: usize = 3;
const CTES_MAX: usize = 2;

/// Returns the WITH clause, or nothing if there are no CTEs.
fn with_clause(ctes: &[Cte]) -> Both {
    let mut all = Both::default();
    for (index, cte) in ctes.iter().enumerate() {
        all.push_same(if index == 0 { "WITH " } else { ", " });
        all.push(&Both::new(&format!("{} AS ($1)", cte.name), &[&cte.query]));
    }
    all.push_same(if ctes.is_empty() { "" } else { " " });
    all
}

impl<'q, 'l> Queries<'q, 'l> {
    pub(super) fn new(choices: &'q mut Choices<'l>, schema: &'q Schema) -> Self {
        Self {
            choices,
            schema,
            ctes: Vec::new(),
            owners: Vec::new(),
            bare_tables: Vec::new(),
            selected: Vec::new(),
            is_plain: false,
            is_of_request: true,
            name_count: 0,
        }
    }

    /// Returns an unused name. The prefix is `s` for a source, `c` for a column, `w` for a CTE.
    pub(super) fn name(&mut self, kind: char) -> String {
        self.name_count += 1;
        format!("{kind}{}", self.name_count)
    }

    /// Adds CTEs. Each may select from those before it.
    pub(super) fn add_ctes(&mut self) {
        let count = match self.choices.below(6) {
            0..=3 => 0,
            4 => 1,
            _ => CTES_MAX,
        };
        for _ in 0..count {
            let (query, columns) = self.columns_query(&[], 1);
            let cte = Cte { name: self.name('w'), query, columns };
            self.ctes.push(cte);
        }
    }

    /// Returns a subquery that selects one value.
    pub(super) fn one_column(&mut self, outer: &[KnownColumn], class: Class, depth: usize) -> Both {
        let around = self.ctes.len();
        if depth > 0 && self.choices.one_in(6) {
            self.add_ctes();
        }

        let mut query = with_clause(&self.ctes[around..]);
        let (from, known) = self.from(outer, depth);
        let value = row_value(self.choices, &known[outer.len()..], class)
            .map_or_else(|| literal(self.choices, class), |(value, _)| value);
        query.push(&Both::new("SELECT $1 FROM $2", &[&value, &from]));

        if self.choices.below(4) < 3 {
            let condition = self.condition(&known, depth);
            query.push(&Both::new(" WHERE $1", &[&condition]));
        }

        self.ctes.truncate(around);
        query
    }

    /// Returns a subquery and its columns.
    pub(super) fn columns_query(
        &mut self,
        outer: &[KnownColumn],
        depth: usize,
    ) -> (Both, Vec<KnownColumn>) {
        let (from, known) = self.from(outer, depth);
        let own = &known[outer.len()..];
        let mut items = Both::default();
        let mut columns: Vec<KnownColumn> = Vec::new();

        // With the key, rows of the subquery can be selected.
        let mut chosen: Vec<(Both, KnownColumn)> = Vec::new();
        if let Some(key) = column(self.choices, own, |known| known.is_key) {
            chosen.push((key.write(self.choices), key));
        }

        for _ in 0..self.choices.below(3) {
            let any = self.choices.pick(own);
            chosen.push((any.write(self.choices), any));
        }

        if self.choices.one_in(3)
            && let Some((value, of)) = row_value(self.choices, own, Class::Text)
        {
            let kind = ColumnType::Class(Class::Text);
            chosen.push((value, KnownColumn { kind, is_key: false, ..of }));
        }

        if chosen.is_empty() {
            let any = self.choices.pick(own);
            chosen.push((any.write(self.choices), any));
        }

        for (value, of) in chosen {
            let name = self.name('c');
            if !columns.is_empty() {
                items.push_same(", ");
            }
            items.push(&Both::new(&format!("$1 AS {name}"), &[&value]));
            columns.push(KnownColumn { name, is_inner: true, is_bare: false, ..of });
        }

        let mut query = Both::new("SELECT $1 FROM $2", &[&items, &from]);
        if self.choices.below(2) == 0 {
            let condition = self.condition(&known, depth);
            query.push(&Both::new(" WHERE $1", &[&condition]));
        }

        (query, columns)
    }

    /// Returns a query of a stream, or `None` if there is no row that it could select.
    pub(super) fn selecting(&mut self) -> Option<StreamQuery> {
        let around = self.ctes.len();
        self.add_ctes();

        let own: Vec<Cte> = self.ctes[around..].to_vec();
        let (from, known) = self.from(&[], DEPTH - 1);
        let selected = &self.selected;
        let key = column(self.choices, &known, |known| {
            known.is_key && known.owner.is_some_and(|owner| !selected.contains(&owner))
        });
        let condition = (!self.choices.one_in(8)).then(|| self.condition(&known, DEPTH));
        let ctes = self.ctes.clone();

        self.ctes.truncate(around);

        let key = key?;
        let owner = key.owner?;
        self.selected.push(owner);

        let (items, names) = self.items(&known, &key);
        let condition = condition.unwrap_or_else(|| Both::same("(1 = 1)"));
        let id = format!("{}.{}", key.qualifier, super::schema::quoted(&key.name));

        Some(StreamQuery {
            ours: format!(
                "{}SELECT {} FROM {} WHERE {}",
                with_clause(&own).ours,
                items.ours,
                from.ours,
                condition.ours
            ),
            sqlite: format!(
                "{}SELECT DISTINCT {id}, {} FROM {} WHERE {USES_ALL_PARAMETERS} AND {id} IS NOT NULL AND {}",
                with_clause(&ctes).sqlite,
                items.sqlite,
                from.sqlite,
                condition.sqlite
            ),
            names,
            object_type: self.owners[owner].clone(),
        })
    }

    /// Returns the select list for a row, and the names of the output columns.
    pub(super) fn items(
        &mut self,
        known: &[KnownColumn],
        key: &KnownColumn,
    ) -> (Both, Vec<String>) {
        let of_row: Vec<KnownColumn> = known
            .iter()
            .filter(|known| known.owner == key.owner && known.qualifier == key.qualifier)
            .cloned()
            .collect();

        let mut names = Vec::new();
        let mut items = Both::default();

        let id = key.write(self.choices);
        let id = Both::pair(format!("{} AS id", id.ours), id.sqlite);

        push_item(&mut items, &mut names, &id, "id".to_owned());

        if !self.is_plain && !key.is_inner && key.name != "id" && self.choices.one_in(3) {
            // `*` selects all of the row. The id is added, as none of its columns is named so.
            let all: Vec<String> = of_row
                .iter()
                .map(|known| format!("{}.{}", known.qualifier, super::schema::quoted(&known.name)))
                .collect();
            let star = Both::pair(format!("{}.*", key.qualifier), all.join(", "));
            push_item(&mut items, &mut names, &star, of_row[0].name.clone());
            names.extend(of_row[1..].iter().map(|known| known.name.clone()));
            return (items, names);
        }

        for index in 0..self.choices.below(4) {
            let name = format!("p{index}");
            let item = self.item_of(&of_row);
            let written = write_name(&name, self.choices);
            let ours = format!("{} AS {written}", item.ours);
            push_item(&mut items, &mut names, &Both::pair(ours, item.sqlite), name);
        }

        (items, names)
    }

    fn item_of(&mut self, of_row: &[KnownColumn]) -> Both {
        let class = self.choices.pick(&[Class::Text, Class::Number]);
        let found = match self.choices.below(6) {
            0 | 1 => Some(self.choices.pick(of_row).write(self.choices)),
            2 | 3 => row_value(self.choices, of_row, class).map(|(value, _)| value),
            4 => column_of(self.choices, of_row, class).map(|column| {
                let templates = [
                    "CAST(@w$1 AS text)",
                    "CAST(abs($1) AS integer)",
                    "CAST($1 AS real)",
                    "typeof($1)",
                    "hex(@w$1)",
                    "($1 IS NULL)",
                    "(($1 = 'a')@t OR ($1 > 1)@t)",
                    "(@n$1@m)",
                    "length(@w$1)",
                ];

                Both::new(self.choices.template(&templates), &[&column.write(self.choices)])
            }),
            _ => column(self.choices, of_row, |known| known.kind == ColumnType::Kind(Kind::Array))
                .map(|column| {
                    let templates =
                        ["json_array_length($1)", "($1 IS NULL)", "CAST($1 AS text)", "$1"];
                    Both::new(self.choices.template(&templates), &[&column.write(self.choices)])
                }),
        };

        found.unwrap_or_else(|| literal(self.choices, class))
    }
}

fn push_item(items: &mut Both, names: &mut Vec<String>, item: &Both, name: String) {
    if !names.is_empty() {
        items.push_same(", ");
    }
    items.push(item);
    names.push(name);
}
