//! WHERE: which terms filter rows, which filter requests, which tie a row to a request.

use super::branch::{BRANCHES_MAX, Branch, Source, Term, Tree, disjunction};
use super::scope::{Leaf, Scope, ScopeKind, request_expression, row_expression};
use super::{Compiler, Sources, all_of};
use crate::diagnostic::{Diagnostic, Position};
use crate::expression::{Comparison, Expression};
use crate::plan::{LookupPlan, LookupUse, RequestExpression, RequestKey, RowExpression, RowKey};
use crate::syntax::{self, ExpressionKind, Query, SelectItemKind};

impl Compiler<'_> {
    /// The branches of a condition; without one there is one branch, which always holds.
    pub(super) fn branches(
        &mut self,
        scope: &Scope,
        query: &Query,
    ) -> Result<Vec<Branch>, Diagnostic> {
        let Some(condition) = &query.condition else { return Ok(vec![Branch::default()]) };
        let tree = self.tree(scope, condition, false)?;
        let branches = disjunction(&tree).ok_or_else(|| {
            let message = format!("the condition has more than {BRANCHES_MAX} alternatives");
            Diagnostic::error(condition.position, message)
                .hint("each way of OR with values of the request is a family of buckets: use fewer")
        })?;
        Ok(branches.into_iter().map(Branch::new).collect())
    }

    fn tree(
        &mut self,
        scope: &Scope,
        condition: &syntax::Expression,
        negated: bool,
    ) -> Result<Tree, Diagnostic> {
        if !contains_query(condition) {
            let lowered = self.lower(scope, condition)?;
            if let Some(term) = pure(scope, &lowered, negated) {
                return Ok(Tree::Term(term));
            }
        }
        let position = condition.position;
        match &condition.kind {
            ExpressionKind::And(list) | ExpressionKind::Or(list) => {
                let trees = list
                    .iter()
                    .map(|operand| self.tree(scope, operand, negated))
                    .collect::<Result<_, _>>()?;
                let is_and = matches!(condition.kind, ExpressionKind::And(_));
                Ok(if is_and == negated { Tree::Or(trees) } else { Tree::And(trees) })
            }
            ExpressionKind::Not(inner) => self.tree(scope, inner, !negated),
            ExpressionKind::Compare { comparison: Comparison::Equal, left, right } if !negated => {
                let (left, right) = (self.lower(scope, left)?, self.lower(scope, right)?);
                equality(&left, &right, position).map(Tree::Term)
            }
            ExpressionKind::InArray { value, array, negated: false } if !negated => {
                let (value, array) = (self.lower(scope, value)?, self.lower(scope, array)?);
                in_array(&value, &array, position).map(Tree::Term)
            }
            ExpressionKind::InList { value, list, negated: false } if !negated => {
                let value = self.lower(scope, value)?;
                let mut terms = Vec::new();
                for item in list {
                    let item = self.lower(scope, item)?;
                    terms.push(Tree::Term(equality(&value, &item, position)?));
                }
                Ok(Tree::Or(terms))
            }
            ExpressionKind::InQuery { value, query, negated: false } if !negated => {
                let value = self.lower(scope, value)?;
                self.in_query(scope, &value, query, position)
            }
            ExpressionKind::Null
            | ExpressionKind::Integer(_)
            | ExpressionKind::Real(_)
            | ExpressionKind::Text(_)
            | ExpressionKind::Boolean(_)
            | ExpressionKind::Name { .. }
            | ExpressionKind::Call { .. }
            | ExpressionKind::Compare { .. }
            | ExpressionKind::Arithmetic { .. }
            | ExpressionKind::Concat { .. }
            | ExpressionKind::Json { .. }
            | ExpressionKind::IsNull { .. }
            | ExpressionKind::Is { .. }
            | ExpressionKind::Between { .. }
            | ExpressionKind::Like { .. }
            | ExpressionKind::Case { .. }
            | ExpressionKind::Signed { .. }
            | ExpressionKind::Array(_)
            | ExpressionKind::Overlap { .. }
            | ExpressionKind::Cast { .. }
            | ExpressionKind::InList { .. }
            | ExpressionKind::InArray { .. }
            | ExpressionKind::InQuery { .. } => match scope.kind {
                ScopeKind::DataQuery { .. } => Err(bucket_alone(position)),
                ScopeKind::Stream
                | ScopeKind::StreamSubquery { .. }
                | ScopeKind::ParameterQuery => Err(mixed(condition, negated)),
            },
        }
    }

    /// `x IN (SELECT y FROM t WHERE ...)`: an alternative for each branch of the inner condition.
    fn in_query(
        &mut self,
        outer: &Scope,
        value: &Expression<Leaf>,
        query: &Query,
        position: Position,
    ) -> Result<Tree, Diagnostic> {
        let ScopeKind::Stream = outer.kind else {
            let message = "`IN (SELECT ...)` is not supported here";
            return Err(Diagnostic::error(query.position, message)
                .hint("one level of it can be written in the queries of streams"));
        };
        let Some(from) = &query.from else {
            return Err(Diagnostic::error(query.position, "the inner query has no table"));
        };
        let table = self.table(from);
        let outer = outer.table.as_ref().map(|(_, name)| name.clone()).unwrap_or_default();
        let visible = from.visible_name().to_owned();
        let outer = if outer == visible { String::new() } else { outer };
        let scope =
            Scope { kind: ScopeKind::StreamSubquery { outer }, table: Some((table, visible)) };
        let output = self.subquery_output(&scope, query)?;
        let side = Side::of(value, position)?;
        let mut alternatives = Vec::new();
        for branch in self.branches(&scope, query)? {
            alternatives.push(self.membership((table, &output), &side, branch, position)?);
        }
        Ok(Tree::Or(alternatives))
    }

    fn subquery_output(
        &mut self,
        scope: &Scope,
        query: &Query,
    ) -> Result<RowExpression, Diagnostic> {
        let [item] = query.columns.as_slice() else {
            let message = "the inner query must select one column";
            return Err(Diagnostic::error(query.position, message));
        };
        let SelectItemKind::Expression { expression, alias: _ } = &item.kind else {
            let message = "the inner query must select one column, not `*`";
            return Err(Diagnostic::error(item.position, message));
        };
        let lowered = self.lower(scope, expression)?;
        row_expression(&lowered).filter(|_| Sources::of(&lowered).row).ok_or_else(|| {
            Diagnostic::error(item.position, "the inner query must select a column of its table")
        })
    }

    /// That the value is among the outputs of a lookup, whose key are the inner query's equalities.
    fn membership(
        &mut self,
        (table, output): (usize, &RowExpression),
        side: &Side,
        branch: Branch,
        position: Position,
    ) -> Result<Tree, Diagnostic> {
        let Branch { filter, requests, exists: _, keys } = branch;
        let mut rows = Vec::new();
        let mut asks = Vec::new();
        for (row, sources) in keys {
            for source in sources {
                let Source::Request(key) = source else {
                    let message = "the inner query can be compared with the request only";
                    return Err(Diagnostic::error(position, message));
                };
                rows.push(row.clone());
                asks.push(key);
            }
        }
        let mut terms: Vec<Tree> =
            requests.into_iter().map(|request| Tree::Term(Term::Request(request))).collect();
        let filter = all_of(filter);
        terms.push(Tree::Term(match side {
            Side::Row(row) => {
                let outputs = vec![output.clone()];
                let lookup = self.lookup(LookupPlan { table, filter, keys: rows, outputs });
                let source = Source::Lookup(LookupUse { lookup, key: asks });
                Term::Key { row: RowKey::Value(row.clone()), source }
            }
            Side::Request(request) => {
                rows.push(RowKey::Value(output.clone()));
                asks.push(RequestKey::Value(request.clone()));
                let plan = LookupPlan { table, filter, keys: rows, outputs: Vec::new() };
                Term::Exists(LookupUse { lookup: self.lookup(plan), key: asks })
            }
        }));
        Ok(Tree::And(terms))
    }
}

