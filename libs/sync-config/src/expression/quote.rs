//! Quoting of literals and identifiers in SQL.

/// Returns an SQL string literal.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns an SQL identifier, quoted if needed.
pub(crate) fn identifier(name: &str) -> String {
    let is_plain = name.starts_with(|first: char| first == '_' || first.is_ascii_alphabetic())
        && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
