//! Names of the functions and the numbers of their arguments.

use serde::Serialize;

use crate::edition::Edition;

/// Scalar function of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Function {
    Upper,
    Lower,
    Length,
    Hex,
    Base64,
    Typeof,
    IfNull,
    Iif,
    Instr,
    Substring,
    JsonExtract,
    JsonArrayLength,
    JsonValid,
    JsonKeys,
    UnixEpoch,
    DateTime,
    UuidBlob,
    StAsGeoJson,
    StAsText,
    StX,
    StY,
    Coalesce,
    NullIf,
    Abs,
    Round,
    Trim,
    TrimStart,
    TrimEnd,
    Replace,
}

/// Maximum number of arguments of any function but COALESCE.
pub(crate) const ARGUMENTS_MAX: usize = 3;

/// Name of a function, and the number of its arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signature {
    pub(crate) name: &'static str,
    pub(crate) function: Function,
    /// Minimum and maximum number of arguments.
    pub(crate) arity: (usize, usize),
    /// First edition that has the function.
    pub(crate) since: Edition,
}

const fn old(name: &'static str, function: Function, least: usize, most: usize) -> Signature {
    Signature { name, function, arity: (least, most), since: Edition::One }
}

const fn new(name: &'static str, function: Function, least: usize, most: usize) -> Signature {
    Signature { name, function, arity: (least, most), since: Edition::Three }
}

const SIGNATURES: [Signature; 30] = [
    old("upper", Function::Upper, 1, 1),
    old("lower", Function::Lower, 1, 1),
    old("length", Function::Length, 1, 1),
    old("hex", Function::Hex, 1, 1),
    old("base64", Function::Base64, 1, 1),
    old("typeof", Function::Typeof, 1, 1),
    old("ifnull", Function::IfNull, 2, 2),
    old("iif", Function::Iif, 3, 3),
    old("instr", Function::Instr, 2, 2),
    old("substring", Function::Substring, 2, 3),
    old("substr", Function::Substring, 2, 3),
    old("json_extract", Function::JsonExtract, 2, 2),
    old("json_array_length", Function::JsonArrayLength, 1, 2),
    old("json_valid", Function::JsonValid, 1, 1),
    old("json_keys", Function::JsonKeys, 1, 1),
    old("unixepoch", Function::UnixEpoch, 1, 3),
    old("datetime", Function::DateTime, 1, 3),
    old("uuid_blob", Function::UuidBlob, 1, 1),
    old("st_asgeojson", Function::StAsGeoJson, 1, 1),
    old("st_astext", Function::StAsText, 1, 1),
    old("st_x", Function::StX, 1, 1),
    old("st_y", Function::StY, 1, 1),
    new("coalesce", Function::Coalesce, 2, usize::MAX),
    new("nullif", Function::NullIf, 2, 2),
    new("abs", Function::Abs, 1, 1),
    new("round", Function::Round, 1, 2),
    new("trim", Function::Trim, 1, 2),
    new("ltrim", Function::TrimStart, 1, 2),
    new("rtrim", Function::TrimEnd, 1, 2),
    new("replace", Function::Replace, 3, 3),
];

impl Signature {
    /// Returns the function with this name in lower case.
    pub(crate) fn find(name: &str) -> Option<Self> {
        SIGNATURES.iter().find(|known| known.name == name).copied()
    }

    /// Returns the name of a function, the first if it has several.
    pub(crate) fn name_of(function: Function) -> &'static str {
        let known = SIGNATURES.iter().find(|known| known.function == function);
        known.expect("every function has a signature").name
    }

    /// Returns the names of the functions of an edition.
    pub(crate) fn names(edition: Edition) -> impl Iterator<Item = &'static str> {
        SIGNATURES.iter().filter(move |known| known.since <= edition).map(|known| known.name)
    }

    /// Describes how many arguments the function takes, if it does not take `count`.
    pub(crate) fn expected(&self, count: usize) -> Option<String> {
        let (least, most) = self.arity;
        if (least..=most).contains(&count) {
            return None;
        }
        Some(match most {
            1 => "1 argument".to_owned(),
            usize::MAX => format!("{least} arguments or more"),
            _ if least == most => format!("{least} arguments"),
            _ if least + 1 == most => format!("{least} or {most} arguments"),
            _ => format!("{least} to {most} arguments"),
        })
    }
}

/// Functions that are not deterministic.
const CHANGING: [&str; 22] = [
    "random",
    "randomblob",
    "now",
    "current_timestamp",
    "current_date",
    "current_time",
    "localtime",
    "localtimestamp",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "gen_random_uuid",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
    "changes",
    "total_changes",
    "last_insert_rowid",
    "nextval",
    "current_user",
    "session_user",
];

/// Aggregate and window functions.
const AGGREGATES: [&str; 22] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "total",
    "group_concat",
    "string_agg",
    "array_agg",
    "json_agg",
    "jsonb_agg",
    "json_object_agg",
    "jsonb_object_agg",
    "json_group_array",
    "json_group_object",
    "bool_and",
    "bool_or",
    "every",
    "median",
    "stddev",
    "variance",
    "row_number",
];

/// Returns the message and the hint for a function that the language cannot have.
pub(crate) fn refusal(name: &str, arguments: usize) -> Option<(&'static str, &'static str)> {
    if CHANGING.contains(&name) {
        return Some((
            "is not supported: its value changes with each call",
            "what is synced may depend on the row and the request only; keep times in a column",
        ));
    }
    // With two arguments or more, SQLite's `min` and `max` are scalar functions.
    let is_of_row = matches!(name, "min" | "max") && arguments > 1;
    (AGGREGATES.contains(&name) && !is_of_row).then_some((
        "is not supported: it is an aggregate or window function",
        "every row is evaluated by itself; aggregate in the app, or keep the result in a table",
    ))
}
