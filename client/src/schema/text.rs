//! A lexer for schemas: just enough of SQLite's rules to split the text and keep positions.

/// A token with its start in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) start: usize,
}

impl<'a> Token<'a> {
    pub(super) fn end(self) -> usize {
        self.start + self.text.len()
    }

    pub(super) fn is(self, keyword: &str) -> bool {
        self.text.eq_ignore_ascii_case(keyword)
    }

    /// Returns the name without its quotes.
    pub(super) fn name(self) -> String {
        for quote in ['"', '`', '\''] {
            if let Some(name) = without_quotes(self.text, quote, quote) {
                return name.replace(&format!("{quote}{quote}"), &quote.to_string());
            }
        }
        without_quotes(self.text, '[', ']').unwrap_or(self.text).to_owned()
    }

    /// Returns whether it can be a name: a word or a quoted identifier.
    pub(super) fn is_name(self) -> bool {
        self.text
            .starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '"' | '`' | '[' | '\''))
    }

    /// Returns the normal form: equal for tokens that mean the same. SQLite ignores the case of
    /// keywords and names.
    pub(super) fn normal(self) -> String {
        if self.text.starts_with(['"', '`', '[', '\'']) {
            self.text.to_owned()
        } else {
            self.text.to_ascii_lowercase()
        }
    }
}

/// Returns the tokens of an SQL text without white space and comments. Never fails: an unclosed
/// quote extends to the end, and SQLite itself reports it.
pub(super) fn tokens(sql: &str) -> Vec<Token<'_>> {
    let bytes = sql.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;

    while let Some(&first) = bytes.get(at) {
        let end = match first {
            _ if first.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at = find(sql, at, "\n");
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = find(sql, at + 2, "*/");
                continue;
            }
            b'"' | b'`' | b'\'' => quoted(bytes, at, first),
            b'[' => find(sql, at, "]"),
            _ if is_word(first) => {
                at + bytes[at..].iter().take_while(|&&byte| is_word(byte)).count()
            }
            _ => at + 1,
        };

        tokens.push(Token { text: &sql[at..end], start: at });
        at = end;
    }

    tokens
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || !byte.is_ascii()
}

/// Returns the position after the next `what`, or the end.
fn find(sql: &str, from: usize, what: &str) -> usize {
    sql.as_bytes()[from.min(sql.len())..]
        .windows(what.len())
        .position(|window| window == what.as_bytes())
        .map_or(sql.len(), |found| from + found + what.len())
}

fn quoted(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        if bytes[at] == quote {
            if bytes.get(at + 1) != Some(&quote) {
                return at + 1;
            }
            at += 1;
        }
        at += 1;
    }
    bytes.len()
}

/// Splits tokens at a separator outside of all parentheses.
pub(super) fn split<'t, 'a>(tokens: &'t [Token<'a>], separator: &str) -> Vec<&'t [Token<'a>]> {
    let mut parts = Vec::new();
    let mut depth = 0_usize;
    let mut from = 0;

    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            text if text == separator && depth == 0 => {
                parts.push(&tokens[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }

    parts.push(&tokens[from..]);
    parts
}

/// Returns the line and the column (in characters) of a position. Both count from 1.
pub(super) fn line_and_column(sql: &str, place: usize) -> (usize, usize) {
    let mut place = place.min(sql.len());
    while !sql.is_char_boundary(place) {
        place -= 1;
    }

    let before = &sql[..place];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Returns the text after an opening quote and before the closing one, which may be missing.
fn without_quotes(text: &str, open: char, close: char) -> Option<&str> {
    let text = text.strip_prefix(open)?;
    Some(text.strip_suffix(close).unwrap_or(text))
}
