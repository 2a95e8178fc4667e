//! The dialect of the sync config: PostgreSQL's lexical rules, its own operator precedence, and `x
//! IN <array>`.

use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

/// Operator of two arrays: true if they share a value.
pub(super) const OVERLAP: &str = "&&";

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

/// Precedence of operators; a higher number binds tighter. PostgreSQL's dialect defines the others:
/// 30 is NOT, 60 BETWEEN and IN, 70 `&` and `|`, 80 `+`, 140 `::`.
const EQUAL: u8 = 50;
const IS: u8 = 52;
const ORDER: u8 = 55;
const SHIFT: u8 = 65;
const CONCAT: u8 = 80;
const MEMBER: u8 = 150;

/// Dialect of sync configs.
///
/// It is not PostgreSQL's dialect to the parser on purpose, which then rejects syntax that the
/// language does not have.
#[derive(Debug)]
pub(crate) struct SyncConfigDialect;

impl Dialect for SyncConfigDialect {
    fn is_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        POSTGRES.is_identifier_part(ch)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        POSTGRES.is_delimited_identifier_start(ch)
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRES.identifier_quote_style(identifier)
    }

    /// A keyword that does not begin an expression is the name of a column.
    fn is_reserved_for_identifier(&self, _keyword: Keyword) -> bool {
        false
    }

    /// `->` and `->>` bind tighter than other operators: `j ->> 'a' + 1` adds to the member.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a few of many tokens")]
    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        match parser.peek_token_ref().token {
            Token::Arrow | Token::LongArrow => Some(Ok(MEMBER)),
            Token::StringConcat => Some(Ok(CONCAT)),
            Token::ShiftLeft | Token::ShiftRight => Some(Ok(SHIFT)),
            Token::Eq | Token::DoubleEq | Token::Neq => Some(Ok(EQUAL)),
            Token::Lt | Token::Gt | Token::LtEq | Token::GtEq => Some(Ok(ORDER)),
            _ => POSTGRES.get_next_precedence(parser),
        }
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        if matches!(precedence, Precedence::Is) {
            return IS;
        }
        // The parser asks for the precedence of `=` to find the end of an array after IN.
        let is_array = matches!(precedence, Precedence::Eq);
        POSTGRES.prec_value(if is_array { Precedence::Between } else { precedence })
    }

    /// Supports `SELECT FROM t`, which selects rows without columns.
    fn supports_empty_projections(&self) -> bool {
        true
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn supports_notnull_operator(&self) -> bool {
        true
    }

    fn supports_comma_separated_trim(&self) -> bool {
        true
    }

    fn supports_in_unparenthesized_expr(&self) -> bool {
        true
    }

    /// Supports `E'it\'s'`.
    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    fn supports_string_literal_column_alias(&self, _explicit: bool) -> bool {
        false
    }

    fn supports_string_literal_table_alias(&self, _explicit: bool) -> bool {
        false
    }
}
