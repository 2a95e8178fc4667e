//! Findings about a sync config.

use std::fmt::Write as _;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The config cannot be used.
    Error,
    /// The config can be used, but may not do what its author meant.
    Warning,
}

/// Finding about a sync config, for its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Severity of the finding.
    pub severity: Severity,
    /// Line in the YAML file, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Message that says what is wrong and quotes it.
    pub message: String,
    /// Hint that says what to write instead.
    pub hint: Option<String>,
}

/// Maximum length of the source line in a rendered finding, in characters: two lines of a terminal.
const EXCERPT_CHARS_MAX: usize = 160;

impl Diagnostic {
    pub(crate) fn error(position: Position, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            line: position.line,
            column: position.column,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn warning(position: Position, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(position, message) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Renders the finding for a terminal: position, message, the line of the file with a mark
    /// under the position, and the hint. The text ends with a line break.
    #[must_use]
    pub fn render(&self, file_name: &str, yaml: &str) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut text =
            format!("{file_name}:{}:{}: {severity}: {}\n", self.line, self.column, self.message);
        if let Some(line) = lines(yaml).nth(self.line.saturating_sub(1)) {
            self.render_excerpt(line, &mut text);
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "  hint: {hint}");
        }
        text
    }

    fn render_excerpt(&self, line: &str, text: &mut String) {
        let before = self.column.saturating_sub(1);
        let start = before.saturating_sub(EXCERPT_CHARS_MAX / 2);
        let shown: String = line.chars().skip(start).take(EXCERPT_CHARS_MAX).collect();

        // Tabs are kept, so that the mark stands under its position for any tab width.
        let indent: String = line
            .chars()
            .skip(start)
            .take(before - start)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();

        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let _ = writeln!(text, " {number} | {}", shown.trim_end());
        let _ = writeln!(text, " {margin} | {indent}^");
    }
}

/// Returns the lines of a text as YAML counts them. A carriage return alone ends a line, too.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let after = if text[end..].starts_with("\r\n") { end + 2 } else { end + 1 };
        rest = Some(&text[after..]);
        Some(&text[..end])
    })
}

/// Position in the YAML file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Line, from 1.
    pub(crate) line: usize,
    /// Column in characters, from 1.
    pub(crate) column: usize,
}

/// Errors and warnings found so far.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Diagnostic>,
}

impl Findings {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    pub(crate) fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        self.list.extend(diagnostics);
    }

    /// Returns the value of a result, or records its error.
    pub(crate) fn ok<T>(&mut self, result: Result<T, Diagnostic>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(diagnostic) => {
                self.push(diagnostic);
                None
            }
        }
    }

    /// Returns the values of all results. With several errors, all but the last are recorded here, and
    /// the last is returned.
    pub(crate) fn all<T>(
        &mut self,
        results: Vec<Result<T, Diagnostic>>,
    ) -> Result<Vec<T>, Diagnostic> {
        let mut values = Vec::with_capacity(results.len());
        let mut last = None;
        for result in results {
            match result {
                Ok(value) => values.push(value),
                Err(error) => self.list.extend(last.replace(error)),
            }
        }
        last.map_or(Ok(values), Err)
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Returns the findings in the order of the file, each once.
    pub(crate) fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        self.list.dedup();
        self.list
    }
}
