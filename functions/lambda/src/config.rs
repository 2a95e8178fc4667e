//! The settings of the functions: environment variables, read once at each cold start.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tidewater_functions::Authenticator;
use tidewater_storage_aws::AwsConfig;

/// Looks a variable up.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What the sync API is told.
pub struct ApiConfig {
    /// Its store.
    pub store: AwsConfig,
    /// Whose tokens it takes.
    pub auth: Authenticator,
    /// How long a stream is held once its client is up to date.
    pub keep_open: Duration,
}

/// What the snapshot builder is told.
#[derive(Debug)]
pub struct BuilderConfig {
    /// Its store.
    pub store: AwsConfig,
    /// A bucket gets a base snapshot once it holds so many live rows.
    pub snapshot_threshold: u64,
}

impl ApiConfig {
    /// From the environment of the process.
    ///
    /// # Errors
    /// Names the variable that is missing or cannot be used.
    pub fn from_env() -> Result<Self> {
        Self::read(&variable)
    }

    fn read(lookup: Lookup<'_>) -> Result<Self> {
        let keep_open = match lookup("TIDEWATER_HOLD") {
            None => Duration::ZERO,
            Some(text) => seconds(&text).context("TIDEWATER_HOLD cannot be used")?,
        };
        Ok(Self { store: store(lookup)?, auth: auth(lookup)?, keep_open })
    }
}

impl BuilderConfig {
    /// From the environment of the process.
    ///
    /// # Errors
    /// Names the variable that is missing or cannot be used.
    pub fn from_env() -> Result<Self> {
        Self::read(&variable)
    }

    fn read(lookup: Lookup<'_>) -> Result<Self> {
        let threshold = required(lookup, "TIDEWATER_SNAPSHOT_THRESHOLD")?;
        let snapshot_threshold = threshold.parse().with_context(|| {
            format!("TIDEWATER_SNAPSHOT_THRESHOLD must be a number of rows, not '{threshold}'")
        })?;
        Ok(Self { store: store(lookup)?, snapshot_threshold })
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn required(lookup: Lookup<'_>, name: &str) -> Result<String> {
    lookup(name).filter(|value| !value.is_empty()).with_context(|| format!("{name} is not set"))
}

fn store(lookup: Lookup<'_>) -> Result<AwsConfig> {
    Ok(AwsConfig {
        prefix: required(lookup, "TIDEWATER_TABLE_PREFIX")?,
        bucket_name: required(lookup, "TIDEWATER_BUCKET")?,
    })
}

/// `TIDEWATER_JWKS` is the text of a JWK Set, or a list of URLs of such sets.
fn auth(lookup: Lookup<'_>) -> Result<Authenticator> {
    let jwks = required(lookup, "TIDEWATER_JWKS")?;
    let audiences = listed(&required(lookup, "TIDEWATER_AUDIENCE")?);
    let built = if jwks.trim_start().starts_with('{') {
        Authenticator::new(&[jwks], audiences)
    } else {
        Authenticator::with_urls(&[] as &[&str], &listed(&jwks), audiences)
    };
    let auth = built.context("the keys of TIDEWATER_JWKS cannot be used")?;
    Ok(match lookup("TIDEWATER_ISSUER").filter(|issuer| !issuer.is_empty()) {
        Some(issuer) => auth.with_issuer(issuer),
        None => auth,
    })
}

fn listed(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

fn seconds(text: &str) -> Result<Duration> {
    let Ok(number) = text.trim_end_matches('s').parse() else {
        bail!("'{text}' is not a number of seconds");
    };
    Ok(Duration::from_secs(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = r#"{"keys":[{"kty":"oct","kid":"k1","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQ"}]}"#;
    const COMPLETE: [(&str, &str); 5] = [
        ("TIDEWATER_TABLE_PREFIX", "app"),
        ("TIDEWATER_BUCKET", "app-objects"),
        ("TIDEWATER_JWKS", SET),
        ("TIDEWATER_AUDIENCE", "one, two"),
        ("TIDEWATER_SNAPSHOT_THRESHOLD", "500"),
    ];

    /// The complete environment, with one variable changed or (`None`) missing.
    fn but(name: &'static str, value: Option<&'static str>) -> impl Fn(&str) -> Option<String> {
        move |asked| {
            if asked == name {
                return value.map(str::to_owned);
            }
            COMPLETE.iter().find(|(name, _)| *name == asked).map(|(_, value)| (*value).to_owned())
        }
    }

    fn api_error(name: &'static str, value: Option<&'static str>) -> String {
        format!("{:#}", ApiConfig::read(&but(name, value)).err().unwrap())
    }

    #[test]
    fn a_complete_environment_is_read() {
        let config = ApiConfig::read(&but("", None)).unwrap();
        assert_eq!((config.store.prefix.as_str(), config.keep_open), ("app", Duration::ZERO));
        assert_eq!(config.store.bucket_name, "app-objects");
        assert_eq!(BuilderConfig::read(&but("", None)).unwrap().snapshot_threshold, 500);
    }

    #[test]
    fn what_is_missing_is_named() {
        for name in ["TABLE_PREFIX", "BUCKET", "JWKS", "AUDIENCE"] {
            let name: &'static str = format!("TIDEWATER_{name}").leak();
            assert_eq!(api_error(name, None), format!("{name} is not set"));
            assert_eq!(api_error(name, Some("")), format!("{name} is not set"));
        }
        let lookup = but("TIDEWATER_SNAPSHOT_THRESHOLD", None);
        let error = BuilderConfig::read(&lookup).unwrap_err().to_string();
        assert_eq!(error, "TIDEWATER_SNAPSHOT_THRESHOLD is not set");
    }

    #[test]
    fn what_cannot_be_used_is_named_and_keys_are_not_told() {
        assert!(api_error("TIDEWATER_HOLD", Some("soon")).contains("TIDEWATER_HOLD"));
        let error = api_error("TIDEWATER_JWKS", Some(r#"{"keys":[{"kty":"oct","k":"!secret"}]}"#));
        assert!(error.contains("TIDEWATER_JWKS") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn the_hold_time_is_in_seconds() {
        for (text, expected) in [("0", 0), ("0s", 0), ("45", 45), ("45s", 45)] {
            let config = ApiConfig::read(&but("TIDEWATER_HOLD", Some(text))).unwrap();
            assert_eq!(config.keep_open.as_secs(), expected);
        }
    }

    #[test]
    fn keys_may_be_published_elsewhere() {
        let urls = "https://login.example.com/jwks.json, https://other.example.com/keys";
        assert!(ApiConfig::read(&but("TIDEWATER_JWKS", Some(urls))).is_ok());
        let error = api_error("TIDEWATER_JWKS", Some("ftp://example.com/keys"));
        assert!(error.contains("TIDEWATER_JWKS"), "{error}");
    }
}
