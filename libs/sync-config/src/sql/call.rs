//! Function calls, including those with a syntax of their own.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    ObjectName, TrimWhereField,
};
use sqlparser::tokenizer::Span;

use super::convert::AstConverter;
use super::syntax::{Expression, ExpressionKind};
use crate::file::diagnostic::Diagnostic;
use crate::functions::refusal;

impl AstConverter<'_> {
    /// Converts `SUBSTRING(x FROM y FOR z)`, also with commas.
    pub(super) fn substring(
        &mut self,
        text: Box<Expr>,
        from: Option<Box<Expr>>,
        length: Option<Box<Expr>>,
    ) -> Result<ExpressionKind, Diagnostic> {
        let text = self.expression(*text)?;
        let start = Expression { position: text.position, kind: ExpressionKind::Integer(1) };

        let mut arguments = vec![text];
        match (from, &length) {
            (Some(from), _) => arguments.push(self.expression(*from)?),
            (None, Some(_)) => arguments.push(start),
            (None, None) => {}
        }

        if let Some(length) = length {
            arguments.push(self.expression(*length)?);
        }

        Ok(ExpressionKind::Call { namespace: None, name: "substring".to_owned(), arguments })
    }

    /// Converts `TRIM(x)`, `TRIM(x, y)`, `TRIM(LEADING y FROM x)` and similar forms.
    pub(super) fn trim(
        &mut self,
        text: Box<Expr>,
        side: Option<TrimWhereField>,
        what: Option<Box<Expr>>,
        characters: Option<Vec<Expr>>,
    ) -> Result<Expression, Diagnostic> {
        let (_, span) = self.input.find_before(self.start_of(&text), "TRIM");

        let name = match side {
            None | Some(TrimWhereField::Both) => "trim",
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
        };

        let arguments = std::iter::once(text)
            .chain(what)
            .chain(characters.into_iter().flatten().map(Box::new))
            .map(|argument| self.expression(*argument))
            .collect::<Result<Vec<Expression>, _>>()?;

        let kind = ExpressionKind::Call { namespace: None, name: name.to_owned(), arguments };
        Ok(Expression { position: self.input.position(span), kind })
    }

    pub(super) fn function(
        &mut self,
        function: Function,
        span: Span,
    ) -> Result<ExpressionKind, Diagnostic> {
        let Function {
            name: ObjectName(parts),
            uses_odbc_syntax,
            parameters,
            args,
            within_group,
            filter,
            null_treatment,
            over,
        } = function;

        let mut names = Vec::new();
        for part in &parts {
            let Some(ident) = part.as_ident() else {
                return Err(self.error(span, "this function is not supported"));
            };
            names.push(self.name(ident.clone())?);
        }

        let full_name = names.join(".");
        let plain = !uses_odbc_syntax
            && parameters == FunctionArguments::None
            && within_group.is_empty()
            && filter.is_none()
            && null_treatment.is_none()
            && over.is_none();
        let count = if let FunctionArguments::List(list) = &args { list.args.len() } else { 0 };

        if let [name] = names.as_slice()
            && let Some((what, hint)) = refusal(name, count)
        {
            return Err(self.error(span, format!("`{name}` {what}")).hint(hint));
        }

        if args == FunctionArguments::None {
            return Err(self.error(span, format!("unknown function `{full_name}`")));
        }

        let FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses,
        }) = args
        else {
            return Err(self.only_plain_arguments(&full_name, span));
        };

        let mut names = names.into_iter().rev();
        let (Some(name), namespace, None) = (names.next(), names.next(), names.next()) else {
            return Err(self.only_plain_arguments(&full_name, span));
        };
        if !plain || !clauses.is_empty() {
            return Err(self.only_plain_arguments(&full_name, span));
        }

        let mut arguments = Vec::new();
        for argument in args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else {
                let message = format!("the arguments of `{full_name}` must be expressions");
                return Err(self.error(span, message));
            };
            arguments.push(self.expression(expr)?);
        }

        Ok(ExpressionKind::Call { namespace, name, arguments })
    }

    fn only_plain_arguments(&self, function: &str, span: Span) -> Diagnostic {
        self.error(span, format!("`{function}` supports plain arguments only"))
    }
}
