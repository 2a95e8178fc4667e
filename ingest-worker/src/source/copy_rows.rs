//! Rows in the text form of COPY.

use crate::source::error::SourceError;

/// Rows of COPY, in buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct CopyRows {
    /// The values one after another, without their escapes.
    text: Vec<u8>,
    /// The end of each value in `text`; `None` for NULL.
    ends: Vec<Option<usize>>,
    rows: usize,
}

impl CopyRows {
    /// Adds a row in the text form of COPY.
    pub(crate) fn push(&mut self, row: &[u8]) {
        self.rows += 1;
        let row = row.strip_suffix(b"\n").unwrap_or(row);
        // An escape is a backslash and a letter, so each tab separates two values.
        for field in row.split(|&byte| byte == b'\t') {
            if field == b"\\N" {
                self.ends.push(None);
                continue;
            }
            unescape(field, &mut self.text);
            self.ends.push(Some(self.text.len()));
        }
    }

    /// Returns the values of all rows, one after another; `None` is NULL.
    ///
    /// # Errors
    /// When a value is not UTF-8.
    pub(crate) fn values(&self) -> Result<Vec<Option<&str>>, SourceError> {
        let not_text = SourceError::UnexpectedAnswer("COPY: not UTF-8");
        let Ok(text) = std::str::from_utf8(&self.text) else { return Err(not_text) };

        let mut values = Vec::with_capacity(self.ends.len());
        let mut start = 0;
        for end in &self.ends {
            let Some(end) = *end else {
                values.push(None);
                continue;
            };
            // The whole text may be UTF-8 although a character is cut by the end of a value.
            let Some(value) = text.get(start..end) else { return Err(not_text) };
            values.push(Some(value));
            start = end;
        }
        Ok(values)
    }

    /// Returns the number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the bytes of the values.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Removes all rows and keeps the buffers.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.rows = 0;
    }
}

/// Appends a value without its escapes.
fn unescape(field: &[u8], out: &mut Vec<u8>) {
    let mut rest = field;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        out.extend_from_slice(&rest[..at]);

        // COPY writes each escape as a backslash and one letter; an unknown letter is itself.
        let letter = rest.get(at + 1).copied();
        out.extend(letter.map(|letter| match letter {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            other => other,
        }));
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(row: &[u8]) -> Vec<Option<String>> {
        let mut copied = CopyRows::default();
        copied.push(row);
        copied.values().unwrap().into_iter().map(|value| value.map(str::to_owned)).collect()
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    /// Writes a row as PostgreSQL's `CopyAttributeOutText` does.
    fn escape(values: &[Option<String>]) -> String {
        let fields: Vec<_> = values
            .iter()
            .map(|value| match value {
                None => "\\N".to_owned(),
                Some(text) => text
                    .replace('\\', "\\\\")
                    .replace('\n', "\\n")
                    .replace('\r', "\\r")
                    .replace('\t', "\\t")
                    .replace('\u{8}', "\\b"),
            })
            .collect();
        format!("{}\n", fields.join("\t"))
    }

    #[test]
    fn a_row_of_copy_is_split_and_unescaped() {
        assert_eq!(split(b"1\t\\N\t\tab\n"), [some("1"), None, some(""), some("ab")]);
        assert_eq!(split(b"a\\tb\\\\\\n\t\\\\N\n"), [some("a\tb\\\n"), some("\\N")]);
        assert_eq!(split("é\\r😀".as_bytes()), [some("é\r😀")]);
    }

    #[test]
    fn a_value_that_is_not_utf8_is_an_error() {
        let mut copied = CopyRows::default();
        copied.push(b"\xff\n");
        assert!(copied.values().is_err());
        copied.clear();
        // Two halves of a character make a text, but not in two columns.
        copied.push(b"\xc3\t\xa9\n");
        assert!(copied.values().is_err());
    }

    #[test]
    fn rows_and_bytes_are_counted_until_the_buffer_is_cleared() {
        let mut copied = CopyRows::default();
        copied.push(b"ab\t\\N\n");
        copied.push(b"\\n\tc\n");
        assert_eq!((copied.rows(), copied.bytes()), (2, 4), "an escape is one byte, NULL none");
        copied.clear();
        assert_eq!((copied.rows(), copied.bytes()), (0, 0));
        assert_eq!(copied.values().unwrap(), []);
    }

    proptest! {
        #[test]
        fn rows_are_read_as_postgresql_writes_them(
            rows in prop::collection::vec(
                prop::collection::vec(proptest::option::of("[a-zN\\\\\t\n\r\u{8}é]{0,6}"), 2),
                0..5,
            )
        ) {
            let mut copied = CopyRows::default();
            for row in &rows {
                copied.push(escape(row).as_bytes());
            }
            let expected: Vec<_> = rows.iter().flatten().map(Option::as_deref).collect();
            prop_assert_eq!(copied.values().unwrap(), expected);
            prop_assert_eq!(copied.rows(), rows.len());
        }
    }
}
