//! PostgreSQL's lexical rules and precedences, with `x IN <array>` besides.

use sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

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

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        POSTGRES.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
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
