//! SELECT of data queries: the columns that are synced.

use super::QueryCompiler;
use super::scope::{Scope, ScopeEntry, ScopeEntryKind};
use crate::compile::row_sources::{Leaf, QueryExpression, RowSource, SourceId, row_expression};
use crate::edition::Edition;
use crate::file::diagnostic::{Diagnostic, Position};
use crate::plan::{ObjectType, ProjectionItem, ReferenceKind, RowExpression};
use crate::sql::syntax::{Qualifier, Query, SelectItem, SelectItemKind};

/// Table whose rows a query selects, and their columns.
pub(in crate::compile) struct RowSelection {
    pub(in crate::compile) table: SourceId,
    pub(in crate::compile) projection: Vec<ProjectionItem>,
}

enum SelectedItem {
    /// `*` or `t.*`.
    All(SourceId),
    Expression {
        name: String,
        expression: QueryExpression,
    },
}

impl QueryCompiler<'_, '_> {
    /// Resolves the SELECT list of a data query. Reports the errors of all items.
    pub(in crate::compile) fn selected(
        &mut self,
        scope: &Scope<'_>,
        query: &Query,
        skip_underscore: bool,
    ) -> Option<RowSelection> {
        if query.columns.is_empty() {
            let error = Diagnostic::error(query.position, "the query selects no column");
            self.file.findings.push(error.hint("write `SELECT * FROM ...`, or name the columns"));
            return None;
        }

        let mut items = Vec::new();
        let mut failed = false;
        self.check_order(query);

        for item in &query.columns {
            let result = self.projection_items(scope, item);
            match self.file.findings.ok(result) {
                Some(found) => items.extend(found.into_iter().map(|found| (item.position, found))),
                None => failed = true,
            }
        }

        if failed {
            return None;
        }
        let table = self.selected_table(scope, query, &items);
        let table = self.file.findings.ok(table)?;
        let mut projection = Vec::with_capacity(items.len());
        let mut all = None;
        for (position, item) in items {
            match item {
                SelectedItem::All(_) => {
                    all = Some(position);
                    projection.push(ProjectionItem::All { skip_underscore });
                }
                SelectedItem::Expression { name, expression } => {
                    let result = self.row_item(table, &expression, position);
                    match self.file.findings.ok(result) {
                        Some(expression) => {
                            projection.push(ProjectionItem::Expression { name, expression });
                        }
                        None => failed = true,
                    }
                }
            }
        }

        if failed {
            return None;
        }
        self.check_id(table, &projection, all, query.position);

        Some(RowSelection { table, projection })
    }

    /// Warns of `*` after aliases, whose columns it overwrites from edition 3 on.
    fn check_order(&mut self, query: &Query) {
        let mut aliases: Vec<&str> = Vec::new();

        for item in &query.columns {
            match &item.kind {
                SelectItemKind::Expression { alias, .. } => aliases.extend(alias.as_deref()),
                SelectItemKind::All { .. } if self.file.edition < Edition::Three => {}
                SelectItemKind::All { .. } if aliases.is_empty() => {}
                SelectItemKind::All { .. } => {
                    let names: Vec<String> =
                        aliases.iter().map(|name| format!("`{name}`")).collect();
                    let message = format!(
                        "if the table has a column {}, `*` overwrites the column selected before",
                        names.join(" or ")
                    );
                    let warning = Diagnostic::warning(item.position, message);
                    self.file.findings.push(warning.hint("write `*` first"));
                }
            }
        }
    }

    fn check_id(
        &mut self,
        table: SourceId,
        projection: &[ProjectionItem],
        all: Option<Position>,
        query: Position,
    ) {
        let selects_id = projection.iter().any(|item| match item {
            ProjectionItem::Expression { name, .. } => name == "id",
            ProjectionItem::All { .. } => false,
        });

        match (selects_id, all, self.sources.table(table)) {
            (true, ..) => {}
            (false, Some(position), Some(table)) => {
                self.file.add_reference(table, ReferenceKind::IdOfAll, position);
            }
            (false, ..) => {
                let error = Diagnostic::error(query, "the query has no column `id`");
                let hint = "every synced row needs one: name its key, as in \
                            `SELECT key AS id, ...`";
                self.file.findings.push(error.hint(hint));
            }
        }
    }

