//! `FROM` and `WITH`.

use sqlparser::ast::{
    Cte as SqlCte, FunctionArg, FunctionArgExpr, Join as SqlJoin, JoinConstraint, JoinOperator,
    ObjectName, TableAlias, TableFactor, TableFunctionArgs, TableWithJoins, With,
};
use sqlparser::tokenizer::Span;

use super::convert::AstConverter;
use super::syntax::{Cte, Expression, FromItem, FromSource, Join};
use crate::file::diagnostic::{Diagnostic, Position};

/// Words that begin or qualify a join, to find the position of an error.
const JOIN_WORDS: [&str; 12] = [
    "RIGHT",
    "FULL",
    "NATURAL",
    "SEMI",
    "ANTI",
    "ASOF",
    "GLOBAL",
    "STRAIGHT_JOIN",
    "CROSS",
    "OUTER",
    "ARRAY",
    "JOIN",
];

impl AstConverter<'_> {
    pub(super) fn ctes(&mut self, with: With) -> Result<Vec<Cte>, Diagnostic> {
        let With { with_token, recursive, cte_tables } = with;
        if recursive {
            return Err(self
                .error(with_token.0.span, "`WITH RECURSIVE` is not supported")
                .hint("write one query per level"));
        }

        let mut ctes = Vec::with_capacity(cte_tables.len());
        for cte in cte_tables {
            let SqlCte { alias, query, from, materialized, closing_paren_token: _ } = cte;
            let span = alias.name.span;
            if from.is_some() || materialized.is_some() {
                let message = "only `name AS (SELECT ...)` is supported in `WITH`";
                return Err(self.error(span, message));
            }
            let name = self.alias(alias)?;
            let position = self.input.position(span);
            ctes.push(Cte { position, name, query: self.query(*query)? });
        }

        Ok(ctes)
    }

    pub(super) fn from(&mut self, from: Vec<TableWithJoins>) -> Result<Vec<FromItem>, Diagnostic> {
        let mut items = Vec::new();
        for table in from {
            self.joined(table, &mut items)?;
        }
        Ok(items)
    }

    /// Converts joins. They are read from left to right, so parentheses around the first ones have
    /// no effect.
    fn joined(
        &mut self,
        TableWithJoins { relation, joins }: TableWithJoins,
        items: &mut Vec<FromItem>,
    ) -> Result<(), Diagnostic> {
        if let TableFactor::NestedJoin { table_with_joins, alias: None } = relation {
            self.joined(*table_with_joins, items)?;
        } else {
            items.push(self.item_of_from(relation, Join::Inner(None))?);
        }

        for join in joins {
            let SqlJoin { relation, global, join_operator } = join;
            if global {
                return Err(self.unsupported(&["GLOBAL"]));
            }

            let join = self.join(join_operator)?;
            items.push(self.item_of_from(relation, join)?);
        }

        Ok(())
    }

    fn join(&mut self, operator: JoinOperator) -> Result<Join, Diagnostic> {
        match operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::CrossJoin(constraint) => self.on(constraint).map(Join::Inner),

            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                match self.on(constraint)? {
                    Some(condition) => Ok(Join::Left(condition)),
                    None => Err(self
                        .unsupported(&["LEFT"])
                        .hint("write the join's condition: `LEFT JOIN t ON ...`")),
                }
            }

            JoinOperator::Right(_)
            | JoinOperator::RightOuter(_)
            | JoinOperator::FullOuter(_)
            | JoinOperator::Semi(_)
            | JoinOperator::LeftSemi(_)
            | JoinOperator::RightSemi(_)
            | JoinOperator::Anti(_)
            | JoinOperator::LeftAnti(_)
            | JoinOperator::RightAnti(_)
            | JoinOperator::CrossApply
            | JoinOperator::OuterApply
            | JoinOperator::AsOf { .. }
            | JoinOperator::StraightJoin(_)
            | JoinOperator::ArrayJoin
            | JoinOperator::LeftArrayJoin
            | JoinOperator::InnerArrayJoin => Err(self
                .unsupported(&JOIN_WORDS)
                .hint("write `JOIN ... ON`, or a condition with `IN (SELECT ...)`")),
        }
    }

    fn on(&mut self, constraint: JoinConstraint) -> Result<Option<Expression>, Diagnostic> {
        let words: &[&str] = match constraint {
            JoinConstraint::On(condition) => return self.expression(condition).map(Some),
            JoinConstraint::None => return Ok(None),
            JoinConstraint::Using(_) | JoinConstraint::UsingAlias(..) => &["USING"],
            JoinConstraint::Natural => &["NATURAL"],
        };
        Err(self.unsupported(words).hint("write `ON a.x = b.x`"))
    }

    fn item_of_from(&mut self, relation: TableFactor, join: Join) -> Result<FromItem, Diagnostic> {
        let refused = match relation {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_directives,
                inheritance,
            } => {
                let is_plain = with_hints.is_empty()
                    && version.is_none()
                    && !with_ordinality
                    && partitions.is_empty()
                    && json_path.is_none()
                    && sample.is_none()
                    && index_directives.is_empty()
                    && inheritance.is_none();
                let (position, source) = self.table(name, args, is_plain)?;
                let is_quoted =
                    alias.as_ref().is_some_and(|alias| alias.name.quote_style.is_some());
                let alias = alias.map(|alias| self.alias(alias)).transpose()?;
                let column_names = Vec::new();
                return Ok(FromItem { position, source, alias, column_names, is_quoted, join });
            }
            TableFactor::Derived { lateral: false, subquery, alias, sample: None } => {
                let Some(alias) = alias else {
                    return Err(self
                        .error(
                            self.start_of_query(&subquery),
                            "the subquery in `FROM` has no alias",
                        )
                        .hint("add one: `(SELECT ...) AS name`"));
                };
                let (position, alias, column_names) = self.alias_with_columns(alias)?;
                let source = FromSource::Query(Box::new(self.query(*subquery)?));
                let alias = Some(alias);
                let is_quoted = true;
                return Ok(FromItem { position, source, alias, column_names, is_quoted, join });
            }
            TableFactor::NestedJoin { .. } => {
                "a join in parentheses is supported at the start of `FROM` only"
            }
            TableFactor::Derived { .. }
            | TableFactor::TableFunction { .. }
            | TableFactor::Function { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::OpenJsonTable { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. }
            | TableFactor::UnpivotExpr { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::XmlTable { .. }
            | TableFactor::SemanticView { .. } => {
                "`FROM` must name tables, queries or `json_each(...)`"
            }
        };

        let (_, span) = self.input.find(self.start, &["FROM"]);
        Err(self
            .error(span, refused)
            .hint("write `FROM a JOIN b ON ...`, or a condition with `IN (SELECT ...)`"))
    }

    fn table(
        &mut self,
        ObjectName(parts): ObjectName,
        arguments: Option<TableFunctionArgs>,
        is_plain: bool,
    ) -> Result<(Position, FromSource), Diagnostic> {
        let mut names = Vec::new();
        let mut span = None;
        for part in parts {
            let Some(ident) = part.as_ident() else {
                return Err(self.error(self.start, "`FROM` must name a table"));
            };
            span.get_or_insert(ident.span);
            names.push(self.name(ident.clone())?);
        }

        let span = span.unwrap_or(self.start);
        if !is_plain {
            return Err(self
                .error(span, "only a name and an alias are supported for a table")
                .hint("write `table AS name`"));
        }

        let mut names = names.into_iter().rev();
        let (Some(name), schema, None) = (names.next(), names.next(), names.next()) else {
            return Err(self.error(span, "a table is named `table` or `schema.table`"));
        };
        let position = self.input.position(span);
        let source = if let Some(arguments) = arguments {
            self.table_function(schema, name, arguments, span)?
        } else {
            FromSource::Table { schema, name }
        };

        Ok((position, source))
    }

    fn table_function(
        &mut self,
        schema: Option<String>,
        name: String,
        arguments: TableFunctionArgs,
        span: Span,
    ) -> Result<FromSource, Diagnostic> {
        let TableFunctionArgs { args, settings } = arguments;
        if schema.is_some() || settings.is_some() || name != "json_each" {
            let message = format!("the function `{name}` is not supported in `FROM`");
            return Err(self.error(span, message).hint("use `json_each(array)`"));
        }

        let mut list = Vec::new();
        for argument in args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else {
                let message = format!("the arguments of `{name}` must be expressions");
                return Err(self.error(span, message));
            };
            list.push(self.expression(argument)?);
        }

        if list.len() != 1 {
            return Err(self.error(span, format!("`{name}` takes 1 argument, not {}", list.len())));
        }

        Ok(FromSource::Function { name, arguments: list })
    }

    /// Converts `name(column, ...)`.
    fn alias_with_columns(
        &self,
        alias: TableAlias,
    ) -> Result<(Position, String, Vec<String>), Diagnostic> {
        let TableAlias { explicit: _, name, columns, at } = alias;
        let span = name.span;
        if at.is_some() || columns.iter().any(|column| column.data_type.is_some()) {
            return Err(self.error(span, "only names are supported in an alias of a query"));
        }
        let name = self.name(name)?;
        let columns: Vec<String> =
            columns.into_iter().map(|column| self.name(column.name)).collect::<Result<_, _>>()?;
        Ok((self.input.position(span), name, columns))
    }

    fn alias(&self, alias: TableAlias) -> Result<String, Diagnostic> {
        let TableAlias { explicit: _, name, columns, at } = alias;
        if columns.is_empty() && at.is_none() {
            return self.name(name);
        }
        Err(self.error(name.span, "an alias of a table cannot name columns"))
    }
}