/// An expression that depends on one side only.
enum Side {
    Row(RowExpression),
    Request(RequestExpression),
}

impl Side {
    fn of(value: &Expression<Leaf>, position: Position) -> Result<Self, Diagnostic> {
        let sources = Sources::of(value);
        let side = if sources.row {
            row_expression(value).map(Self::Row)
        } else {
            request_expression(value).map(Self::Request)
        };
        side.ok_or_else(|| both_sides(position))
    }
}

/// A term that needs no key; `None` when the expression depends on both sides.
fn pure(scope: &Scope, lowered: &Expression<Leaf>, negated: bool) -> Option<Term> {
    let sources = Sources::of(lowered);
    if sources.bucket {
        return None;
    }
    // What depends on nothing filters rows, or requests where there are none.
    if !sources.request && scope.table.is_some() {
        return row_expression(lowered).map(|row| Term::Filter(not_if(negated, row)));
    }
    request_expression(lowered).map(|request| Term::Request(not_if(negated, request)))
}

fn not_if<L>(negated: bool, expression: Expression<L>) -> Expression<L> {
    if negated { Expression::Not(Box::new(expression)) } else { expression }
}

fn bucket(expression: &Expression<Leaf>) -> Option<usize> {
    if let Expression::Leaf(Leaf::Bucket(index)) = expression { Some(*index) } else { None }
}

