//! The patterns of LIKE.

use serde::Serialize;

use super::quote::quoted;
use crate::value::EvaluationError;

/// Most steps that comparing a text with a pattern may take, besides four for each byte of the text.
const STEPS_MAX: usize = 10_000_000;

/// A pattern, as SQLite understands it: ASCII letters are equal in either case, others are not.
///
/// Serialised it is part of hashes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Part {
    /// Any characters, or none.
    Any,
    /// One character.
    One,
    /// This character; a letter in lower case stands for both.
    Character(char),
}

impl Pattern {
    /// `None` when the pattern ends with the escape character, which then escapes nothing.
    pub(crate) fn new(text: &str, escape: Option<char>) -> Option<Self> {
        let mut parts = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let part = match character {
                _ if escape == Some(character) => Part::of(characters.next()?),
                // Two in a row are as good as one.
                '%' if parts.last() == Some(&Part::Any) => continue,
                '%' => Part::Any,
                '_' => Part::One,
                other => Part::of(other),
            };
            parts.push(part);
        }
        Some(Self(parts))
    }

    /// The pattern as SQL, with an escape character where it needs one.
    pub(crate) fn to_sql(&self) -> String {
        let Self(parts) = self;
        let is_special = |part: &Part| matches!(part, Part::Character('%' | '_'));
        let escapes = parts.iter().any(is_special);
        let mut text = String::new();
        for part in parts {
            match part {
                Part::Any => text.push('%'),
                Part::One => text.push('_'),
                Part::Character(character) => {
                    if escapes && (is_special(part) || *character == '\\') {
                        text.push('\\');
                    }
                    text.push(*character);
                }
            }
        }
        let escape = if escapes { " ESCAPE '\\'" } else { "" };
        format!("{}{escape}", quoted(&text))
    }

    /// Whether the whole text is as the pattern says. What follows a `%` is looked for from left to
    /// right, and only the last `%` is ever returned to, so steps are at most the product of the
    /// lengths.
    pub(crate) fn matches(&self, text: &str) -> Result<bool, EvaluationError> {
        let Self(parts) = self;
        let mut steps = text.len().saturating_mul(4).saturating_add(STEPS_MAX);
        let (mut part, mut rest) = (0, text.chars());
        // The part after the last `%`, and what was left of the text when it was last tried.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            steps = steps.checked_sub(1).ok_or(EvaluationError::TooManySteps)?;
            let here = rest.clone();
            let fits = match parts.get(part) {
                Some(Part::Any) if part + 1 == parts.len() => return Ok(true),
                Some(Part::Any) => {
                    part += 1;
                    retry = Some((part, here));
                    continue;
                }
                Some(Part::One) => rest.next().is_some(),
                Some(Part::Character(wanted)) => {
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
            (part, rest) = (*after, tried.clone());
        }
    }
}

impl Part {
    fn of(character: char) -> Self {
        Self::Character(character.to_ascii_lowercase())
    }
}
