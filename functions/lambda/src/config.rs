//! The settings of the functions: environment variables, which each cold start reads once.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tidewater_functions::{
    Authenticator, BUCKETS_MAX, DEFAULT_BUCKETS_MAX, DEFAULT_MAX_STALENESS, Quotas,
};
use tidewater_storage_aws::AwsConfig;

/// Returns the value of a variable, if it is set.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The settings of the sync API.
pub struct ApiConfig {
    /// The store.
    pub store: AwsConfig,
    /// Checks tokens.
    pub auth: Authenticator,
    /// Time that a stream stays open once its client is up to date.
    pub keep_open: Duration,
    /// True if Lambda collects an answer, and sends it when it is complete.
    pub is_buffered: bool,
    /// Maximum length of an answer with lines, in bytes.
    pub answer_bytes_max: usize,
    /// Bound of the readiness probe.
    pub max_staleness: Duration,
    /// Bounds on what one client may use.
    pub quotas: Quotas,
    /// The function's name, for metrics.
    pub function: String,
}

/// Maximum length of a streamed answer, in bytes. Lambda cuts one of more than 200 MB.
const STREAMED_BYTES_MAX: usize = 199_000_000;

/// Minimum of the setting: an answer must have room for its checkpoint line.
const ANSWER_BYTES_MIN: usize = 100_000;

/// Maximum length of the lines of a buffered answer, in bytes. Lambda takes an answer of 6 MB (6,291,556
/// bytes), in which the lines are Base64, so that they grow by a third. Headers have some kilobytes.
const BUFFERED_BYTES_MAX: usize = 4_600_000;

/// The settings of the snapshot builder.
#[derive(Debug)]
pub struct BuilderConfig {
    /// The store.
    pub store: AwsConfig,
    /// Number of current rows from which a bucket gets a base.
    pub snapshot_threshold: u64,
    /// The function's name, for metrics.
    pub function: String,
}

impl ApiConfig {
    /// Reads the environment of the process.
    ///
    /// # Errors
    /// When a variable is missing or cannot be used. The error names it.
    pub fn from_env() -> Result<Self> {
        Self::read(&variable)
    }

    fn read(lookup: Lookup<'_>) -> Result<Self> {
        let keep_open = match lookup("TIDEWATER_HOLD") {
            None => Duration::ZERO,
            Some(text) => seconds(&text).context("TIDEWATER_HOLD is not valid")?,
        };
        let max_staleness = match lookup("TIDEWATER_MAX_STALENESS") {
            None => DEFAULT_MAX_STALENESS,
            Some(text) => seconds(&text).context("TIDEWATER_MAX_STALENESS is not valid")?,
        };
        let max_buckets = match lookup("TIDEWATER_MAX_BUCKETS") {
            None => DEFAULT_BUCKETS_MAX,
            Some(text) => count(&text).context("TIDEWATER_MAX_BUCKETS is not valid")?,
        };
        let is_buffered = match lookup("TIDEWATER_INVOKE_MODE").as_deref() {
            None | Some("RESPONSE_STREAM") => false,
            Some("BUFFERED") => true,
            Some(other) => {
                bail!("TIDEWATER_INVOKE_MODE must be RESPONSE_STREAM or BUFFERED, not '{other}'")
            }
        };
        let lambdas_max = if is_buffered { BUFFERED_BYTES_MAX } else { STREAMED_BYTES_MAX };
        let answer_bytes_max = match lookup("TIDEWATER_ANSWER_BYTES_MAX") {
            None => lambdas_max,
            Some(text) => {
                bytes(&text, lambdas_max).context("TIDEWATER_ANSWER_BYTES_MAX is not valid")?
            }
        };
        Ok(Self {
            store: store(lookup)?,
            auth: auth(lookup)?,
            keep_open,
            is_buffered,
            answer_bytes_max,
            max_staleness,
            quotas: Quotas::for_buckets(max_buckets),
            function: function(lookup),
        })
    }
}

impl BuilderConfig {
    /// Reads the environment of the process.
    ///
    /// # Errors
    /// When a variable is missing or cannot be used. The error names it.
    pub fn from_env() -> Result<Self> {
        Self::read(&variable)
    }

