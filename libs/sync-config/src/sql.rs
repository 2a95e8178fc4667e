//! Parses SQL text into the tree of [`syntax`].
//!
//! `sqlparser` accepts more SQL than our language has. This module rejects the rest.

mod call;
mod convert;
mod dialect;
mod expression;
mod from;
mod hints;
mod operators;
mod parsed;
mod query_text;
mod select_items;
pub(crate) mod syntax;

use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::file::diagnostic::Diagnostic;
use crate::file::source_map::SourceMap;
use convert::AstConverter;
use dialect::{OVERLAP, SyncConfigDialect};
use query_text::{QueryText, position_of};
use syntax::Query;

/// Maximum length of a query in characters. It bounds the time of the parser.
const QUERY_CHARS_MAX: usize = 64 * 1024;
/// Maximum nesting of parentheses, queries and operators in the parser, which recurses.
const PARSER_DEPTH_MAX: usize = 48;

/// Parses one query.
pub(crate) fn parse(map: &SourceMap<'_>, text: &str) -> Result<Query, Diagnostic> {
    let start = map.position(0);
    if text.chars().count() > QUERY_CHARS_MAX {
        let message = format!("the query is longer than {QUERY_CHARS_MAX} characters");
        return Err(Diagnostic::error(start, message));
    }

    let mut tokens =
        Tokenizer::new(&SyncConfigDialect, text).tokenize_with_location().map_err(|error| {
            Diagnostic::error(position_of(map, error.location), error.message)
                .hint("close a text with a single quote, and a name with a double quote")
        })?;

    // For dialects other than its own PostgreSQL one, the parser does not support `&&` and `E'..'`.
    // It does support custom operators and plain texts.
    for token in &mut tokens {
        if token.token == Token::Overlap {
            token.token = Token::CustomBinaryOperator(OVERLAP.to_owned());
        } else if let Token::EscapedStringLiteral(text) = &mut token.token {
            token.token = Token::SingleQuotedString(std::mem::take(text));
        }
    }
    let offsets: Vec<usize> = text.char_indices().map(|(offset, _)| offset).collect();
    let input = QueryText { map, text, offsets: &offsets, tokens: &tokens };
    input.check_tokens()?;
    let mut parser = Parser::new(&SyncConfigDialect)
        .with_recursion_limit(PARSER_DEPTH_MAX)
        .with_tokens_with_locations(tokens.clone());
    let query = parser.parse_query().map_err(|error| input.parser_error(&error))?;
    while parser.consume_token(&Token::SemiColon) {}
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        let word = rest.token.to_string();
        let message = format!("unexpected `{word}` after the query");
        let hint = match word.to_ascii_uppercase().as_str() {
            "SELECT" => "write one query per item of the list `queries`",
            "ISNULL" => "write `IS NULL`",
            _ => "the query is complete before it: is a word missing or misspelt?",
        };
        return Err(Diagnostic::error(input.position(rest.span), message).hint(hint));
    }

    AstConverter::new(&input).query(*query)
}
