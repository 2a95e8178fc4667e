//! The section `config`.

use super::diagnostic::{Diagnostic, Findings, Position};
use super::yaml::{Node, NodeValue, Scalar};
use crate::edition::Edition;
use crate::value::{Engine, ValueOptions};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) edition: Edition,
    pub(crate) values: ValueOptions,
}

impl Options {
    pub(crate) fn of_edition(edition: Edition) -> Self {
        let fixed = edition >= Edition::Two;
        let values = ValueOptions {
            timestamps_iso8601: fixed,
            fraction_digits: 6,
            fixed_json_extract: fixed,
            custom_types: fixed,
            engine: Engine::default(),
        };
        Self { edition, values }
    }

    /// Reads the section.
    pub(crate) fn read(config: Option<&Node>, findings: &mut Findings) -> Self {
        let default = Self::of_edition(Edition::One);
        let Some(config) = config else { return default };
        let NodeValue::Map(entries) = &config.value else {
            let message = format!("`config` must be a map, not {}", config.kind());
            findings.push(Diagnostic::error(config.position, message));
            return default;
        };

        let edition = entries.iter().find(|(key, _)| key_text(key) == Some("edition"));
        let edition = match edition {
            Some((_, value)) => findings.ok(read_edition(value)).unwrap_or(Edition::Three),
            None => Edition::One,
        };
        let mut options = Self::of_edition(edition);
        let mut keys = KeyPositions::default();
        for (key, value) in entries {
            let result = options.read_entry(key, value, &mut keys);
            findings.ok(result);
        }

        options.check_engine(keys.engine, findings);
        if let Some(position) = keys.precision
            && !options.values.timestamps_iso8601
        {
            let error =
                Diagnostic::error(position, "`timestamp_max_precision` needs `timestamps_iso8601`")
                    .hint("set `timestamps_iso8601: true`, or remove the precision");
            findings.push(error);
        }
        options
    }

    fn check_engine(&self, position: Option<Position>, findings: &mut Findings) {
        let Some(position) = position else { return };
        let name = "unstable_sqlite_expression_engine";
        if self.edition < Edition::Three {
            let error = Diagnostic::error(position, format!("`{name}` requires edition 3"));
            findings.push(error.hint("set `edition: 3`, or remove it"));
        }
        if !self.values.fixed_json_extract {
            let message = format!("`{name}` needs `fixed_json_extract`");
            let error = Diagnostic::error(position, message);
            findings.push(error.hint("set `fixed_json_extract: true`, or remove it"));
        }
    }

    fn read_entry(
        &mut self,
        key: &Node,
        value: &Node,
        keys: &mut KeyPositions,
    ) -> Result<(), Diagnostic> {
        match key_text(key).unwrap_or_default() {
            "edition" => {}
            "timestamps_iso8601" => self.values.timestamps_iso8601 = read_bool(key, value)?,
            "fixed_json_extract" => self.values.fixed_json_extract = read_bool(key, value)?,
            "custom_postgres_types" => self.values.custom_types = read_bool(key, value)?,
            // Bucket names always contain a tag of their definition, so the option has no effect.
            "versioned_bucket_ids" => {
                read_bool(key, value)?;
            }
            "unstable_sqlite_expression_engine" => {
                if read_bool(key, value)? {
                    self.values.engine = Engine::Sqlite;
                    keys.engine = Some(key.position);
                }
            }
            "timestamp_max_precision" => {
                self.values.fraction_digits = read_precision(value)?;
                keys.precision = Some(value.position);
            }
            // The option selects how a PowerSync service stores operations. It does not change
            // them.
            "storage_version" => read_storage_version(value)?,
            _ => {
                let known = "edition, timestamps_iso8601, timestamp_max_precision, \
                             fixed_json_extract, custom_postgres_types, versioned_bucket_ids, \
                             unstable_sqlite_expression_engine, storage_version";
                return Err(unknown_key(key, known));
            }
        }

        Ok(())
    }
}

