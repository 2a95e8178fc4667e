//! PostgreSQL's lexical rules, with precedences of the language's own, and `x IN <array>`.

use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

/// The operator of arrays that share a value.
pub(super) const OVERLAP: &str = "&&";

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

/// How firmly operators hold, among the numbers that PostgreSQL's dialect has for the others: 30 is NOT,
/// 60 BETWEEN and IN, 70 `&` and `|`, 80 `+`, 140 `::`.
const EQUAL: u8 = 50;
const IS: u8 = 52;
const ORDER: u8 = 55;
const SHIFT: u8 = 65;
const CONCAT: u8 = 80;
const MEMBER: u8 = 150;

/// The dialect of sync configs.
///
/// Deliberately not taken for PostgreSQL's by the parser: what is left out here is syntax that
/// the language does not have.
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

    /// What cannot be read as an expression that begins with the keyword is a column.
    fn is_reserved_for_identifier(&self, _keyword: Keyword) -> bool {
        false
    }

    /// A member of JSON is taken before anything is done with it: `j ->> 'a' + 1` adds to the member.
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
        // The parser asks where an array after IN ends by that of `=`.
        let is_array = matches!(precedence, Precedence::Eq);
        POSTGRES.prec_value(if is_array { Precedence::Between } else { precedence })
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

    /// `E'it\'s'`
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
