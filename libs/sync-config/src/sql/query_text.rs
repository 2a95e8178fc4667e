//! The text of a query as tokens with positions.

use sqlparser::parser::ParserError;
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan};

use crate::file::diagnostic::{Diagnostic, Position};
use crate::file::options::shorten;
use crate::file::source_map::SourceMap;

/// Maximum number of tokens of a query, without literals and commas. Chains of operators nest as
/// deeply as they are long, and dropping a tree recurses.
const TOKENS_MAX: usize = 4_000;

/// Text of a query, with its tokens.
pub(super) struct QueryText<'a> {
    pub(super) map: &'a SourceMap<'a>,
    pub(super) text: &'a str,
    /// Byte offset of each character.
    pub(super) offsets: &'a [usize],
    pub(super) tokens: &'a [TokenWithSpan],
}

impl QueryText<'_> {
    /// Returns the position of a span in the file, or of the query if the span is empty.
    pub(super) fn position(&self, span: Span) -> Position {
        if span.start.line == 0 { self.map.position(0) } else { position_of(self.map, span.start) }
    }

    /// Returns the text from one token to another.
    pub(super) fn text(&self, first: Span, last: Span) -> String {
        let range = self.byte_offset(first.start)..self.byte_offset(last.end);
        self.text.get(range).unwrap_or_default().to_owned()
    }

    fn byte_offset(&self, location: Location) -> usize {
        let (line, column) = line_and_column(location);
        self.offsets.get(self.map.index_at(line, column)).copied().unwrap_or(self.text.len())
    }

    pub(super) fn start(&self) -> Position {
        let first = self.tokens.iter().find(|token| !matches!(token.token, Token::Whitespace(_)));
        first.map_or_else(|| self.map.position(0), |token| self.position(token.span))
    }

    /// Returns the position after the last character that is not whitespace.
    fn end(&self) -> Position {
        let mut tokens = self.tokens.iter().rev();
        let last = tokens.find(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF));
        last.map_or_else(|| self.map.position(0), |token| position_of(self.map, token.span.end))
    }

    /// Returns the first of these words or operators at or after a span, with its span. If there is
    /// none, returns the first word and `from`.
    pub(super) fn find<'w>(&self, from: Span, words: &[&'w str]) -> (&'w str, Span) {
        let at_or_after = self.tokens.iter().filter(|token| token.span.start >= from.start);
        for token in at_or_after {
            let text = token.token.to_string();
            if let Some(word) = words.iter().find(|word| text.eq_ignore_ascii_case(word)) {
                return (word, token.span);
            }
        }
        (words.first().copied().unwrap_or_default(), from)
    }

    /// Returns the last occurrence of a word before a span, with its span. If there is none,
    /// returns `before`.
    pub(super) fn find_before<'w>(&self, before: Span, word: &'w str) -> (&'w str, Span) {
        let mut earlier = self.tokens.iter().rev().filter(|token| token.span.start < before.start);
        let found = earlier.find(|token| token.token.to_string().eq_ignore_ascii_case(word));
        (word, found.map_or(before, |token| token.span))
    }

    /// Returns whether the token before a span is an opening parenthesis.
    pub(super) fn is_parenthesized(&self, span: Span) -> bool {
        let before = self.tokens.iter().rev().find(|token| {
            token.span.start < span.start && !matches!(token.token, Token::Whitespace(_))
        });
        before.is_some_and(|token| token.token == Token::LParen)
    }

    pub(super) fn check_tokens(&self) -> Result<(), Diagnostic> {
        let mut counted = self.tokens.iter().filter(|token| {
            !matches!(
                token.token,
                Token::Whitespace(_)
                    | Token::Comma
                    | Token::Number(..)
                    | Token::SingleQuotedString(_)
            )
        });

        match counted.nth(TOKENS_MAX) {
            Some(token) => {
                Err(Diagnostic::error(self.position(token.span), "the query is too long"))
            }
            None => Ok(()),
        }
    }

    /// Converts an error of the parser, whose position is in the message only.
    pub(super) fn parser_error(&self, error: &ParserError) -> Diagnostic {
        let message = match error {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
            ParserError::RecursionLimitExceeded => {
                return Diagnostic::error(self.start(), "the query is nested too deeply");
            }
        };
        let (text, place) = message.rsplit_once(" at Line: ").unwrap_or((message, ""));
        let position = place.split_once(", Column: ").and_then(|(line, column)| {
            Some(self.map.position_at(line.parse().ok()?, column.parse().ok()?))
        });
        // At the end of the text the message has no position.
        let position = position.unwrap_or_else(|| self.end());
        if text.starts_with("No infix parser for token") {
            return Diagnostic::error(position, "this operator is not supported")
                .hint("the documentation of the sync config lists the operators");
        }

        let text = shorten(text);
        let rest = text.strip_prefix("Expected: ").map(|rest| format!("expected {rest}"));
        let text = rest.unwrap_or(text);
        Diagnostic::error(position, format!("not SQL: {text}"))
            .hint("is a word, comma or parenthesis missing before it, or one too many?")
    }
}

/// Returns the position in the file of a location in the text.
pub(super) fn position_of(map: &SourceMap<'_>, location: Location) -> Position {
    let (line, column) = line_and_column(location);
    map.position_at(line, column)
}

fn line_and_column(Location { line, column }: Location) -> (usize, usize) {
    (usize::try_from(line).unwrap_or(usize::MAX), usize::try_from(column).unwrap_or(usize::MAX))
}
