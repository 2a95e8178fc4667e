//! Function calls.

use super::scope::Scope;
use super::{QueryCompiler, requires_edition_three};
use crate::compile::row_sources::QueryExpression;
use crate::expression::{Expression, Literal};
use crate::file::diagnostic::{Diagnostic, Position};
use crate::file::options::shorten;
use crate::file::suggestion::closest;
use crate::functions::{Function, Signature, is_modifier, is_now};
use crate::sql::syntax::{self, ExpressionKind};
use crate::value::PathSplit;

impl QueryCompiler<'_, '_> {
    pub(super) fn call(
        &mut self,
        scope: &Scope<'_>,
        name: &str,
        arguments: &[syntax::Expression],
        position: Position,
    ) -> Result<QueryExpression, Diagnostic> {
        let Some(signature) = Signature::find(name) else {
            return Err(self.unknown_function(scope, name, position));
        };
        if self.file.edition < signature.since {
            return Err(requires_edition_three(position, signature.name));
        }
        if let Some(expected) = signature.expected(arguments.len()) {
            let message = format!("`{name}` takes {expected}, not {}", arguments.len());
            return Err(Diagnostic::error(position, message));
        }

        let function = signature.function;
        if let (Function::UnixEpoch | Function::DateTime, [time, modifiers @ ..]) =
            (function, arguments)
        {
            check_time(name, time, modifiers)?;
        }
        let lowered = self.lower_all(scope, arguments)?;
        if let (Function::JsonExtract | Function::JsonArrayLength, Some(path)) =
            (function, lowered.get(1))
        {
            check_whole(path, arguments[1].position)?;
            self.check_path(path, arguments[1].position)?;
        }
        if function == Function::JsonExtract
            && self.file.path_split == PathSplit::Always
            && let [value, path @ Expression::Literal(Literal::Text(_))] = lowered.as_slice()
        {
            // With this option, `json_extract` and `->>` split paths alike.
            let value = Box::new(value.clone());
            let path = Box::new(path.clone());
            return Ok(Expression::Json {
                value,
                path,
                as_value: true,
                split: self.file.path_split,
            });
        }

        Ok(Expression::Call { function, arguments: lowered })
    }

    fn unknown_function(&self, scope: &Scope<'_>, name: &str, position: Position) -> Diagnostic {
        let error = Diagnostic::error(position, format!("unknown function `{name}`"));
        if let Some(call) = scope.request_call("", name) {
            return error.hint(format!("did you mean `{call}`?"));
        }
        match closest(name, Signature::names(self.file.edition)) {
            Some(known) => error.hint(format!("did you mean `{known}`?")),
            None => {
                let names: Vec<&str> = Signature::names(self.file.edition).collect();
                error.hint(format!("the functions are: {}", names.join(", ")))
            }
        }
    }
}

/// Rejects a constant path without `$`. It would fail for each row.
fn check_whole(path: &QueryExpression, position: Position) -> Result<(), Diagnostic> {
    let Expression::Literal(Literal::Text(text)) = path else { return Ok(()) };
    if text.starts_with('$') {
        return Ok(());
    }
    let message = format!("the path `{}` does not begin with `$`", shorten(text));
    Err(Diagnostic::error(position, message).hint(format!("write `$.{}`", shorten(text))))
}

/// Rejects arguments for which the function would return NULL without a message.
fn check_time(
    name: &str,
    time: &syntax::Expression,
    modifiers: &[syntax::Expression],
) -> Result<(), Diagnostic> {
    if let ExpressionKind::Text(text) = &time.kind
        && is_now(text)
    {
        let message = "`now` is not supported: its value changes with each call";
        return Err(Diagnostic::error(time.position, message)
            .hint("what is synced may depend on the row and the request only"));
    }
    let mut before: Option<&str> = None;
    for modifier in modifiers {
        let text = if let ExpressionKind::Text(text) = &modifier.kind { Some(text) } else { None };
        let Some(text) = text.filter(|text| is_modifier(before, text)) else {
            let message = match text {
                Some(text) => format!("the modifier `{}` is not supported here", shorten(text)),
                None => "a modifier must be a text in quotes".to_owned(),
            };
            return Err(Diagnostic::error(modifier.position, message).hint(format!(
                "write `{name}(x)`, or `{name}(x, 'unixepoch')` for seconds since 1970; \
                 'subsec' may follow"
            )));
        };
        before = Some(text);
    }

    Ok(())
}
