//! The claims of a token whose signature is right.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::RefusalReason;

/// Difference of clocks that is tolerated, in seconds.
const CLOCK_SKEW_SECONDS: i64 = 60;

/// The longest lifetime of a token from `iat` to `exp`, in seconds: a day. A token cannot be revoked,
/// so a longer one would keep a removed user's access for longer.
const LIFETIME_SECONDS_MAX: i64 = 86_400;

/// The longest subject, in bytes. Subjects are part of stored keys.
const SUBJECT_BYTES_MAX: usize = 512;

/// The content of a valid token.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    /// `sub` as text, also if it is a number.
    pub(crate) user_id: String,
    /// All claims.
    pub(crate) claims: Map<String, Value>,
    /// `exp` in whole seconds since 1970.
    pub(crate) expires_at: i64,
}

/// The claims that are checked. A token that lacks one, or has one of another type, is not valid.
#[derive(Deserialize)]
struct Claims {
    sub: Subject,
    #[serde(deserialize_with = "numeric_date")]
    iat: i64,
    #[serde(deserialize_with = "numeric_date")]
    exp: i64,
    #[serde(default, deserialize_with = "optional_numeric_date")]
    nbf: Option<i64>,
    aud: Audience,
    iss: Option<String>,
    // Read for its type only: if it is there, it must be an object.
    #[serde(default, rename = "parameters", deserialize_with = "object")]
    _parameters: (),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Subject {
    Text(String),
    Signed(i64),
    Unsigned(u64),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// The required claims, and those that are checked where they are present, in the order in which a
/// fault is looked for.
const CHECKED: [&str; 7] = ["sub", "iat", "exp", "aud", "nbf", "iss", "parameters"];

/// The bound of times with a fraction, in seconds: beyond it an `f64` does not have every second.
const EXACT_SECONDS_MAX: f64 = 9_007_199_254_740_992.0;

/// A time as JSON has it. RFC 7519 allows a fraction of a second.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumericDate {
    Whole(i64),
    Fraction(f64),
}

impl NumericDate {
    /// Returns the whole seconds, rounded down. A token with a fraction thus expires up to a second
    /// early, and never late.
    fn seconds<E: serde::de::Error>(self) -> Result<i64, E> {
        match self {
            Self::Whole(seconds) => Ok(seconds),
            Self::Fraction(seconds) if seconds.abs() < EXACT_SECONDS_MAX =>
            {
                #[expect(clippy::cast_possible_truncation, reason = "the bound is within i64")]
                Ok(seconds.floor() as i64)
            }
            Self::Fraction(_) => Err(E::custom("a time is out of bounds")),
        }
    }
}

fn numeric_date<'de, D: serde::Deserializer<'de>>(value: D) -> Result<i64, D::Error> {
    NumericDate::deserialize(value)?.seconds()
}

fn optional_numeric_date<'de, D: serde::Deserializer<'de>>(
    value: D,
) -> Result<Option<i64>, D::Error> {
    let date = Option::<NumericDate>::deserialize(value)?;
    date.map(NumericDate::seconds).transpose()
}

fn object<'de, D: serde::Deserializer<'de>>(value: D) -> Result<(), D::Error> {
    Map::<String, Value>::deserialize(value).map(|_| ())
}

/// Checks the payload of a token at `now`, in seconds since 1970. The token must name one of the
/// audiences, and the issuer if there is one.
pub(super) fn check(
    payload: &[u8],
    now: i64,
    audiences: &[String],
    issuer: Option<&str>,
) -> Result<Verified, RefusalReason> {
    let claims: Map<String, Value> =
        serde_json::from_slice(payload).map_err(|_| RefusalReason::Claim("payload"))?;
    let typed: Claims =
        serde_json::from_slice(payload).map_err(|_| RefusalReason::Claim(fault(&claims)))?;

    if typed.exp.saturating_add(CLOCK_SKEW_SECONDS) <= now {
        return Err(RefusalReason::Expired);
    }
    let latest_start = now.saturating_add(CLOCK_SKEW_SECONDS);
    if typed.iat > latest_start || typed.nbf.is_some_and(|nbf| nbf > latest_start) {
        return Err(RefusalReason::NotYetValid);
    }
    if typed.exp.saturating_sub(typed.iat) > LIFETIME_SECONDS_MAX {
        return Err(RefusalReason::Lifetime);
    }

    let is_for_us = match &typed.aud {
        Audience::One(one) => audiences.contains(one),
        Audience::Many(many) => many.iter().any(|one| audiences.contains(one)),
    };
    if !is_for_us {
        return Err(RefusalReason::Audience);
    }
    if issuer.is_some() && issuer != typed.iss.as_deref() {
        return Err(RefusalReason::Issuer);
    }

    let user_id = match typed.sub {
        Subject::Text(text) => text,
        Subject::Signed(number) => number.to_string(),
        Subject::Unsigned(number) => number.to_string(),
    };
    if user_id.is_empty() || user_id.len() > SUBJECT_BYTES_MAX {
        return Err(RefusalReason::Claim("sub"));
    }
    Ok(Verified { user_id, claims, expires_at: typed.exp })
}

/// Returns the claim because of which a payload cannot be read: the first that alone is missing or of
/// the wrong type. Claims that are given twice are all that is left.
fn fault(claims: &Map<String, Value>) -> &'static str {
    let right = [
        ("sub", Value::from("u")),
        ("iat", Value::from(0)),
        ("exp", Value::from(0)),
        ("aud", Value::from("a")),
    ];

    for name in CHECKED {
        let mut others: Map<String, Value> =
            right.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        match claims.get(name) {
            Some(value) => others.insert(name.to_owned(), value.clone()),
            None => others.remove(name),
        };
        if Claims::deserialize(Value::Object(others)).is_err() {
            return name;
        }
    }
    "given twice"
}