    fn read(lookup: Lookup<'_>) -> Result<Self> {
        let threshold = required(lookup, "TIDEWATER_SNAPSHOT_THRESHOLD")?;
        let snapshot_threshold = threshold.parse().with_context(|| {
            format!("TIDEWATER_SNAPSHOT_THRESHOLD must be a number of rows, not '{threshold}'")
        })?;
        Ok(Self { store: store(lookup)?, snapshot_threshold, function: function(lookup) })
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

/// Returns the name that Lambda gives the function. Outside Lambda there is none.
fn function(lookup: Lookup<'_>) -> String {
    lookup("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|| "unknown".to_owned())
}

/// Reads the settings of authentication. `TIDEWATER_JWKS` is the text of a JWK Set, or a list of URLs
/// of such sets.
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

/// Splits a comma-separated list.
fn listed(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
}

/// Parses a number of buckets.
fn count(text: &str) -> Result<usize> {
    match text.parse() {
        Ok(count @ 1..=BUCKETS_MAX) => Ok(count),
        Ok(_) | Err(_) => bail!("'{text}' is not a number from 1 to {BUCKETS_MAX}"),
    }
}

/// Parses a number of bytes.
fn bytes(text: &str, max: usize) -> Result<usize> {
    match text.parse() {
        Ok(bytes) if (ANSWER_BYTES_MIN..=max).contains(&bytes) => Ok(bytes),
        Ok(_) | Err(_) => bail!("'{text}' is not a number from {ANSWER_BYTES_MIN} to {max}"),
    }
}

/// Parses a number of seconds, with or without an `s`.
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

    /// Returns the complete environment with one variable changed or, for `None`, missing.
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
    fn an_error_names_the_missing_variable() {
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
    fn an_error_names_the_invalid_variable_and_shows_no_key() {
        assert!(api_error("TIDEWATER_HOLD", Some("soon")).contains("TIDEWATER_HOLD"));
        let error = api_error("TIDEWATER_JWKS", Some(r#"{"keys":[{"kty":"oct","k":"!secret"}]}"#));
        assert!(error.contains("TIDEWATER_JWKS") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn the_keep_open_time_is_in_seconds() {
        for (text, expected) in [("0", 0), ("0s", 0), ("45", 45), ("45s", 45)] {
            let config = ApiConfig::read(&but("TIDEWATER_HOLD", Some(text))).unwrap();
            assert_eq!(config.keep_open.as_secs(), expected);
        }
    }

    #[test]
    fn the_invoke_mode_is_that_of_the_function_url() {
        let mode = |text| ApiConfig::read(&but("TIDEWATER_INVOKE_MODE", text));
        for (text, is_buffered) in
            [(None, false), (Some("RESPONSE_STREAM"), false), (Some("BUFFERED"), true)]
        {
            assert_eq!(mode(text).unwrap().is_buffered, is_buffered);
        }
        let error = api_error("TIDEWATER_INVOKE_MODE", Some("STREAM"));
        assert!(error.contains("TIDEWATER_INVOKE_MODE"), "{error}");
    }

    #[test]
    fn an_answer_is_never_longer_than_lambda_sends() {
        let limit = |mode, limit: Option<&'static str>| {
            let lookup = move |name: &str| match name {
                "TIDEWATER_INVOKE_MODE" => Some(str::to_owned(mode)),
                "TIDEWATER_ANSWER_BYTES_MAX" => limit.map(str::to_owned),
                other => but("", None)(other),
            };
            ApiConfig::read(&lookup).map(|config| config.answer_bytes_max)
        };
        // 200 MB, and 6 MB of Base64.
        assert!(limit("RESPONSE_STREAM", None).unwrap() < 200_000_000);
        assert!(limit("BUFFERED", None).unwrap() / 3 * 4 < 6_200_000);

        assert_eq!(limit("RESPONSE_STREAM", Some("20000000")).unwrap(), 20_000_000);
        for (mode, invalid) in
            [("BUFFERED", "20000000"), ("RESPONSE_STREAM", "200000001"), ("BUFFERED", "1")]
        {
            let error = format!("{:#}", limit(mode, Some(invalid)).unwrap_err());
            assert!(error.contains("TIDEWATER_ANSWER_BYTES_MAX"), "{error}");
        }
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let buckets = |text| ApiConfig::read(&but("TIDEWATER_MAX_BUCKETS", Some(text)));
        assert_eq!(ApiConfig::read(&but("", None)).unwrap().quotas.buckets_max, 1_000);
        assert_eq!(buckets("50000").unwrap().quotas.buckets_max, 50_000);
        for invalid in ["0", "50001", "many"] {
            let error = api_error("TIDEWATER_MAX_BUCKETS", Some(invalid));
            assert!(error.contains("TIDEWATER_MAX_BUCKETS"), "{error}");
        }
    }

    #[test]
    fn keys_may_be_given_by_url() {
        let urls = "https://login.example.com/jwks.json, https://other.example.com/keys";
        assert!(ApiConfig::read(&but("TIDEWATER_JWKS", Some(urls))).is_ok());
        let error = api_error("TIDEWATER_JWKS", Some("ftp://example.com/keys"));
        assert!(error.contains("TIDEWATER_JWKS"), "{error}");
    }
}
