//! Compares a config with the tables of the database.

use crate::file::diagnostic::{Diagnostic, Findings, Severity};
use crate::file::suggestion::closest;
use crate::pg::converter::Converters;
use crate::plan::{CteName, Reference, ReferenceKind, SyncPlan};
use crate::schema::{TablePattern, TableSchema};
use crate::value::{ValueKind, ValueOptions};

impl SyncPlan {
    /// Returns what the tables lack.
    pub(crate) fn check(&self, tables: &[TableSchema]) -> Vec<Diagnostic> {
        let mut findings = Findings::default();
        for reference in &self.references {
            let pattern = &self.tables[reference.table];
            let mut matching = tables.iter().filter(|table| table.is(pattern)).peekable();
            if matching.peek().is_none() && reference.kind == ReferenceKind::Table {
                findings.push(no_table(reference, pattern, tables));
            } else if pattern.is_wildcard() {
                findings.extend(self.lacking(reference, matching));
            } else {
                findings.extend(matching.find_map(|table| lack(reference, table, self.values)));
            }
        }

        for CteName { name, position } in &self.ctes {
            if tables.iter().any(|table| table.schema == "public" && table.name == *name) {
                let message = format!("`{name}` is a CTE that hides the table of this name");
                let hint = format!("give it another name, or write `public.{name}` for the table");
                findings.push(Diagnostic::warning(*position, message).hint(hint));
            }
        }

        findings.into_sorted()
    }

    /// Returns what one table lacks that it must have.
    pub(crate) fn check_table(&self, table: &TableSchema) -> Vec<Diagnostic> {
        let mut findings = Findings::default();
        for reference in &self.references {
            let pattern = &self.tables[reference.table];
            let must_fit = !pattern.is_wildcard() || reference.kind.affects_access();
            if table.is(pattern) && must_fit {
                findings.extend(lack(reference, table, self.values));
            }
        }
        findings.into_sorted()
    }

    /// Returns what the tables of a wildcard lack, as a finding about the first of them.
    fn lacking<'t>(
        &self,
        reference: &Reference,
        tables: impl Iterator<Item = &'t TableSchema>,
    ) -> Option<Diagnostic> {
        let mut found = tables.filter_map(|table| lack(reference, table, self.values));
        let mut first = found.next()?;
        if reference.kind.affects_access() {
            return Some(first);
        }
        first.severity = Severity::Warning;
        match found.count() {
            0 => {}
            1 => first.message.push_str("; the same holds for another matching table"),
            more => first
                .message
                .push_str(&format!("; the same holds for {more} other matching tables")),
        }

        first.hint = match &reference.kind {
            ReferenceKind::Column(_) => {
                let hint = first.hint.unwrap_or_default();
                Some(format!("{hint}; where it is missing, it is NULL and is not synced"))
            }
            ReferenceKind::IdOfAll => {
                Some("rows of a table without it are not synced by this query".to_owned())
            }
            ReferenceKind::Table
            | ReferenceKind::NeverBlob(_)
            | ReferenceKind::Compared { .. }
            | ReferenceKind::ComparedWithUserId(_) => first.hint,
        };

        Some(first)
    }
}

