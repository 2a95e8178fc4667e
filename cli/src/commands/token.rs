//! `tidewater token`: prints a token for development.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::{Map, Value};

use crate::process::clock::unix_time;
use crate::process::data_dir;
use crate::terminal::duration;
use crate::terminal::failure::Failure;
use crate::tokens::claims::Claims;
use crate::tokens::dev_key::{self, DEV_AUDIENCE, SigningKey};

/// Maximum lifetime of a token. The sync API refuses tokens with a longer one.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Claims that the command's own flags set.
const RESERVED: [&str; 4] = ["sub", "iat", "exp", "aud"];

const EXAMPLES: &str = "\
Examples:
  A token for user u1, signed with the development key that `tidewater dev` created in .tidewater:
    tidewater token --user-id u1

  With a claim that the sync config reads by auth.parameter('org_id'), valid for ten minutes:
    tidewater token --user-id u1 --claims '{\"org_id\": \"acme\"}' --expires-in 10m

  Signed with your own symmetric key, for the audience of your sync API:
    tidewater token --user-id u1 --key jwks.json --audience my-app

Only the token is printed, so this works:
    curl -N -H \"Authorization: Bearer $(tidewater token --user-id u1)\" \\
      -d '{}' -H 'Content-Type: application/json' http://127.0.0.1:8080/sync/stream";

/// Print a JWT for development, signed with a symmetric key
///
/// In production your own backend issues tokens. See docs/tokens.md.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TokenArgs {
    /// User id: the token's `sub`, and `auth.user_id()` in the sync config
    #[arg(long, env = "TIDEWATER_USER_ID", value_name = "U")]
    user_id: String,
    /// Further claims, as a JSON object
    #[arg(long, env = "TIDEWATER_CLAIMS", value_name = "JSON", value_parser = parse_claims)]
    claims: Option<Map<String, Value>>,
    /// Value of the token's `aud`. Repeatable
    #[arg(long, env = "TIDEWATER_AUDIENCE", value_name = "AUD", value_delimiter = ',',
          default_value = DEV_AUDIENCE, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    audience: Vec<String>,
    /// Lifetime of the token: 90s, 15m, 1h. At most a day
    #[arg(long, env = "TIDEWATER_EXPIRES_IN", value_name = "TIME", default_value = "1h",
          value_parser = parse_lifetime)]
    expires_in: Duration,
    /// Data directory of `tidewater dev`, which holds the development key
    #[arg(long, env = "TIDEWATER_DATA_DIR", value_name = "DIR", default_value = data_dir::DEFAULT)]
    data_dir: PathBuf,
    /// File with a JWK Set that has a symmetric key, used instead of the development key
    #[arg(long, env = "TIDEWATER_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Prints a token to stdout.
pub(crate) fn run(args: &TokenArgs) -> Result<(), Failure> {
    let key = signing_key(args).map_err(Failure::usage)?;
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
            "there is no development key in '{}': `tidewater dev` without --jwks creates one; or \
             name its directory with --data-dir, or your own key with --key",
            args.data_dir.display()
        ));
    }
    SigningKey::read(&file)
}

fn parse_claims(text: &str) -> Result<Map<String, Value>, String> {
    let claims: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))?;
    match RESERVED.iter().find(|name| claims.contains_key(**name)) {
        Some(name) => Err(format!("'{name}' is set by another flag of this command")),
        None => Ok(claims),
    }
}

fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = duration::parse(text)?;
    if lifetime.is_zero() || lifetime > LIFETIME_MAX {
        return Err("a token is valid for at least a second and at most a day (24h)".to_owned());
    }
    Ok(lifetime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        parse_lifetime(text).ok().map(|time| time.as_secs())
    }

    #[test]
    fn lifetimes_have_a_unit_and_a_limit() {
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("15m"), Some(900));
        assert_eq!(seconds("1d"), Some(86_400));
        for bad in ["", "1", "h", "-1h", "0s", "25h", "1w", "1.5h", "18446744073709551615d"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn claims_that_flags_set_are_refused() {
        assert!(parse_claims(r#"{"org":"a"}"#).is_ok());
        for bad in [r#"{"sub":"x"}"#, r#"{"exp":1}"#, "[]", "7", "{"] {
            assert!(parse_claims(bad).is_err(), "{bad}");
        }
    }
}