fn equality(
    left: &Expression<Leaf>,
    right: &Expression<Leaf>,
    position: Position,
) -> Result<Term, Diagnostic> {
    for (row, other) in [(left, right), (right, left)] {
        let Some(row) = row_expression(row).filter(|_| Sources::of(row).row) else { continue };
        let row = RowKey::Value(row);
        if let Some(index) = bucket(other) {
            return Ok(Term::Key { row, source: Source::Bucket(index) });
        }
        if let Some(request) = request_expression(other) {
            let source = Source::Request(RequestKey::Value(request));
            return Ok(Term::Key { row, source });
        }
    }
    if let (Some(left), Some(right)) = (row_expression(left), row_expression(right)) {
        return Ok(Term::Filter(equal(left, right)));
    }
    if let (Some(left), Some(right)) = (request_expression(left), request_expression(right)) {
        return Ok(Term::Request(equal(left, right)));
    }
    Err(not_comparable(&[left, right], position))
}

fn equal<L>(left: Expression<L>, right: Expression<L>) -> Expression<L> {
    Expression::Compare {
        comparison: Comparison::Equal,
        left: Box::new(left),
        right: Box::new(right),
    }
}

fn in_array(
    value: &Expression<Leaf>,
    array: &Expression<Leaf>,
    position: Position,
) -> Result<Term, Diagnostic> {
    let is_row = |expression| Sources::of(expression).row;
    if is_row(value)
        && let (Some(row), Some(request)) = (row_expression(value), request_expression(array))
    {
        let source = Source::Request(RequestKey::Each(request));
        return Ok(Term::Key { row: RowKey::Value(row), source });
    }
    if is_row(array)
        && let Some(row) = row_expression(array).map(RowKey::Each)
    {
        if let Some(index) = bucket(value) {
            return Ok(Term::Key { row, source: Source::Bucket(index) });
        }
        if let Some(request) = request_expression(value) {
            let source = Source::Request(RequestKey::Value(request));
            return Ok(Term::Key { row, source });
        }
    }
    Err(not_comparable(&[value, array], position))
}

fn not_comparable(sides: &[&Expression<Leaf>], position: Position) -> Diagnostic {
    if sides.iter().any(|side| Sources::of(side).bucket) {
        bucket_alone(position)
    } else {
        both_sides(position)
    }
}

fn bucket_alone(position: Position) -> Diagnostic {
    Diagnostic::error(
        position,
        "a parameter of the bucket can only be compared with the row as it is",
    )
    .hint("write `column = bucket.<name>` or `bucket.<name> IN <array of the row>`")
}

fn both_sides(position: Position) -> Diagnostic {
    Diagnostic::error(position, "one side of this mixes values of the row and of the request")
        .hint("compare a value of the row on one side with a value of the request on the other")
}

/// Why a term that depends on both sides is not supported.
fn mixed(condition: &syntax::Expression, negated: bool) -> Diagnostic {
    let inner_negated = matches!(
        condition.kind,
        ExpressionKind::InList { negated: true, .. }
            | ExpressionKind::InArray { negated: true, .. }
            | ExpressionKind::InQuery { negated: true, .. }
    );
    if contains_query(condition) && (negated || inner_negated) {
        let message = "`NOT` with `IN (SELECT ...)` is not supported";
        return Diagnostic::error(condition.position, message)
            .hint("a bucket can be found by what is there, not by what is not");
    }
    if contains_query(condition) {
        let message = "`IN (SELECT ...)` is not supported within this expression";
        return Diagnostic::error(condition.position, message)
            .hint("it must be a condition of its own, joined by AND or OR to others");
    }
    let message = "values of the row and of the request can be compared by `=` and `IN` only";
    let hint = if negated || inner_negated {
        "negation of such a comparison is not supported: buckets are found by equal values"
    } else {
        "write `column = <request value>` or `column IN <request array>`"
    };
    Diagnostic::error(condition.position, message).hint(hint)
}

fn contains_query(expression: &syntax::Expression) -> bool {
    let mut found = matches!(expression.kind, ExpressionKind::InQuery { .. });
    expression.for_each_child(&mut |child| found = found || contains_query(child));
    found
}
