//! Text of the file, by characters and lines.

use super::diagnostic::Position;

/// Characters of the file and the starts of its lines.
#[derive(Debug)]
pub(crate) struct SourceFile {
    pub(crate) chars: Vec<char>,
    line_starts: Vec<usize>,
}

impl SourceFile {
    pub(crate) fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut line_starts = vec![0];
        for (index, c) in chars.iter().enumerate() {
            let ends_line = match c {
                '\n' => true,
                '\r' => chars.get(index + 1) != Some(&'\n'),
                _ => false,
            };
            if ends_line {
                line_starts.push(index + 1);
            }
        }
        Self { chars, line_starts }
    }

    pub(crate) fn position(&self, index: usize) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= index);
        Position { line, column: index - self.line_starts[line - 1] + 1 }
    }
}
