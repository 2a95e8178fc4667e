//! Functions of expressions.

mod geometry;
mod json_member;
mod json_path;
mod numbers;
mod signatures;
mod sqlite_json;
mod text;
mod time;
mod well_known_binary;

use base64::Engine as _;

use crate::value::{Engine, EvaluationError, Value};

pub(crate) use json_path::{json_get, output, path_names, walk};
pub(crate) use numbers::to_numeric;
pub(crate) use signatures::{ARGUMENTS_MAX, Function, Signature, refusal};
pub(crate) use sqlite_json::steps;
pub(crate) use text::to_blob;
pub(crate) use time::{is_modifier, is_now};

impl Function {
    /// Evaluates the function. The compiler has checked the number of arguments; those beyond
    /// `count` are NULL. The caller evaluates COALESCE, which takes any number of arguments.
    pub(crate) fn call<'v>(
        self,
        [first, second, third]: [Value<'v>; ARGUMENTS_MAX],
        count: usize,
        engine: Engine,
    ) -> Result<Value<'v>, EvaluationError> {
        let second_given = (count > 1).then_some(&second);
        let third_given = (count > 2).then_some(&third);

        Ok(match self {
            Self::Upper => text::map(first, str::to_uppercase),
            Self::Lower => text::map(first, str::to_lowercase),
            Self::Length => text::length(first, engine),
            Self::Hex => {
                let bytes = text::to_bytes(first, engine).unwrap_or_default();
                Value::text(hex::encode_upper(bytes))
            }
            Self::Base64 => {
                let bytes = text::to_bytes(first, engine).unwrap_or_default();
                Value::text(base64::engine::general_purpose::STANDARD.encode(bytes))
            }
            Self::Typeof => Value::text(first.type_name()),
            Self::IfNull | Self::Coalesce => {
                if first.is_null() {
                    second
                } else {
                    first
                }
            }
            Self::Iif => {
                if first.is_true(engine) {
                    second
                } else {
                    third
                }
            }
            Self::Instr => text::instr(first, second, engine),
            Self::Substring => text::substring(first, &second, third_given, engine),
            Self::JsonExtract => json_path::json_extract(&first, &second, engine)?,
            Self::JsonArrayLength => json_path::json_array_length(&first, second_given, engine)?,
            Self::JsonValid => json_path::json_valid(first, engine),
            Self::JsonKeys => json_path::json_keys(&first)?,
            Self::UnixEpoch => time::unixepoch(&first, &second, &third),
            Self::DateTime => time::datetime(&first, &second, &third),
            Self::UuidBlob => text::uuid_blob(&first)?,
            Self::StAsGeoJson => geometry::as_geojson(&first)?,
            Self::StAsText => geometry::as_text(&first)?,
            Self::StX => geometry::coordinate(&first, |position| position.x)?,
            Self::StY => geometry::coordinate(&first, |position| position.y)?,
            Self::NullIf => {
                if first.compare(&second).is_some_and(std::cmp::Ordering::is_eq) {
                    Value::Null
                } else {
                    first
                }
            }
            Self::Abs => numbers::abs(&first)?,
            Self::Round => numbers::round(&first, second_given),
            Self::Trim => text::trim(first, second_given, text::TrimSide::Both, engine),
            Self::TrimStart => text::trim(first, second_given, text::TrimSide::Start, engine),
            Self::TrimEnd => text::trim(first, second_given, text::TrimSide::End, engine),
            Self::Replace => text::replace(first, second, third, engine)?,
        })
    }
}
