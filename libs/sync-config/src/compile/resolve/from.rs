//! `FROM`: tables, arrays, CTEs and subqueries become row sources of the query.

use super::QueryCompiler;
use super::scope::{Ctes, Scope, ScopeEntry, ScopeEntryKind};
use crate::compile::row_sources::{Leaf, Origin, QueryExpression, RowSource, SourceId};
use crate::compile::term::{Condition, LeftJoin, Term};
use crate::edition::Edition;
use crate::expression::Expression;
use crate::file::diagnostic::{Diagnostic, Position};
use crate::sql::syntax::{self, Cte, FromItem, FromSource, Join, Query, SelectItemKind};

/// Maximum number of CTEs that one query may inline, counted at each use.
const INLINED_CTES_MAX: usize = 200;
/// Maximum nesting of CTEs.
const CTE_DEPTH_MAX: usize = 16;

/// Maximum number of expression nodes that the named columns of subqueries expand to in one query.
/// Without it, nested subqueries would grow exponentially.
const INLINED_NODES_MAX: usize = 10_000;
/// Maximum nesting of such an expanded expression.
const INLINED_DEPTH_MAX: usize = 100;

/// Columns that a subquery selects, and its conditions.
pub(super) struct ResolvedSubquery {
    pub(super) columns: Vec<(String, QueryExpression)>,
    pub(super) conditions: Vec<Condition>,
}

impl QueryCompiler<'_, '_> {
    /// Adds the items of `FROM` to the scope. Returns their join conditions.
    pub(in crate::compile) fn from(
        &mut self,
        scope: &mut Scope<'_>,
        query: &Query,
    ) -> Result<Vec<Condition>, Diagnostic> {
        self.file.record_ctes(&query.ctes);
        let mut conditions = Vec::new();
        for item in &query.from {
            let first = self.sources.ids().end;
            let (kind, mut found) = self.source(scope, item)?;
            let sources: Vec<SourceId> = (first..self.sources.ids().end).collect();
            let name = item.visible_name().to_owned();
            if scope.entries.iter().any(|entry| entry.name == name) {
                let message = format!("`{name}` is named twice in `FROM`");
                return Err(Diagnostic::error(item.position, message)
                    .hint("give one of them another name: `... AS name`"));
            }
            scope.entries.push(ScopeEntry { name, kind });
            match &item.join {
                Join::Inner(on) => {
                    conditions.append(&mut found);
                    if let Some(on) = on {
                        conditions.push(self.condition(scope, on, false)?);
                    }
                }
                Join::Left(on) => {
                    if sources.is_empty() {
                        let message = "`LEFT JOIN` of a query without a table is not supported";
                        return Err(Diagnostic::error(item.position, message));
                    }
                    found.push(self.condition(scope, on, false)?);
                    let condition = Condition::And(found);
                    self.left_joins.push(LeftJoin { position: item.position, sources, condition });
                }
            }
        }

        Ok(conditions)
    }

    fn source(
        &mut self,
        scope: &Scope<'_>,
        item: &FromItem,
    ) -> Result<(ScopeEntryKind, Vec<Condition>), Diagnostic> {
        match &item.source {
            FromSource::Table { schema, name } => {
                if schema.is_none()
                    && let Some((cte, ctes)) = scope.ctes.find(name)
                {
                    let ResolvedSubquery { columns, conditions } = self.cte(scope, cte, ctes)?;
                    return Ok((ScopeEntryKind::Columns(columns), conditions));
                }
                let table = self.file.table(schema.as_deref(), name, item.position)?;
                let source = RowSource::Table { table, name: item.visible_name().to_owned() };
                let id = self.sources.add(source, item.position)?;
                Ok((ScopeEntryKind::Table(id), vec![Condition::Term(Term::Source(id))]))
            }

            FromSource::Function { arguments, .. } => {
                let mut found = Vec::new();
                let mut kind = None;
                for argument in arguments {
                    let array = Expression::Each(self.lower_box(scope, argument)?);
                    let id = self.elements(array, argument.position)?;
                    found.push(Condition::Term(Term::Source(id)));
                    kind = Some(ScopeEntryKind::Elements(id));
                }

                let kind = kind.ok_or_else(|| {
                    Diagnostic::error(item.position, "`json_each` takes 1 argument, not 0")
                })?;
                Ok((kind, found))
            }

            FromSource::Query(query) => {
                let mut inner = scope.inner(query);
                // Without LATERAL, a subquery does not see the items beside it.
                inner.outer = scope.outer;
                let ResolvedSubquery { mut columns, conditions } = self.inner(&mut inner, query)?;
                rename(&mut columns, item)?;
                Ok((ScopeEntryKind::Columns(columns), conditions))
            }
        }
    }

    /// Adds a source for the elements of an array.
    pub(super) fn elements(
        &mut self,
        array: QueryExpression,
        position: Position,
    ) -> Result<SourceId, Diagnostic> {
        let mut is_nested = false;
        array.for_each_leaf(&mut |leaf| {
            is_nested |= matches!(leaf, Leaf::Element(_) | Leaf::Key(_));
        });
        if is_nested {
            let message = "an array within an element of another array is not supported";
            return Err(Diagnostic::error(position, message)
                .hint("the array must be of a table's row or of the request"));
        }

        let origin = match self.sources.origin_of(&array) {
            Some(Origin::Row(table)) => Origin::Row(table),
            Some(Origin::Request | Origin::Constant) => Origin::Request,
            Some(Origin::Element(_) | Origin::Bucket) | None => {
                let message = "an array must be of one table's row or of the request";
                return Err(Diagnostic::error(position, message));
            }
        };
        self.sources.add(RowSource::Elements { array, origin }, position)
    }

