//! Maps positions in a scalar's text to positions in the file, for every style of scalar.

use saphyr_parser::ScalarStyle;

use super::diagnostic::Position;
use super::source_file::SourceFile;
use super::yaml::Scalar;

/// Positions in the file of the characters of one scalar.
#[derive(Debug)]
pub(crate) struct SourceMap<'a> {
    source: &'a SourceFile,
    /// Start of each line of the scalar's text, in characters.
    line_starts: Vec<usize>,
    /// Index in the file of each character of the text, and of its end.
    indices: Vec<usize>,
}

impl<'a> SourceMap<'a> {
    pub(crate) fn new(source: &'a SourceFile, scalar: &Scalar) -> Self {
        let mut walk = Walk { chars: &source.chars, at: scalar.start, end: scalar.end };
        // The range of a quoted scalar includes its quotes; that of a block scalar excludes its
        // header.
        if matches!(scalar.style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted) {
            walk.at += 1;
        }
        let indices = walk.align(&scalar.text, scalar.style);
        let breaks = scalar.text.chars().enumerate().filter(|(_, c)| *c == '\n');
        let line_starts = std::iter::once(0).chain(breaks.map(|(index, _)| index + 1)).collect();
        Self { source, line_starts, indices }
    }

    /// Returns the position of a character of the text, counted from 0.
    pub(crate) fn position(&self, index: usize) -> Position {
        let last = self.indices.len() - 1;
        self.source.position(self.indices[index.min(last)])
    }

    /// Returns the position of a character by its line and column in the text, both from 1.
    pub(crate) fn position_at(&self, line: usize, column: usize) -> Position {
        self.position(self.index_at(line, column))
    }

    /// Returns the index of a character by its line and column in the text, both from 1.
    pub(crate) fn index_at(&self, line: usize, column: usize) -> usize {
        let start = line.checked_sub(1).and_then(|line| self.line_starts.get(line));
        start.map_or(usize::MAX, |start| start.saturating_add(column.max(1) - 1))
    }
}

/// Cursor that walks through a scalar in the file along its text.
struct Walk<'a> {
    chars: &'a [char],
    at: usize,
    end: usize,
}

impl Walk<'_> {
    fn peek(&self) -> Option<char> {
        if self.at < self.end { self.chars.get(self.at).copied() } else { None }
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    /// Returns the index in the file of each character of the text.
    ///
    /// Folding and indentation change whitespace only, so all other characters of text and file
    /// correspond one to one, apart from escapes. Whitespace that is not in the file gets the
    /// position after the character before it.
    fn align(&mut self, text: &str, style: ScalarStyle) -> Vec<usize> {
        let mut indices = Vec::with_capacity(text.len() + 1);
        let mut after = self.at;

        for c in text.chars() {
            if is_space(c) {
                indices.push(self.take_space(c, style, &mut after));
                continue;
            }

            self.skip_space();
            self.skip_line_joins(style);
            indices.push(self.at.min(self.end));
            self.take(style);
            after = self.at;
        }

        indices.push(after.min(self.end));
        indices
    }

    /// Returns the index of a whitespace character. Whitespace that is itself in the file keeps its
    /// own position; the result of folding gets the first one.
    fn take_space(&mut self, c: char, style: ScalarStyle, after: &mut usize) -> usize {
        if self.peek() == Some(c) {
            let index = self.at;
            self.at += 1;
            *after = self.at;
            return index;
        }
        if style == ScalarStyle::DoubleQuoted && self.peek() == Some('\\') {
            let index = self.at;
            self.take(style);
            *after = self.at;
            return index;
        }
        *after
    }

    /// Skips line joins: in double quotes a backslash at the end of a line joins it with the next.
    fn skip_line_joins(&mut self, style: ScalarStyle) {
        while style == ScalarStyle::DoubleQuoted
            && self.peek() == Some('\\')
            && matches!(self.chars.get(self.at + 1), Some('\n' | '\r'))
        {
            self.at += 1;
            self.skip_space();
        }
    }

    /// Advances over one character of the file, with its escape.
    fn take(&mut self, style: ScalarStyle) {
        let length = match (style, self.peek()) {
            (ScalarStyle::SingleQuoted, Some('\'')) => 2,
            (ScalarStyle::DoubleQuoted, Some('\\')) => match self.chars.get(self.at + 1) {
                Some('x') => 4,
                Some('u') => 6,
                Some('U') => 10,
                _ => 2,
            },
            _ => 1,
        };
        self.at += length;
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}