/// Returns the finding that a table is missing. A wildcard may match tables that are created later.
fn no_table(reference: &Reference, pattern: &TablePattern, tables: &[TableSchema]) -> Diagnostic {
    if pattern.is_wildcard() {
        let message = format!("no table matches `{pattern}` yet");
        return Diagnostic::warning(reference.position, message);
    }
    let message = format!("there is no table `{pattern}`");
    let error = Diagnostic::error(reference.position, message);
    match table_hint(pattern, tables) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Returns what a table lacks of a reference.
fn lack(reference: &Reference, table: &TableSchema, values: ValueOptions) -> Option<Diagnostic> {
    match &reference.kind {
        ReferenceKind::Table => None,
        ReferenceKind::Column(name) => {
            if table.column(name).is_some() {
                return None;
            }

            let message = format!("the table `{}` has no column `{name}`", table.name);
            let names = table.columns.iter().map(|column| column.name.as_str());
            let hint = match closest(name, names.clone()) {
                Some(name) => format!("did you mean {}?", quoted(name)),
                None => {
                    let names: Vec<&str> = names.collect();
                    format!("its columns are: {}", names.join(", "))
                }
            };
            Some(Diagnostic::error(reference.position, message).hint(hint))
        }
        ReferenceKind::NeverBlob(column) => {
            let kind = Converters::new(table.type_oids(), &table.types, values)
                .kind(table.column(column)?);
            if kind.is_some() {
                return None;
            }

            let message = format!(
                "`{column}` is a blob, which cannot be compared after `NOT` with a subquery"
            );
            let hint = format!("compare `hex({column})` with hexadecimal digits");

            Some(Diagnostic::error(reference.position, message).hint(hint))
        }
        ReferenceKind::Compared { column, with } => {
            let kind = Converters::new(table.type_oids(), &table.types, values)
                .kind(table.column(column)?);
            never_equal(reference, column, kind, *with)
        }
        ReferenceKind::ComparedWithUserId(column) => {
            let kind = Converters::new(table.type_oids(), &table.types, values)
                .kind(table.column(column)?);
            match kind {
                Some(ValueKind::Number) => Some(number_and_user_id(reference, column)),
                Some(ValueKind::Text) | None => {
                    never_equal(reference, column, kind, ValueKind::Text)
                }
            }
        }
        ReferenceKind::IdOfAll => {
            if table.column("id").is_some() {
                return None;
            }

            let message = format!("the table `{}` has no column `id`", table.name);
            let first = table.columns.first().map_or("key", |column| &column.name);
            Some(Diagnostic::error(reference.position, message).hint(format!(
                "every synced row needs one: name its key, as in `SELECT {first} AS id, ...`"
            )))
        }
    }
}

/// Returns the warning for a comparison that is never true, because values of these kinds differ on
/// devices.
fn never_equal(
    reference: &Reference,
    name: &str,
    kind: Option<ValueKind>,
    with: ValueKind,
) -> Option<Diagnostic> {
    let (message, hint) = match (kind, with) {
        (Some(ValueKind::Number), ValueKind::Text) => (
            format!("`{name}` is a number on devices and is never equal to a text"),
            format!("write `{name}::text`, or compare with a number; booleans are 1 and 0"),
        ),
        (Some(ValueKind::Text), ValueKind::Number) => (
            format!("`{name}` is a text on devices and is never equal to a number"),
            format!("write `{name}::real` or `{name}::integer`, or compare with a text"),
        ),
        (Some(_), _) => return None,
        (None, _) => (
            format!("`{name}` is a blob and is never equal to a text or number"),
            format!("write `hex({name})` and compare with hexadecimal digits"),
        ),
    };

    Some(Diagnostic::warning(reference.position, message).hint(hint))
}

/// Returns the warning for a number that is compared with the user of the request. It is equal for
/// tokens with a numeric `sub`, which are rare.
fn number_and_user_id(reference: &Reference, name: &str) -> Diagnostic {
    let message = format!(
        "`{name}` is a number on devices: it equals the user only if `sub` is a number in the token"
    );
    let hint = format!("if `sub` is a text, write `{name}::text`");
    Diagnostic::warning(reference.position, message).hint(hint)
}

/// Returns a name as it must be written in SQL, in backticks for a message.
fn quoted(name: &str) -> String {
    if name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
        format!("`{name}`")
    } else {
        format!("`\"{name}\"`")
    }
}

fn table_hint(name: &TablePattern, tables: &[TableSchema]) -> Option<String> {
    const LISTED_MAX: usize = 20;
    if let Some(table) = tables.iter().find(|table| table.name == name.name) {
        return Some(format!(
            "there is one in the schema `{}`: write `{}.{}`",
            table.schema, table.schema, table.name
        ));
    }

    let same_schema = tables.iter().filter(|table| table.schema == name.schema);
    let names: Vec<&str> = same_schema.map(|table| table.name.as_str()).collect();
    if let Some(known) = closest(&name.name, names.iter().copied()) {
        return Some(format!("did you mean {}?", quoted(known)));
    }
    if names.is_empty() {
        return None;
    }
    let listed = names.iter().take(LISTED_MAX).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > LISTED_MAX { ", ..." } else { "" };

    Some(format!("the tables of the schema `{}` are: {listed}{more}", name.schema))
}
