//! `tidewater token`: a token for development.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use clap::Args;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value, json};

use crate::dev_key::{self, DEV_AUDIENCE, SigningKey};
use crate::duration;
use crate::failure::Failure;

/// The sync API refuses tokens that live longer.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Claims that this command sets itself.
const RESERVED: [&str; 4] = ["sub", "iat", "exp", "aud"];

const EXAMPLES: &str = "\
Examples:
  A token for user u1, signed with the key that `tidewater dev` made in .tidewater:
    tidewater token --user-id u1

  With claims that the sync config reads by auth.parameter('org_id'), for ten minutes:
    tidewater token --user-id u1 --claims '{\"org_id\": \"acme\"}' --expires-in 10m

  Signed with your own symmetric key, for the audience the API was started with:
    tidewater token --user-id u1 --key jwks.json --audience my-app

Nothing but the token is printed, so this works:
    curl -N -H \"Authorization: Bearer $(tidewater token --user-id u1)\" \\
      -d '{}' -H 'Content-Type: application/json' http://127.0.0.1:8080/sync/stream";

/// Print a JWT for development, signed with a symmetric key
///
/// In production your own backend makes the tokens; see docs/tokens.md.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TokenArgs {
    /// The user: the token's `sub`, in the sync config `auth.user_id()`
    #[arg(long, env = "TIDEWATER_USER_ID", value_name = "U")]
    user_id: String,
    /// More claims: a JSON object
    #[arg(long, env = "TIDEWATER_CLAIMS", value_name = "JSON", value_parser = parse_claims)]
    claims: Option<Map<String, Value>>,
    /// The token's `aud`; may be repeated
    #[arg(long, env = "TIDEWATER_AUDIENCE", value_name = "AUD", value_delimiter = ',',
          default_value = DEV_AUDIENCE, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    audience: Vec<String>,
    /// How long it is valid: 90s, 15m, 1h; a day at most
    #[arg(long, env = "TIDEWATER_EXPIRES_IN", value_name = "TIME", default_value = "1h",
          value_parser = parse_lifetime)]
    expires_in: Duration,
    /// The data directory of `tidewater dev`, which holds the development key
    #[arg(long, env = "TIDEWATER_DATA_DIR", value_name = "DIR", default_value = ".tidewater")]
    data_dir: PathBuf,
    /// A JWK Set file with a symmetric key, instead of the development key
    #[arg(long, env = "TIDEWATER_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Prints a token on stdout.
pub(crate) fn run(args: &TokenArgs) -> Result<(), Failure> {
    let key = signing_key(args).map_err(Failure::wrong)?;
    let claims = Claims {
        user_id: &args.user_id,
        audience: &args.audience,
        lifetime: args.expires_in,
        more: args.claims.clone().unwrap_or_default(),
    };
    let token = claims.sign(&key, unix_time()?)?;
    writeln!(std::io::stdout(), "{token}").context("cannot write to stdout")?;
    Ok(())
}

fn signing_key(args: &TokenArgs) -> anyhow::Result<SigningKey> {
    if let Some(file) = &args.key {
        return SigningKey::read(file);
    }
    let file = dev_key::path(&args.data_dir);
    if !file.exists() {
        return Err(anyhow!(
            "there is no development key in '{}': `tidewater dev` without --jwks makes one; or \
             name its directory with --data-dir, or a key of your own with --key",
            args.data_dir.display()
        ));
    }
    SigningKey::read(&file)
}

/// What a token says.
pub(crate) struct Claims<'a> {
    pub(crate) user_id: &'a str,
    pub(crate) audience: &'a [String],
    pub(crate) lifetime: Duration,
    pub(crate) more: Map<String, Value>,
}

impl Claims<'_> {
    /// A token that is valid from `now` (since 1970) on.
    pub(crate) fn sign(self, key: &SigningKey, now: Duration) -> anyhow::Result<String> {
        let mut claims = self.more;
        let audience = match self.audience {
            [one] => json!(one),
            several => json!(several),
        };
        claims.insert("sub".to_owned(), json!(self.user_id));
        claims.insert("aud".to_owned(), audience);
        claims.insert("iat".to_owned(), json!(now.as_secs()));
        claims.insert("exp".to_owned(), json!((now + self.lifetime).as_secs()));
        let header = Header { kid: key.kid.clone(), ..Header::new(key.algorithm) };
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&key.secret))
            .context("cannot sign the token")
    }
}

/// Time since 1970.
#[expect(clippy::disallowed_methods, reason = "tokens name wall-clock times")]
pub(crate) fn unix_time() -> anyhow::Result<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")
}

fn parse_claims(text: &str) -> Result<Map<String, Value>, String> {
    let claims: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
    match RESERVED.iter().find(|name| claims.contains_key(**name)) {
        Some(name) => Err(format!("'{name}' is set by this command's own flags")),
        None => Ok(claims),
    }
}

fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = duration::parse(text)?;
    if lifetime.is_zero() || lifetime > LIFETIME_MAX {
        return Err("a token lives at least a second and at most a day (24h)".to_owned());
    }
    Ok(lifetime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_have_a_unit_and_a_bound() {
        let seconds = |text| parse_lifetime(text).map(|time| time.as_secs()).ok();
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("15m"), Some(900));
        assert_eq!(seconds("1d"), Some(86_400));
        for bad in ["", "1", "h", "-1h", "0s", "25h", "1w", "1.5h", "18446744073709551615d"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn claims_cannot_contradict_flags() {
        assert!(parse_claims(r#"{"org":"a"}"#).is_ok());
        for bad in [r#"{"sub":"x"}"#, r#"{"exp":1}"#, "[]", "7", "{"] {
            assert!(parse_claims(bad).is_err(), "{bad}");
        }
    }
}