/// Positions of keys that require other keys.
#[derive(Default)]
struct KeyPositions {
    precision: Option<Position>,
    engine: Option<Position>,
}

fn key_text(key: &Node) -> Option<&str> {
    match &key.value {
        NodeValue::Scalar(scalar) => Some(&scalar.text),
        NodeValue::List(_) | NodeValue::Map(_) => None,
    }
}

/// Returns the error for an unknown key.
pub(crate) fn unknown_key(key: &Node, known: &str) -> Diagnostic {
    let message = match key_text(key) {
        Some(text) => format!("unknown key `{text}`"),
        None => "a key must be a scalar".to_owned(),
    };
    Diagnostic::error(key.position, message).hint(format!("the valid keys are: {known}"))
}

/// Returns the scalar value of a key.
pub(crate) fn read_scalar<'a>(
    key: &Node,
    value: &'a Node,
    expected: &str,
) -> Result<&'a Scalar, Diagnostic> {
    match &value.value {
        NodeValue::Scalar(scalar) if !scalar.is_null() => Ok(scalar),
        NodeValue::Scalar(_) | NodeValue::List(_) | NodeValue::Map(_) => {
            let key = key_text(key).unwrap_or_default();
            let message = format!("`{key}` must be {expected}, not {}", value.kind());
            Err(Diagnostic::error(value.position, message))
        }
    }
}

/// Returns the boolean value of a key.
pub(crate) fn read_bool(key: &Node, value: &Node) -> Result<bool, Diagnostic> {
    let scalar = read_scalar(key, value, "`true` or `false`")?;
    scalar.as_bool().ok_or_else(|| {
        let key = key_text(key).unwrap_or_default();
        let message = format!("`{key}` must be `true` or `false`, not `{}`", shorten(&scalar.text));
        let error = Diagnostic::error(value.position, message);
        // YAML 1.1 had more words for them.
        match scalar.text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => error.hint("write `true`"),
            "false" | "no" | "off" | "n" => error.hint("write `false`"),
            _ => error,
        }
    })
}

fn read_edition(value: &Node) -> Result<Edition, Diagnostic> {
    let edition = match &value.value {
        NodeValue::Scalar(scalar) => scalar.as_integer(),
        NodeValue::List(_) | NodeValue::Map(_) => None,
    };
    match edition {
        Some(1) => Ok(Edition::One),
        Some(2) => Ok(Edition::Two),
        Some(3) => Ok(Edition::Three),
        Some(_) | None => Err(Diagnostic::error(value.position, "`edition` must be 1, 2 or 3")),
    }
}

fn read_precision(value: &Node) -> Result<usize, Diagnostic> {
    let text = match &value.value {
        NodeValue::Scalar(scalar) => scalar.text.as_str(),
        NodeValue::List(_) | NodeValue::Map(_) => "",
    };

    match text {
        "seconds" => Ok(0),
        "milliseconds" => Ok(3),
        "microseconds" => Ok(6),
        "nanoseconds" => Ok(9),
        _ => {
            let message = "`timestamp_max_precision` must be `seconds`, `milliseconds`, \
                           `microseconds` or `nanoseconds`";
            Err(Diagnostic::error(value.position, message))
        }
    }
}

fn read_storage_version(value: &Node) -> Result<(), Diagnostic> {
    let version = match &value.value {
        NodeValue::Scalar(scalar) => scalar.as_integer(),
        NodeValue::List(_) | NodeValue::Map(_) => None,
    };
    match version {
        Some(2 | 3) => Ok(()),
        Some(_) | None => {
            Err(Diagnostic::error(value.position, "`storage_version` must be 2 or 3"))
        }
    }
}

/// Returns the beginning of a user's text for a message, on one line.
pub(crate) fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short.replace(['\n', '\r', '\t'], " ")
}
