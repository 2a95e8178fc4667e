//! Random conditions.

use super::expression::{
    ColumnType, KnownColumn, column, column_of, literal, other_value, row_value,
};
use super::query::Queries;
use super::request::{request_array, request_value};
use super::schema::{Class, Kind};
use super::{Both, Choices};

/// Number of attempts at a term. An attempt fails if no column fits.
const TRIES: usize = 5;

/// Condition, and whether it contains a subquery.
struct Condition {
    both: Both,
    has_query: bool,
}

impl Condition {
    fn plain(template: &str, operands: &[&Both]) -> Self {
        let mut both = Both::new(template, operands);
        if [" NOT IN ", " NOT BETWEEN ", " NOT LIKE "].iter().any(|not| template.contains(not)) {
            let positive = template.replace(" NOT ", " ");
            both.sqlite = Both::new(&format!("(@n{positive}@m)"), operands).sqlite;
        }
        Self { both, has_query: false }
    }

    fn query(template: &str, operands: &[&Both]) -> Self {
        Self { both: Both::new(template, operands), has_query: true }
    }
}

fn class(choices: &mut Choices<'_>) -> Class {
    choices.pick(&[Class::Text, Class::Text, Class::Number])
}

impl Queries<'_, '_> {
    /// Returns a condition with at most `depth` levels of operators and inner queries.
    pub(super) fn condition(&mut self, known: &[KnownColumn], depth: usize) -> Both {
        self.tree(known, depth).both
    }

    fn tree(&mut self, known: &[KnownColumn], depth: usize) -> Condition {
        let kind = if depth == 0 { 0 } else { self.choices.below(10) };
        match kind {
            0..=4 => self.term(known, depth),

            5..=8 => {
                let operator = if kind == 8 || self.choices.one_in(4) { "OR" } else { "AND" };
                let a = self.tree(known, depth - 1);
                let b = self.tree(known, depth - 1);
                let both = Both::new(&format!("($1@t {operator} $2@t)"), &[&a.both, &b.both]);
                Condition { both, has_query: a.has_query || b.has_query }
            }

            _ => {
                let inner = self.tree(known, depth - 1);
                // Where a single NOT is not supported, two of them are.
                let template = if inner.has_query { "(@n(@n$1@m)@m)" } else { "(@n$1@m)" };
                Condition { both: Both::new(template, &[&inner.both]), ..inner }
            }
        }
    }

    fn term(&mut self, known: &[KnownColumn], depth: usize) -> Condition {
        for _ in 0..TRIES {
            if let Some(found) = self.try_term(known, depth) {
                return found;
            }
        }
        Condition::plain("(1 = 1)", &[])
    }

    /// Returns `None` if no column fits.
    fn try_term(&mut self, known: &[KnownColumn], depth: usize) -> Option<Condition> {
        let kind = self.choices.below(16);
        if !self.is_of_request {
            return self.test(known);
        }

        let depth = if self.is_plain { 0 } else { depth };
        match kind {
            0..=4 => self.equality(known),
            5 | 6 => self.test(known),
            7 => self.in_values(known),
            8 => self.in_array(known),
            9 => self.overlap(known, depth),
            10 => Some(self.of_request()),
            11..=13 if depth > 0 => self.in_query(known, depth),
            14 if depth > 0 => Some(self.exists(known, depth)),
            15 => self.in_cte(known),
            _ => self.test(known),
        }
    }

    fn equality(&mut self, known: &[KnownColumn]) -> Option<Condition> {
        let class = class(self.choices);
        let (row, _) = row_value(self.choices, known, class)?;
        let other = other_value(self.choices, known, class);
        let template = if self.choices.one_in(3) { "($2 = $1)" } else { "($1 = $2)" };
        Some(Condition::plain(template, &[&row, &other]))
    }

    /// Builds a condition without subqueries. In edition 3, `!=` is NOT of `=`.
    fn plain(&self, template: &str, operands: &[&Both]) -> Condition {
        let mut condition = Condition::plain(template, operands);
        if template.contains(" != ") && !self.choices.is_early {
            let not = format!("(@n{}@m)", template.replace(" != ", " = "));
            condition.both.sqlite = Both::new(&not, operands).sqlite;
        }
        condition
    }

    /// Returns a condition on one row.
    fn test(&mut self, known: &[KnownColumn]) -> Option<Condition> {
        let class = class(self.choices);
        let (row, column) = row_value(self.choices, known, class)?;
        let [low, high] = [literal(self.choices, class), literal(self.choices, class)];
        let sibling: Vec<KnownColumn> =
            known.iter().filter(|known| known.qualifier == column.qualifier).cloned().collect();
        let (other, _) = row_value(self.choices, &sibling, class)?;

        let templates = [
            "($1 = $2)",
            "($1 != $2)",
            "($1 > $2)",
            "($1 <= $2)",
            "($1 BETWEEN $2 AND $3)",
            "($1 NOT BETWEEN $2 AND $3)",
            "($1 IN ($2, $3))",
            "($1 NOT IN ($2, $3))",
            "($1 IS NULL)",
            "($1 IS NOT NULL)",
            "($1 IS DISTINCT FROM $2)",
            "($1 IS NOT DISTINCT FROM $2)",
            "($1 = $4)",
            "(($1 < $4)@t OR ($1 IS NULL)@t)",
            "(CASE $1 WHEN $2 THEN 1 ELSE $4 IS NULL END)",
            "($1 IN ($2, $4, NULL))",
        ];

        let likes = ["($1 LIKE 'a%')", "($1 NOT LIKE '_')", "($1 LIKE '%1%')"];
        let template = if class == Class::Text && !self.choices.is_early && self.choices.one_in(5) {
            self.choices.template(&likes)
        } else {
            self.choices.template(&templates)
        };

        Some(self.plain(template, &[&row, &low, &high, &other]))
    }

