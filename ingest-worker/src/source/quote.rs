//! Quotes names and values for SQL.

/// Quotes an identifier.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a string literal. `standard_conforming_strings` must be on, as it is in our sessions:
/// then a backslash is an ordinary character.
pub(crate) fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_within_a_name_or_a_value_are_doubled() {
        assert_eq!(quote_identifier("lists"), "\"lists\"");
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\b\"c"), "'a\\b\"c'");
        assert_eq!(quote_literal(""), "''");
    }

    proptest! {
        /// A quoted text ends only at its end: within it, quotes come in pairs.
        #[test]
        fn a_quoted_text_cannot_be_left(text in "[a-c'\"\\\\; -]{0,12}") {
            for (quoted, quote) in [(quote_literal(&text), '\''), (quote_identifier(&text), '"')] {
                let inner = &quoted[1..quoted.len() - 1];
                let pair = format!("{quote}{quote}");
                prop_assert!(!inner.replace(&pair, "").contains(quote));
                prop_assert_eq!(inner.replace(&pair, &quote.to_string()), &*text);
            }
        }
    }
}