    fn projection_items(
        &mut self,
        scope: &Scope<'_>,
        item: &SelectItem,
    ) -> Result<Vec<SelectedItem>, Diagnostic> {
        match &item.kind {
            SelectItemKind::All { table } => {
                let entry = all_of_entry(scope, table.as_ref(), item.position)?;
                if let Some(table) = table {
                    self.check_schema(table, entry, item.position)?;
                }

                match &entry.kind {
                    ScopeEntryKind::Table(source) => Ok(vec![SelectedItem::All(*source)]),
                    ScopeEntryKind::Columns(columns) => {
                        let mut items = Vec::with_capacity(columns.len());
                        for (name, column) in columns {
                            let expression = self.column_of_query(column, item.position)?;
                            items.push(SelectedItem::Expression { name: name.clone(), expression });
                        }
                        Ok(items)
                    }
                    ScopeEntryKind::Elements(_) => Err(of_elements(item.position)),
                }
            }

            SelectItemKind::Expression { expression, alias, source_text } => {
                let name = self.file.output_name(
                    item.position,
                    expression,
                    alias.as_deref(),
                    source_text.as_ref(),
                )?;
                let expression = self.lower(scope, expression)?;
                Ok(vec![SelectedItem::Expression { name, expression }])
            }
        }
    }

    /// Returns the name of the table on devices: the name that the query uses.
    pub(in crate::compile) fn object_type(&self, table: SourceId) -> ObjectType {
        let RowSource::Table { table, name } = self.sources.get(table) else {
            return ObjectType::OfTable;
        };
        let pattern = &self.file.plan.tables[*table].name;
        if pattern.ends_with('%') && pattern == name {
            ObjectType::OfTable
        } else {
            ObjectType::Named(name.clone())
        }
    }

    /// Returns the one table that all items select from.
    fn selected_table(
        &self,
        scope: &Scope<'_>,
        query: &Query,
        items: &[(Position, SelectedItem)],
    ) -> Result<SourceId, Diagnostic> {
        let mut table: Option<SourceId> = None;
        for (position, item) in items {
            for source in tables_of_item(item) {
                if *table.get_or_insert(source) != source {
                    let message = "the columns of a synced row must be of one table";
                    return Err(Diagnostic::error(*position, message)
                        .hint("sync the other table with a separate query"));
                }
            }
        }

        if let Some(table) = table {
            return Ok(table);
        }
        match scope.entries.as_slice() {
            [ScopeEntry { kind: ScopeEntryKind::Table(source), .. }] => Ok(*source),
            _ => Err(Diagnostic::error(query.position, "the query selects no column of a table")),
        }
    }

    fn row_item(
        &self,
        table: SourceId,
        expression: &QueryExpression,
        position: Position,
    ) -> Result<RowExpression, Diagnostic> {
        if let Some(expression) = row_expression(expression, table, &[]) {
            return Ok(expression);
        }

        let mut of_array = false;
        expression.for_each_leaf(&mut |leaf| {
            of_array |= matches!(leaf, Leaf::Element(_) | Leaf::Key(_));
        });
        if of_array {
            return Err(of_elements(position));
        }

        let message = "a column of a synced row cannot depend on the request";
        Err(Diagnostic::error(position, message)
            .hint("select columns of the table, and compare with the request in WHERE"))
    }
}

/// Returns the item of `FROM` that `*` or `t.*` selects from.
fn all_of_entry<'s>(
    scope: &'s Scope<'_>,
    table: Option<&Qualifier>,
    position: Position,
) -> Result<&'s ScopeEntry, Diagnostic> {
    let entries = scope.entries.as_slice();
    if let Some(Qualifier { table: name, .. }) = table {
        return scope.own_entry(name).ok_or_else(|| {
            let error = format!("`{name}` is not a table of this query");
            let error = Diagnostic::error(position, error);
            match entries {
                [entry] => error.hint(format!("it is `{}`", entry.name)),
                _ => error.hint(format!("the tables are {}", scope.names())),
            }
        });
    }

    match entries {
        [] => Err(Diagnostic::error(position, "there is no table to select `*` from")),
        [entry] => Ok(entry),
        [first, ..] => {
            Err(Diagnostic::error(position, "`*` is ambiguous: there is more than one table")
                .hint(format!("qualify it: `{}.*`", first.name)))
        }
    }
}

fn of_elements(position: Position) -> Diagnostic {
    Diagnostic::error(position, "elements of an array cannot be synced as columns")
        .hint("select columns of the table")
}

/// Returns the tables whose columns an item reads, with repetitions.
fn tables_of_item(item: &SelectedItem) -> Vec<SourceId> {
    let mut tables = Vec::new();
    match item {
        SelectedItem::All(source) => tables.push(*source),
        SelectedItem::Expression { expression, .. } => {
            expression.for_each_leaf(&mut |leaf| match leaf {
                Leaf::Column { source, .. } | Leaf::TableMetadata { source, .. } => {
                    tables.push(*source);
                }
                Leaf::Element(_) | Leaf::Key(_) | Leaf::Request(_) | Leaf::Bucket(_) => {}
            });
        }
    }

    tables
}