    /// Compares a value with a list of values, some of which may be the request's.
    fn in_values(&mut self, known: &[KnownColumn]) -> Option<Condition> {
        let class = class(self.choices);
        let (row, _) = row_value(self.choices, known, class)?;
        let other = other_value(self.choices, known, class);
        let request = request_value(self.choices, class);

        Some(match self.choices.below(3) {
            0 => Condition::plain("($1 IN ($2, $3))", &[&row, &other, &request]),
            1 => Condition::plain("($3 IN ($1, $2))", &[&row, &other, &request]),
            _ if self.choices.is_early => return None,
            _ => {
                let literals = [literal(self.choices, class), literal(self.choices, class)];
                // A single number here is not in parentheses.
                let [a, b] = literals.each_ref().map(|one| one.ours.replace(['(', ')'], ""));
                let ours = format!("({} IN ARRAY[{a}, {b}])", row.ours);
                let sqlite =
                    Both::new("($1 IN ($2, $3))", &[&row, &literals[0], &literals[1]]).sqlite;
                let both = Both::pair(ours, sqlite);
                Condition { both, has_query: false }
            }
        })
    }

    fn array_column(&mut self, known: &[KnownColumn]) -> Option<Both> {
        column(self.choices, known, |known| known.kind == ColumnType::Kind(Kind::Array))
            .map(|column| column.write(self.choices))
    }

    fn in_array(&mut self, known: &[KnownColumn]) -> Option<Condition> {
        let class = class(self.choices);
        let (value, array) = match self.choices.below(6) {
            0..=2 => (row_value(self.choices, known, class)?.0, request_array(self.choices)),
            3 => (request_value(self.choices, class), self.array_column(known)?),
            4 => (literal(self.choices, class), self.array_column(known)?),
            _ => (row_value(self.choices, known, class)?.0, self.array_column(known)?),
        };

        // The language skips NULL elements, SQLite does not.
        let sqlite = format!(
            "(CASE WHEN {0} IS NOT NULL AND {1} IS NOT NULL THEN \
             EXISTS (SELECT 1 FROM json_each({1}) z WHERE z.value = {0}) END)",
            value.sqlite, array.sqlite
        );
        let has_query = self.choices.below(6) < 5;
        let (operator, sqlite) =
            if has_query { ("IN", sqlite) } else { ("NOT IN", format!("(@n{sqlite}@m)")) };
        let ours = format!("({} {operator} {})", value.ours, array.ours);

        Some(Condition { both: Both::pair(ours, sqlite), has_query })
    }

    fn overlap(&mut self, known: &[KnownColumn], depth: usize) -> Option<Condition> {
        let own = self.array_column(known)?;
        if depth > 0 && self.choices.one_in(3) {
            let class = class(self.choices);
            let query = self.one_column(known, class, depth - 1);

            return Some(Condition {
                both: Both {
                    ours: format!("({} && ({}))", own.ours, query.ours),
                    sqlite: format!(
                        "(EXISTS (SELECT 1 FROM json_each({}) z WHERE z.value IN ({})))",
                        own.sqlite, query.sqlite
                    ),
                },
                has_query: true,
            });
        }

        let has_query = self.choices.below(3) < 2;
        let other = if has_query { request_array(self.choices) } else { self.array_column(known)? };
        let (left, right) = if self.choices.one_in(2) { (other, own) } else { (own, other) };
        let sqlite = format!(
            "(CASE WHEN {0} IS NOT NULL AND {1} IS NOT NULL THEN \
             EXISTS (SELECT 1 FROM json_each({0}) y, json_each({1}) z WHERE y.value = z.value) END)",
            left.sqlite, right.sqlite
        );
        let both = Both::pair(format!("(({}) && ({}))", left.ours, right.ours), sqlite);

        Some(Condition { both, has_query })
    }

    fn of_request(&mut self) -> Condition {
        let class = class(self.choices);
        let value = request_value(self.choices, class);
        let other = match self.choices.below(3) {
            0 => request_value(self.choices, class),
            _ => literal(self.choices, class),
        };

        let template = self.choices.template(&[
            "($1 = $2)",
            "($1 != $2)",
            "($1 > $2)",
            "($1 IS NULL)",
            "($1 IS NOT NULL)",
            "($1 IN ($2, $1))",
            "($1 NOT IN ($2, 1))",
        ]);

        self.plain(template, &[&value, &other])
    }

    fn in_query(&mut self, known: &[KnownColumn], depth: usize) -> Option<Condition> {
        let class = class(self.choices);
        let value = match self.choices.below(4) {
            0..=2 => row_value(self.choices, known, class)?.0,
            _ => request_value(self.choices, class),
        };
        let query = self.one_column(known, class, depth - 1);
        Some(Condition::query("($1 IN ($2))", &[&value, &query]))
    }

    fn exists(&mut self, known: &[KnownColumn], depth: usize) -> Condition {
        let query = self.one_column(known, Class::Text, depth - 1);
        Condition::query("(EXISTS ($1))", &[&query])
    }

    fn in_cte(&mut self, known: &[KnownColumn]) -> Option<Condition> {
        let of_one_column: Vec<_> =
            self.ctes.iter().filter(|cte| cte.columns.len() == 1).cloned().collect();
        if of_one_column.is_empty() {
            return None;
        }
        let cte = self.choices.pick(&of_one_column);
        let class = class(self.choices);
        let value = match self.choices.below(4) {
            0..=2 => column_of(self.choices, known, class)?.write(self.choices),
            _ => request_value(self.choices, class),
        };
        Some(Condition::query("($1 IN $2)", &[&value, &Both::same(cte.name)]))
    }
}
