//! Random configs over random tables, with what SQLite must be asked to give the same.
//!
//! Decisions come from a list of numbers, which proptest makes smaller when a test fails. What is
//! generated is in the part of the language where SQLite has the same meaning: with texts that have no
//! case beyond ASCII, and that are JSON where JSON is read, arrays that are arrays or NULL, casts only in what is
//! selected (SQLite gives them an affinity, which the equalities that find buckets do not know), and
//! no inner query under NOT.

mod condition;
mod config;
mod definition;
mod expression;
mod from;
mod query;
mod request;
mod schema;
mod tokens;

pub(super) use config::{RandomConfig, RandomQuery, RandomStream};
pub(super) use definition::RandomDefinitions;
pub(super) use request::Given;
pub(super) use schema::{Rows, Schema, quoted};
pub(super) use tokens::{mutated, tokens};

/// Decisions, taken one by one from a list. After its end each is the first of what there is.
pub(super) struct Choices<'l> {
    list: &'l [u16],
    place: usize,
    /// Whether what only edition 3 has is left out.
    is_early: bool,
}

/// What only edition 3 has.
const LATER: [&str; 13] = [
    "CASE", "coalesce", "LIKE", "abs", "BETWEEN", "DISTINCT", "nullif", "replace", "trim", "%",
    "round", "<<", "&",
];

impl<'l> Choices<'l> {
    pub(super) fn new(list: &'l [u16]) -> Self {
        Self { list, place: 0, is_early: false }
    }

    /// How many of the list were taken.
    pub(super) fn taken(&self) -> usize {
        self.place.min(self.list.len())
    }

    pub(super) fn below(&mut self, count: usize) -> usize {
        let number = self.list.get(self.place).copied().unwrap_or(0);
        self.place += 1;
        usize::from(number) % count
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// One of these templates that the edition has.
    fn template(&mut self, from: &[&'static str]) -> &'static str {
        if !self.is_early {
            return self.pick(from);
        }
        let is_early = |template: &&&str| !LATER.iter().any(|later| template.contains(later));
        let early: Vec<&str> = from.iter().filter(is_early).copied().collect();
        self.pick(&early)
    }

    /// Seldom, and never after the list's end.
    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    /// Some of them in any order, at least so many.
    pub(super) fn some_of<T: Clone>(&mut self, from: &[T], least: usize, most: usize) -> Vec<T> {
        let mut left = from.to_vec();
        let count = least + self.below(most - least + 1);
        (0..count.min(left.len())).map(|_| left.remove(self.below(left.len()))).collect()
    }
}

/// A part of a query in both languages: ours and SQLite's.
#[derive(Clone, Debug, Default)]
pub(super) struct Both {
    pub(super) ours: String,
    pub(super) sqlite: String,
}

impl Both {
    fn same(text: impl Into<String>) -> Self {
        let ours = text.into();
        Self { sqlite: ours.clone(), ours }
    }

    /// Of operands in the place of `$1` and so on. In the template `@t` stands after what AND and OR
    /// join, what NOT negates between `@n` and `@m`, and `@w` before an operand whose text is asked for:
    /// see [`Both::sqlite_of`].
    fn new(template: &str, operands: &[&Self]) -> Self {
        let ours = template.replace("@t", "").replace("@n", "NOT ").replace("@m", "");
        let whole = "iif(@d AND typeof($1) = 'real' AND CAST($1 AS integer) = $1, \
                     CAST($1 AS integer), $1)";
        let mut both = Self::pair(ours.replace("@w", ""), template.replace("@w$1", whole));
        for (index, operand) in operands.iter().enumerate() {
            let place = format!("${}", index + 1);
            both.ours = both.ours.replace(&place, &operand.ours);
            both.sqlite = both.sqlite.replace(&place, &operand.sqlite);
        }
        both
    }

    fn pair(ours: impl Into<String>, sqlite: impl Into<String>) -> Self {
        Self { ours: ours.into(), sqlite: sqlite.into() }
    }

    /// What SQLite is asked. In the default engine NULL is false in AND and OR, and NOT makes it true;
    /// whole reals have the text of integers.
    fn sqlite_of(sqlite: &str, is_default_engine: bool) -> String {
        let [truth, not, not_true, whole] = if is_default_engine {
            [" IS TRUE", "", " IS NOT TRUE", "TRUE"]
        } else {
            ["", "NOT ", "", "FALSE"]
        };
        let sqlite = sqlite.replace("@t", truth).replace("@d", whole);
        sqlite.replace("@n", not).replace("@m", not_true)
    }

    fn push(&mut self, other: &Self) {
        self.ours += &other.ours;
        self.sqlite += &other.sqlite;
    }

    fn push_same(&mut self, text: &str) {
        self.ours += text;
        self.sqlite += text;
    }
}
