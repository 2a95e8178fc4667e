//! Random expressions over rows.

use super::request::request_value;
use super::schema::{Class, Kind, quoted, write_name};
use super::{Both, Choices};

/// Column that a query can refer to.
#[derive(Clone, Debug)]
pub(in crate::tests) struct KnownColumn {
    /// Qualifier of the column: what stands before the dot.
    pub(in crate::tests) qualifier: String,
    pub(in crate::tests) name: String,
    pub(in crate::tests) kind: ColumnType,
    /// Index of the table use whose row has the column. `None` for elements of arrays.
    pub(in crate::tests) owner: Option<usize>,
    pub(in crate::tests) is_key: bool,
    /// `true` if a subquery selects the column.
    pub(in crate::tests) is_inner: bool,
    /// `true` if the column can be named without its qualifier.
    pub(in crate::tests) is_bare: bool,
}

/// Type of a column's values, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tests) enum ColumnType {
    Kind(Kind),
    Class(Class),
    /// Element of an array.
    Any,
}

impl ColumnType {
    fn is(self, class: Class) -> bool {
        match self {
            Self::Kind(kind) => kind.class() == Some(class),
            Self::Class(known) => known == class,
            Self::Any => true,
        }
    }
}

impl KnownColumn {
    pub(in crate::tests) fn write(&self, choices: &mut Choices<'_>) -> Both {
        let name = write_name(&self.name, choices);
        let ours = if self.is_bare && choices.below(2) == 0 {
            name
        } else {
            format!("{}.{name}", self.qualifier)
        };
        // SQLite's `json_each` has columns `id`, `key` and `value`, too.
        Both::pair(ours, format!("{}.{}", self.qualifier, quoted(&self.name)))
    }
}

/// Returns a column of one of the kinds. If `owner` is given, the column is of that row.
pub(in crate::tests) fn column(
    choices: &mut Choices<'_>,
    known: &[KnownColumn],
    is: impl Fn(&KnownColumn) -> bool,
) -> Option<KnownColumn> {
    let found: Vec<&KnownColumn> = known.iter().filter(|known| is(known)).collect();
    // The columns named last belong to the query itself.
    let recent = &found[found.len() / 2..];
    match (choices.below(2), recent.is_empty()) {
        (_, true) => None,
        (0, false) => Some(choices.pick(recent).clone()),
        _ => Some(choices.pick(&found).clone()),
    }
}

pub(in crate::tests) fn column_of(
    choices: &mut Choices<'_>,
    known: &[KnownColumn],
    class: Class,
) -> Option<KnownColumn> {
    column(choices, known, |known| known.kind.is(class))
}

pub(in crate::tests) fn literal(choices: &mut Choices<'_>, class: Class) -> Both {
    Both::same(match class {
        Class::Text => choices.pick(&["'a'", "'b'", "'u1'", "'A'", "'1'", "''", "'it''s'", "'中'"]),
        Class::Number => choices.pick(&["1", "2", "0", "3", "1.0", "2.5", "(-1)"]),
    })
}

/// Returns a value of one row: a column or an expression over one.
pub(in crate::tests) fn row_value(
    choices: &mut Choices<'_>,
    known: &[KnownColumn],
    class: Class,
) -> Option<(Both, KnownColumn)> {
    if choices.one_in(6)
        && let Some(object) =
            column(choices, known, |known| known.kind == ColumnType::Kind(Kind::Object))
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

/// Returns a value to compare a row with, most often one of the request.
pub(in crate::tests) fn other_value(
    choices: &mut Choices<'_>,
    known: &[KnownColumn],
    class: Class,
) -> Both {
    match choices.below(6) {
        0..=2 => request_value(choices, class),
        3 => literal(choices, class),
        _ => row_value(choices, known, class)
            .map_or_else(|| request_value(choices, class), |(value, _)| value),
    }
}
