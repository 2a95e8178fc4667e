//! Random values of rows.

use super::request::request_value;
use super::schema::{Class, Kind, quoted, written};
use super::{Both, Choices};

/// A column that a query can name.
#[derive(Clone, Debug)]
pub(in crate::tests) struct Known {
    /// What stands before the dot.
    pub(in crate::tests) qualifier: String,
    pub(in crate::tests) name: String,
    pub(in crate::tests) kind: Shown,
    /// The row that it is of, by the number of its table's use; none of elements of arrays.
    pub(in crate::tests) owner: Option<usize>,
    pub(in crate::tests) is_key: bool,
    /// Whether an inner query selects it.
    pub(in crate::tests) is_inner: bool,
    /// Whether it can be named without what stands before the dot.
    pub(in crate::tests) is_bare: bool,
}

/// What is known of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tests) enum Shown {
    Kind(Kind),
    Class(Class),
    /// An element of an array.
    Any,
}

impl Shown {
    fn is(self, class: Class) -> bool {
        match self {
            Self::Kind(kind) => kind.class() == Some(class),
            Self::Class(known) => known == class,
            Self::Any => true,
        }
    }
}

impl Known {
    pub(in crate::tests) fn write(&self, choices: &mut Choices<'_>) -> Both {
        let name = written(&self.name, choices);
        let ours = if self.is_bare && choices.below(2) == 0 {
            name
        } else {
            format!("{}.{name}", self.qualifier)
        };
        // SQLite's arrays have columns `id`, `key` and `value` too.
        Both::pair(ours, format!("{}.{}", self.qualifier, quoted(&self.name)))
    }
}

/// A column of one of the kinds, of the row of `owner` if that is given.
pub(in crate::tests) fn column(
    choices: &mut Choices<'_>,
    known: &[Known],
    is: impl Fn(&Known) -> bool,
) -> Option<Known> {
    let found: Vec<&Known> = known.iter().filter(|known| is(known)).collect();
    // What was named last is the query's own.
    let recent = &found[found.len() / 2..];
    match (choices.below(2), recent.is_empty()) {
        (_, true) => None,
        (0, false) => Some(choices.pick(recent).clone()),
        _ => Some(choices.pick(&found).clone()),
    }
}

pub(in crate::tests) fn column_of(
    choices: &mut Choices<'_>,
    known: &[Known],
    class: Class,
) -> Option<Known> {
    column(choices, known, |known| known.kind.is(class))
}

pub(in crate::tests) fn literal(choices: &mut Choices<'_>, class: Class) -> Both {
    Both::same(match class {
        Class::Text => choices.pick(&["'a'", "'b'", "'u1'", "'A'", "'1'", "''", "'it''s'", "'中'"]),
        Class::Number => choices.pick(&["1", "2", "0", "3", "1.0", "2.5", "(-1)"]),
    })
}

/// A value of one row: a column, or made of one.
pub(in crate::tests) fn row_value(
    choices: &mut Choices<'_>,
    known: &[Known],
    class: Class,
) -> Option<(Both, Known)> {
    let is_object = |known: &Known| known.kind == Shown::Kind(Kind::Object);
    if choices.one_in(6)
        && let Some(object) = column(choices, known, is_object)
    {
        let templates: &[&str] = match class {
            Class::Text => &["($1 ->> 'a')", "($1 ->> '$.in.m')", "json_extract($1, '$.a')"],
            Class::Number => &["($1 ->> 'n')", "json_extract($1, '$.n')", "($1 ->> '$.n')"],
        };
        return Some((Both::new(choices.template(templates), &[&object.write(choices)]), object));
    }
    let column = column_of(choices, known, class)?;
    let written = column.write(choices);
    if choices.below(3) < 2 {
        return Some((written, column));
    }
    let templates: &[&str] = match class {
        Class::Text => &[
            "upper(@w$1)",
            "(@w$1 || 'x')",
            "lower(@w$1)",
            "coalesce($1, 'a')",
            "ifnull($1, 'b')",
            "substr(@w$1, 1, 1)",
            "CASE $1 WHEN 'a' THEN 'b' ELSE $1 END",
            "CASE WHEN $1 = 'b' THEN 'a' WHEN $1 IS NULL THEN 'u1' END",
            "replace(@w$1, 'a', 'b')",
            "iif($1 = 'a', 'b', $1)",
            "nullif($1, 'a')",
            "trim(@w$1, 'a')",
        ],
        Class::Number => &[
            "($1 + 1)",
            "abs($1)",
            "($1 * 2 - 1)",
            "coalesce($1, 1)",
            "($1 % 2)",
            "($1 / 2)",
            "CASE WHEN $1 > 1 THEN 1 ELSE 2 END",
            "($1 & 1)",
            "round($1)",
            "($1 << 1)",
        ],
    };
    Some((Both::new(choices.template(templates), &[&written]), column))
}

/// What a row is compared with: most often a value of the request.
pub(in crate::tests) fn other_value(
    choices: &mut Choices<'_>,
    known: &[Known],
    class: Class,
) -> Both {
    match choices.below(6) {
        0..=2 => request_value(choices, class),
        3 => literal(choices, class),
        _ => row_value(choices, known, class)
            .map_or_else(|| request_value(choices, class), |(value, _)| value),
    }
}
