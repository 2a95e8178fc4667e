//! Quoting of texts and names in SQL.

/// A text in quotes.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name, in quotes where it needs them.
pub(crate) fn identifier(name: &str) -> String {
    let is_plain = |(place, c): (usize, char)| {
        c == '_' || c.is_ascii_alphabetic() || (place > 0 && c.is_ascii_digit())
    };
    if !name.is_empty() && name.chars().enumerate().all(is_plain) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}
