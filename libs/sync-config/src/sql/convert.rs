//! Queries: converts or rejects every part of the parser's tree.

use sqlparser::ast::{
    Distinct, GroupByExpr, Ident, ObjectName, Query as SqlQuery, Select, SelectFlavor,
    SelectItem as SqlItem, SelectItemQualifiedWildcardKind, SetExpr, WildcardAdditionalOptions,
};
use sqlparser::tokenizer::Span;

use super::hints::instead_of;
use super::parsed::start;
use super::query_text::QueryText;
use super::syntax::{Cte, Query, SelectItem, SelectItemKind, SourceText};
use crate::file::diagnostic::Diagnostic;

pub(super) struct AstConverter<'a> {
    pub(super) input: &'a QueryText<'a>,
    /// Start of the current query.
    pub(super) start: Span,
    pub(super) depth: usize,
}

impl<'a> AstConverter<'a> {
    pub(super) fn new(input: &'a QueryText<'a>) -> Self {
        Self { input, start: Span::empty(), depth: 0 }
    }

    pub(super) fn error(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.input.position(span), message)
    }

    /// Returns the error for a word of the current query.
    pub(super) fn unsupported(&self, words: &[&str]) -> Diagnostic {
        let (word, span) = self.input.find(self.start, words);
        self.refused(span, word)
    }

    /// Returns the error for an unsupported word, with a hint if there is one.
    pub(super) fn refused(&self, span: Span, word: &str) -> Diagnostic {
        let error = self.error(span, format!("`{word}` is not supported"));
        match instead_of(word) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    pub(super) fn query(&mut self, query: SqlQuery) -> Result<Query, Diagnostic> {
        let SqlQuery {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        let outer = self.start;
        self.start = start_of_body(&body).unwrap_or(self.start);
        let refused = [
            (order_by.is_some(), &["ORDER"][..]),
            (limit_clause.is_some(), &["LIMIT", "OFFSET"]),
            (fetch.is_some(), &["FETCH"]),
            (!locks.is_empty() || for_clause.is_some(), &["FOR"]),
            (settings.is_some(), &["SETTINGS"]),
            (format_clause.is_some(), &["FORMAT"]),
            (!pipe_operators.is_empty(), &["|>"]),
        ];
        self.refuse(&refused)?;
        let ctes = match with {
            Some(with) => self.ctes(with)?,
            None => Vec::new(),
        };

        let query = match *body {
            SetExpr::Select(select) => self.select(*select, ctes),
            SetExpr::SetOperation { .. } => Err(self
                .unsupported(&["UNION", "EXCEPT", "INTERSECT", "MINUS"])
                .hint("write several queries")),
            SetExpr::Query(_)
            | SetExpr::Values(_)
            | SetExpr::Insert(_)
            | SetExpr::Update(_)
            | SetExpr::Delete(_)
            | SetExpr::Merge(_)
            | SetExpr::Table(_) => Err(self
                .error(self.start, "only a plain `SELECT` is supported")
                .hint("write `SELECT ... FROM ... WHERE ...`")),
        };
        self.start = outer;
        query
    }

    /// Returns the start of a query, or of the query around it if the start is unknown.
    pub(super) fn start_of_query(&self, query: &SqlQuery) -> Span {
        start_of_body(&query.body).unwrap_or(self.start)
    }

    fn refuse(&self, refused: &[(bool, &[&str])]) -> Result<(), Diagnostic> {
        match refused.iter().find(|(present, _)| *present) {
            Some((_, words)) => Err(self.unsupported(words)),
            None => Ok(()),
        }
    }

    fn select(&mut self, select: Select, ctes: Vec<Cte>) -> Result<Query, Diagnostic> {
        let Select {
            select_token,
            optimizer_hints: _, // Comments.
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;

        let grouped = match group_by {
            GroupByExpr::All(_) => true,
            GroupByExpr::Expressions(list, modifiers) => !list.is_empty() || !modifiers.is_empty(),
        };

        let refused = [
            (matches!(distinct, Some(Distinct::On(_))), &["DISTINCT"][..]),
            (select_modifiers.is_some(), &["SELECT"]),
            (top.is_some(), &["TOP"]),
            (exclude.is_some(), &["EXCLUDE"]),
            (into.is_some(), &["INTO"]),
            (!lateral_views.is_empty(), &["LATERAL"]),
            (prewhere.is_some(), &["PREWHERE"]),
            (!connect_by.is_empty(), &["CONNECT", "START"]),
            (grouped, &["GROUP"]),
            (!cluster_by.is_empty(), &["CLUSTER"]),
            (!distribute_by.is_empty(), &["DISTRIBUTE"]),
            (!sort_by.is_empty(), &["SORT"]),
            (having.is_some(), &["HAVING"]),
            (!named_window.is_empty(), &["WINDOW"]),
            (qualify.is_some(), &["QUALIFY"]),
            (value_table_mode.is_some(), &["AS"]),
            (flavor != SelectFlavor::Standard, &["FROM"]),
        ];
        self.refuse(&refused)?;
        let position = self.input.position(select_token.0.span);
        let distinct = distinct.map(|_| {
            let (_, span) = self.input.find(select_token.0.span, &["DISTINCT", "ALL"]);
            self.input.position(span)
        });
        let mut source_text = self.input.items(select_token.0.span).into_iter();
        let columns = projection
            .into_iter()
            .map(|item| self.item(item, source_text.next()))
            .collect::<Result<_, _>>()?;
        let from = self.from(from)?;
        let condition = selection.map(|condition| self.expression(condition)).transpose()?;

        Ok(Query { position, distinct, ctes, columns, from, condition })
    }

    fn item(
        &mut self,
        item: SqlItem,
        source_text: Option<SourceText>,
    ) -> Result<SelectItem, Diagnostic> {
        match item {
            SqlItem::UnnamedExpr(expression) => {
                let span = start(&expression);
                let expression = self.expression(expression)?;
                let kind = SelectItemKind::Expression { expression, alias: None, source_text };
                Ok(SelectItem { position: self.input.position(span), kind })
            }

            SqlItem::ExprWithAlias { expr, alias } => {
                let span = start(&expr);
                let expression = self.expression(expr)?;
                let alias = Some(self.name(alias)?);
                let kind = SelectItemKind::Expression { expression, alias, source_text };
                Ok(SelectItem { position: self.input.position(span), kind })
            }

            SqlItem::ExprWithAliases { expr, .. } => {
                let span = start(&expr);
                Err(self.error(span, "an expression can have one alias only"))
            }

            SqlItem::Wildcard(options) => {
                let position = self.wildcard(options)?;
                Ok(SelectItem { position, kind: SelectItemKind::All { table: None } })
            }

            SqlItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(ObjectName(parts)),
                options,
            ) => {
                self.wildcard(options)?;

                let parts: Vec<Ident> =
                    parts.into_iter().filter_map(|part| part.as_ident().cloned()).collect();
                let span = parts.first().map_or(self.start, |first| first.span);
                let Some(table) = self.qualifier(parts.into_iter().rev())? else {
                    return Err(self.error(span, "write `t.*` with the table's own name"));
                };

                let position = self.input.position(span);
                let table = Some(table);
                Ok(SelectItem { position, kind: SelectItemKind::All { table } })
            }

            SqlItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(expr), _) => {
                let span = start(&expr);
                Err(self.error(span, "`.*` must follow the name of a table"))
            }
        }
    }

    fn wildcard(
        &self,
        options: WildcardAdditionalOptions,
    ) -> Result<crate::file::diagnostic::Position, Diagnostic> {
        let WildcardAdditionalOptions {
            wildcard_token,
            opt_ilike,
            opt_exclude,
            opt_except,
            opt_replace,
            opt_rename,
            opt_alias,
        } = options;

        let plain = opt_ilike.is_none()
            && opt_exclude.is_none()
            && opt_except.is_none()
            && opt_replace.is_none()
            && opt_rename.is_none()
            && opt_alias.is_none();
        if plain {
            return Ok(self.input.position(wildcard_token.0.span));
        }
        Err(self.error(wildcard_token.0.span, "only a comma or `FROM` may follow `*`"))
    }

    /// Returns a name as PostgreSQL folds it: ASCII letters in lower case, unless quoted.
    pub(super) fn name(&self, ident: Ident) -> Result<String, Diagnostic> {
        let Ident { value, quote_style, span } = ident;
        match quote_style {
            None => Ok(value.to_ascii_lowercase()),
            Some('"') => Ok(value),
            Some(_) => Err(self
                .error(span, format!("`{value}` is not a name"))
                .hint("names are quoted by double quotes")),
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "others are refused, at the outer query's place"
)]
fn start_of_body(body: &SetExpr) -> Option<Span> {
    match body {
        SetExpr::Select(select) => Some(select.select_token.0.span),
        _ => None,
    }
}
