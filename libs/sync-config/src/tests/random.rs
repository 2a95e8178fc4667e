//! Random configs over random tables, each with the SQLite queries that must give the same rows.
//!
//! Decisions come from a list of numbers, which proptest shrinks when a test fails. The generated
//! queries use only the part of the language that has the same meaning in SQLite:
//! - texts have no case beyond ASCII, and are JSON where JSON is read; arrays are arrays or NULL;
//! - casts are only in the select list, as SQLite gives them an affinity that the equalities that
//!   find buckets do not apply;
//! - no subquery stands under NOT.

mod condition;
mod config;
mod definition;
mod expression;
mod from;
mod query;
mod request;
mod schema;
mod tokens;

use proptest::prelude::*;

pub(super) use config::{RandomConfig, RandomQuery, RandomStream};
pub(super) use definition::RandomDefinitions;
pub(super) use request::RandomRequest;
pub(super) use schema::{Rows, Schema, quoted};
pub(super) use tokens::{mutated, tokens};

/// Source of decisions, read one by one from a list. After the end of the list every decision is 0.
pub(super) struct Choices<'l> {
    list: &'l [u16],
    place: usize,
    /// `true` to leave out what only edition 3 has.
    is_early: bool,
}

/// Returns random lists of `count` numbers, for [`Choices`].
pub(super) fn decisions(count: usize) -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(any::<u16>(), count)
}

/// Words that only edition 3 has.
const LATER: [&str; 13] = [
    "CASE", "coalesce", "LIKE", "abs", "BETWEEN", "DISTINCT", "nullif", "replace", "trim", "%",
    "round", "<<", "&",
];

impl<'l> Choices<'l> {
    pub(super) fn new(list: &'l [u16]) -> Self {
        Self { list, place: 0, is_early: false }
    }

    /// Returns the number of list entries that were used.
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

    /// Picks one of the templates that the edition supports.
    fn template(&mut self, from: &[&'static str]) -> &'static str {
        if !self.is_early {
            return self.pick(from);
        }
        let early: Vec<&str> = from
            .iter()
            .filter(|template| !LATER.iter().any(|later| template.contains(later)))
            .copied()
            .collect();
        self.pick(&early)
    }

    /// Returns `true` once in `count` times, and never after the end of the list.
    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    /// Picks `least` to `most` of the items, in any order.
    pub(super) fn some_of<T: Clone>(&mut self, from: &[T], least: usize, most: usize) -> Vec<T> {
        let mut left = from.to_vec();
        let count = least + self.below(most - least + 1);
        (0..count.min(left.len())).map(|_| left.remove(self.below(left.len()))).collect()
    }
}

/// Part of a query in both languages: ours and SQLite's.
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

    /// Replaces `$1`, `$2` and so on by the operands. Markers in the template depend on the engine
    /// (see [`Both::sqlite_of`]): `@t` follows an operand of AND and OR, `@n` and `@m` enclose what
    /// NOT negates, and `@w` precedes an operand that is converted to text.
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

    /// Resolves the markers for an engine. In the default engine NULL is false in AND and OR, NOT
    /// makes it true, and whole reals convert to the text of integers.
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