    /// Inlines a CTE at its use. It does not see the names around its use.
    pub(super) fn cte(
        &mut self,
        scope: &Scope<'_>,
        cte: &Cte,
        ctes: Ctes<'_>,
    ) -> Result<ResolvedSubquery, Diagnostic> {
        self.file.ctes_used.insert(cte.position);

        // Each level may use the one before it several times, so the number of copies can grow
        // exponentially. It is checked before the copy is resolved.
        self.ctes_inlined += 1;
        if self.ctes_inlined > INLINED_CTES_MAX || self.cte_depth == CTE_DEPTH_MAX {
            let message = "the CTEs are used too often, or nested too deeply";
            return Err(Diagnostic::error(cte.position, message).hint(format!(
                "one query may use {INLINED_CTES_MAX} of them, at most {CTE_DEPTH_MAX} levels deep"
            )));
        }

        let around = Scope::new(scope.kind, ctes);
        let mut inner = around.inner(&cte.query);
        inner.outer = None;

        self.cte_depth += 1;
        let result = self.inner(&mut inner, &cte.query);
        self.cte_depth -= 1;
        result
    }

    /// Inlines the column of a subquery at its use.
    pub(super) fn column_of_query(
        &mut self,
        column: &QueryExpression,
        position: Position,
    ) -> Result<QueryExpression, Diagnostic> {
        // A copy may be part of another column, which is copied in turn. The sum of all copies is
        // limited before one is made.
        let (nodes, depth) = column.size();
        self.inlined_nodes = self.inlined_nodes.saturating_add(nodes);

        if self.inlined_nodes > INLINED_NODES_MAX || depth > INLINED_DEPTH_MAX {
            let message = "the columns of subqueries are named too often, or nested too deeply";
            return Err(Diagnostic::error(position, message).hint(format!(
                "each use is expanded: together they may have {INLINED_NODES_MAX} nodes, {INLINED_DEPTH_MAX} levels deep"
            )));
        }

        Ok(column.clone())
    }

    pub(super) fn inner(
        &mut self,
        scope: &mut Scope<'_>,
        query: &Query,
    ) -> Result<ResolvedSubquery, Diagnostic> {
        if self.file.edition < Edition::Three {
            check_single_table(query)?;
        }

        let mut conditions = self.from(scope, query)?;
        if let Some(condition) = &query.condition {
            conditions.push(self.condition(scope, condition, false)?);
        }

        let mut columns: Vec<(String, QueryExpression)> = Vec::new();
        for item in &query.columns {
            let SelectItemKind::Expression { expression, alias, source_text } = &item.kind else {
                let message = "`*` is not supported in a subquery";
                return Err(Diagnostic::error(item.position, message).hint("name its columns"));
            };
            let name = match (alias, source_text) {
                // A subquery with one column is rarely referred to by name, so no name is required.
                (None, Some(source_text))
                    if query.columns.len() == 1 && !is_name(&expression.kind) =>
                {
                    source_text.text.clone()
                }
                (alias, source_text) => self.file.output_name(
                    item.position,
                    expression,
                    alias.as_deref(),
                    source_text.as_ref(),
                )?,
            };
            if columns.iter().any(|(known, _)| *known == name) {
                let message = format!("the subquery selects `{name}` twice");
                return Err(Diagnostic::error(item.position, message));
            }
            columns.push((name, self.lower(scope, expression)?));
        }

        Ok(ResolvedSubquery { columns, conditions })
    }
}

/// Rejects queries over several tables, which exist from edition 3 on.
pub(in crate::compile) fn check_single_table(query: &Query) -> Result<(), Diagnostic> {
    let hint = "streams of edition 3 support it";
    if let Some(position) = query.distinct {
        let message = "`DISTINCT` and `ALL` are not supported here";
        return Err(Diagnostic::error(position, message).hint(hint));
    }

    if let Some(cte) = query.ctes.first() {
        return Err(Diagnostic::error(cte.position, "`WITH` is not supported here").hint(hint));
    }
    if let Some(FromItem { source: FromSource::Query(_), position, .. }) = query.from.first() {
        let message = "a subquery in `FROM` is not supported here";
        return Err(Diagnostic::error(*position, message).hint(hint));
    }

    match query.from.get(1) {
        Some(item) => {
            let message = "more than one table in `FROM` is not supported here";
            Err(Diagnostic::error(item.position, message).hint(hint))
        }
        None => Ok(()),
    }
}

/// Renames columns by the column list of an alias, if it has one.
fn rename(columns: &mut [(String, QueryExpression)], item: &FromItem) -> Result<(), Diagnostic> {
    let names = &item.column_names;
    if names.is_empty() {
        return Ok(());
    }
    if names.len() != columns.len() {
        let message =
            format!("this names {} columns, but the query selects {}", names.len(), columns.len());
        return Err(Diagnostic::error(item.position, message).hint("name all of them, or none"));
    }

    for (place, ((name, _), given)) in columns.iter_mut().zip(names).enumerate() {
        if names[..place].contains(given) {
            let message = format!("this names `{given}` twice");
            return Err(Diagnostic::error(item.position, message));
        }
        name.clone_from(given);
    }

    Ok(())
}

fn is_name(kind: &syntax::ExpressionKind) -> bool {
    matches!(kind, syntax::ExpressionKind::Name { .. })
}
