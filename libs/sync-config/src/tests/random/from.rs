//! Random FROM clauses: tables, arrays, subqueries and CTEs.

use super::Both;
use super::expression::{ColumnType, KnownColumn, column};
use super::query::Queries;
use super::request::request_array;
use super::schema::{Kind, quoted, write_name};

/// Maximum number of items in FROM.
const ITEMS_MAX: usize = 3;

impl Queries<'_, '_> {
    /// Returns a FROM clause, and the columns of `outer` followed by its own.
    pub(super) fn from(&mut self, outer: &[KnownColumn], depth: usize) -> (Both, Vec<KnownColumn>) {
        let mut known: Vec<KnownColumn> =
            outer.iter().map(|known| KnownColumn { is_bare: false, ..known.clone() }).collect();
        let first = known.len();
        let (mut from, own) = self.item(&known[..first], &[], depth, true);
        known.extend(own);

        let count = match self.choices.below(6) {
            0..=3 => 1,
            4 => 2,
            _ => ITEMS_MAX,
        };

        for _ in 1..count {
            let beside = known[first..].to_vec();
            let (item, own) = self.item(outer, &beside, depth, false);
            known.extend(own);

            let join = self.choices.pick(&[
                " JOIN $1 ON $2",
                " INNER JOIN $1 ON $2",
                ", $1",
                " LEFT JOIN $1 ON $2",
                " CROSS JOIN $1",
                " LEFT OUTER JOIN $1 ON $2",
            ]);

            let on = if join.contains("$2") {
                self.condition(&known[first..], depth.min(1))
            } else {
                Both::default()
            };
            from.push(&Both::new(join, &[&item, &on]));
        }

        if count == 1 {
            for own in &mut known[first..] {
                own.is_bare = true;
            }
        }

        (from, known)
    }

    /// Returns one item and its columns. `beside` are the columns of the items before it.
    fn item(
        &mut self,
        outer: &[KnownColumn],
        beside: &[KnownColumn],
        depth: usize,
        is_first: bool,
    ) -> (Both, Vec<KnownColumn>) {
        match self.choices.below(8) {
            0..=3 => self.table(),

            4 | 5 if depth > 0 => {
                let (query, columns) = self.columns_query(outer, depth - 1);
                let alias = self.name('s');
                let known = columns.into_iter().map(|known| KnownColumn {
                    qualifier: alias.clone(),
                    is_bare: false,
                    ..known
                });
                let known = known.collect();
                (Both::new(&format!("($1) AS {alias}"), &[&query]), known)
            }

            6 if !self.ctes.is_empty() => {
                let ctes = self.ctes.clone();
                let cte = self.choices.pick(&ctes);
                let alias = self.name('s');
                let known = cte
                    .columns
                    .into_iter()
                    .map(|known| KnownColumn { qualifier: alias.clone(), ..known });
                let known = known.collect();
                (Both::same(format!("{} {alias}", cte.name)), known)
            }

            7 if !is_first => self.elements(beside),
            _ => self.table(),
        }
    }

    pub(super) fn table(&mut self) -> (Both, Vec<KnownColumn>) {
        let table = self.choices.below(self.schema.tables.len());
        let schema = self.schema;
        let table = &schema.tables[table];

        let mut name = write_name(table.name, self.choices);
        if table.schema != "public" || self.choices.one_in(8) {
            name = format!("{}.{name}", table.schema);
        }

        let is_named = self.bare_tables.contains(&table.name) || self.choices.below(8) != 7;
        let (alias, owner) = if is_named {
            let alias = self.name('s');
            let is_upper = self.choices.one_in(8);
            let shown = if is_upper { alias.to_uppercase() } else { alias.clone() };
            name.push_str(self.choices.pick(&[" AS ", " "]));
            name.push_str(&shown);
            (alias.clone(), alias)
        } else {
            self.bare_tables.push(table.name);
            (quoted(table.name), table.name.to_owned())
        };

        let sqlite = if is_named {
            format!("{} {alias}", table.sqlite_name())
        } else {
            format!("{} {}", table.sqlite_name(), quoted(table.name))
        };
        self.owners.push(owner);

        let owner = Some(self.owners.len() - 1);
        let known = table.columns.iter().enumerate().map(|(index, column)| KnownColumn {
            qualifier: alias.clone(),
            name: column.name.to_owned(),
            kind: ColumnType::Kind(column.kind),
            owner,
            is_key: index == 0,
            is_inner: false,
            is_bare: false,
        });

        (Both::pair(name, sqlite), known.collect())
    }

    /// Returns the elements of an array of an item before it, or of the request.
    fn elements(&mut self, beside: &[KnownColumn]) -> (Both, Vec<KnownColumn>) {
        let of_row = if self.choices.below(3) < 2 {
            column(self.choices, beside, |known| known.kind == ColumnType::Kind(Kind::Array))
                .map(|column| column.write(self.choices))
        } else {
            None
        };
        let array = of_row.unwrap_or_else(|| request_array(self.choices));
        let alias = self.name('s');

        let known = KnownColumn {
            qualifier: alias.clone(),
            name: "value".to_owned(),
            kind: ColumnType::Any,
            owner: None,
            is_key: false,
            is_inner: false,
            is_bare: false,
        };

        (Both::new(&format!("json_each($1) AS {alias}"), &[&array]), vec![known])
    }
}
