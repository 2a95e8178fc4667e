//! Source text of the items of a SELECT. It names columns that have no alias.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::query_text::QueryText;
use super::syntax::SourceText;

/// Words after which a parenthesis encloses an expression or a list and is not that of a call.
const OPERATORS: [Keyword; 13] = [
    Keyword::AND,
    Keyword::OR,
    Keyword::NOT,
    Keyword::IN,
    Keyword::IS,
    Keyword::BETWEEN,
    Keyword::LIKE,
    Keyword::ILIKE,
    Keyword::ESCAPE,
    Keyword::CASE,
    Keyword::WHEN,
    Keyword::THEN,
    Keyword::ELSE,
];

impl QueryText<'_> {
    /// Returns the source text of the items after a SELECT, without enclosing parentheses that are
    /// not those of a call. PowerSync names columns in the same way: `(a + 1) * 2` is `a + 1) * 2`.
    pub(super) fn items(&self, select: Span) -> Vec<SourceText> {
        let mut tokens = self
            .tokens
            .iter()
            .filter(|token| token.span.start > select.start)
            .filter(|token| !matches!(token.token, Token::Whitespace(_)))
            .peekable();
        tokens.next_if(|token| matches!(keyword(token), Keyword::DISTINCT | Keyword::ALL));

        let mut items = vec![Vec::new()];
        let mut depth = 0;
        for token in tokens {
            let Some(item) = items.last_mut() else { break };
            if depth == 0 && is_end(item.last().copied(), token) {
                break;
            }
            if depth == 0 && token.token == Token::Comma {
                items.push(Vec::new());
                continue;
            }

            depth = depth_after(depth, token);
            item.push(token);
        }

        items.iter().filter_map(|item| self.source_text(item)).collect()
    }

    fn source_text(&self, item: &[&TokenWithSpan]) -> Option<SourceText> {
        let first = item.iter().find(|token| token.token != Token::LParen)?;
        let is_plain =
            |place: &usize| item[*place].token != Token::RParen || is_call(&item[..*place]);
        let last = item[(0..item.len()).rev().find(is_plain)?];
        Some(SourceText {
            position: self.position(first.span),
            text: self.text(first.span, last.span),
        })
    }
}

/// Returns whether the SELECT list ends here. The FROM of `IS DISTINCT FROM` does not end it.
fn is_end(previous: Option<&TokenWithSpan>, token: &TokenWithSpan) -> bool {
    let is_of_operator = previous.map(keyword) == Some(Keyword::DISTINCT);
    matches!(token.token, Token::RParen | Token::RBracket | Token::SemiColon | Token::EOF)
        || keyword(token) == Keyword::WHERE
        || (keyword(token) == Keyword::FROM && !is_of_operator)
}

fn depth_after(depth: usize, token: &TokenWithSpan) -> usize {
    if matches!(token.token, Token::LParen | Token::LBracket) {
        depth + 1
    } else if matches!(token.token, Token::RParen | Token::RBracket) {
        depth.saturating_sub(1)
    } else {
        depth
    }
}

/// Returns whether the parenthesis that closes after these tokens is that of a call.
fn is_call(before: &[&TokenWithSpan]) -> bool {
    let mut depth = 1;

    for (place, token) in before.iter().enumerate().rev() {
        if token.token == Token::RParen {
            depth += 1;
        } else if token.token == Token::LParen {
            depth -= 1;
        }

        if depth == 0 {
            let name = place.checked_sub(1).map(|place| before[place]);
            return name.is_some_and(|name| {
                matches!(name.token, Token::Word(_)) && !OPERATORS.contains(&keyword(name))
            });
        }
    }
    false
}

fn keyword(token: &TokenWithSpan) -> Keyword {
    if let Token::Word(word) = &token.token { word.keyword } else { Keyword::NoKeyword }
}
