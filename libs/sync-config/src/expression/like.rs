//! Patterns of LIKE.

use serde::Serialize;

use super::quote::quoted;
use crate::value::EvaluationError;

/// Maximum number of steps of one match, in addition to four for each byte of the text. A pattern
/// can take steps in proportion to the product of its length and the text's, so the limit bounds
/// the time.
const STEPS_MAX: usize = 10_000_000;

/// Pattern of LIKE with SQLite's rules: only ASCII letters are equal in either case.
///
/// Its serialised form is part of the definition hashes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Pattern(Vec<PatternPart>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum PatternPart {
    /// `%`: any number of characters.
    Any,
    /// `_`: one character.
    One,
    /// This character. An ASCII letter is in lower case and matches both cases.
    Character(char),
}

impl Pattern {
    /// Parses a pattern. Returns `None` if it ends with the escape character.
    pub(crate) fn new(text: &str, escape: Option<char>) -> Option<Self> {
        let mut parts = Vec::new();

        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let part = match character {
                _ if escape == Some(character) => PatternPart::literal(characters.next()?),
                // Consecutive `%` match like one.
                '%' if parts.last() == Some(&PatternPart::Any) => continue,
                '%' => PatternPart::Any,
                '_' => PatternPart::One,
                other => PatternPart::literal(other),
            };
            parts.push(part);
        }

        Some(Self(parts))
    }

    /// Returns the number of parts.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Prints the pattern as SQL, with ESCAPE if needed.
    pub(crate) fn to_sql(&self) -> String {
        let Self(parts) = self;
        let escapes = parts.iter().any(PatternPart::is_wildcard_character);

        let mut text = String::new();
        for part in parts {
            match part {
                PatternPart::Any => text.push('%'),
                PatternPart::One => text.push('_'),
                PatternPart::Character(character) => {
                    if escapes && (part.is_wildcard_character() || *character == '\\') {
                        text.push('\\');
                    }
                    text.push(*character);
                }
            }
        }

        let escape = if escapes { " ESCAPE '\\'" } else { "" };
        format!("{}{escape}", quoted(&text))
    }

    /// Returns whether the pattern matches the whole text. Backtracks only to the last `%`, so the
    /// number of steps is at most the product of the lengths.
    pub(crate) fn matches(&self, text: &str) -> Result<bool, EvaluationError> {
        let Self(parts) = self;
        let mut steps = text.len().saturating_mul(4).saturating_add(STEPS_MAX);
        let mut part = 0;
        let mut rest = text.chars();

        // The part after the last `%`, and the rest of the text at its last attempt.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            steps = steps.checked_sub(1).ok_or(EvaluationError::TooManySteps)?;

            let here = rest.clone();
            let fits = match parts.get(part) {
                Some(PatternPart::Any) if part + 1 == parts.len() => return Ok(true),
                Some(PatternPart::Any) => {
                    part += 1;
                    retry = Some((part, here));
                    continue;
                }
                Some(PatternPart::One) => rest.next().is_some(),
                Some(PatternPart::Character(wanted)) => {
                    rest.next().is_some_and(|c| c.to_ascii_lowercase() == *wanted)
                }
                None if rest.as_str().is_empty() => return Ok(true),
                None => false,
            };

            if fits {
                part += 1;
                continue;
            }

            let Some((after, tried)) = &mut retry else { return Ok(false) };
            if tried.next().is_none() {
                return Ok(false);
            }

            part = *after;
            rest = tried.clone();
        }
    }
}

impl PatternPart {
    fn literal(character: char) -> Self {
        Self::Character(character.to_ascii_lowercase())
    }
    /// Returns whether the part is a literal `%` or `_`, which needs an escape.
    fn is_wildcard_character(&self) -> bool {
        matches!(self, Self::Character('%' | '_'))
    }
}
