//! Connection strings: what libpq means by them, for both of our drivers.

use std::path::PathBuf;

use tidewater_protocol::ErrorChain;

/// What a connection string looks like.
const FORM: &str = "It has the form postgres://user:password@host:5432/database, with any of @ : / % \
    in the password written as %40 %3A %2F %25";

/// A connection string that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DsnError {
    /// It is not one.
    #[error("the database URL cannot be read: {0}. {FORM}")]
    Syntax(String),
    /// `sslmode` has a value that we do not offer.
    #[error(
        "sslmode={0} is not supported: use disable, require, verify-ca or verify-full (the default)"
    )]
    SslMode(String),
    /// Something is missing that both drivers need.
    #[error("the database URL names no {0}. {FORM}")]
    Missing(&'static str),
}

/// How the server is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    /// Encrypted, but with whoever answers.
    Require,
    /// The certificate's issuer is checked, its name is not.
    VerifyCa,
    VerifyFull,
}

/// A parsed connection string.
#[derive(Clone, Debug)]
pub(crate) struct Dsn {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) ssl_mode: SslMode,
    pub(crate) ssl_root_cert: Option<PathBuf>,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) database: String,
}

impl Dsn {
    /// Reads `postgresql://...` or `key=value ...`.
    pub(crate) fn parse(text: &str) -> Result<Self, DsnError> {
        let (rest, options) = if text.starts_with("postgres") && text.contains("://") {
            split_url(text)?
        } else {
            split_pairs(text)
        };
        let config: tokio_postgres::Config =
            rest.parse().map_err(|error| DsnError::Syntax(ErrorChain(&error).to_string()))?;
        let host = match config.get_hosts().first().ok_or(DsnError::Missing("host"))? {
            tokio_postgres::config::Host::Tcp(name) => name.clone(),
            tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
        };
        let user = config.get_user().ok_or(DsnError::Missing("user"))?.to_owned();
        let database = config.get_dbname().unwrap_or(&user).to_owned();
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let ssl_mode = if host.starts_with('/') {
            SslMode::Disable
        } else {
            ssl_mode(options.mode.as_deref())?
        };
        let ssl_root_cert = options.root_cert.map(PathBuf::from);
        Ok(Self { config, ssl_mode, ssl_root_cert, host, port, user, database })
    }
}

#[derive(Default)]
struct SslOptions {
    mode: Option<String>,
    root_cert: Option<String>,
}

impl SslOptions {
    /// Takes the options that tokio-postgres does not know; says whether it took this one.
    fn take(&mut self, key: &str, value: &str) -> bool {
        match key {
            "sslmode" => self.mode = Some(value.to_owned()),
            "sslrootcert" => self.root_cert = Some(value.to_owned()),
            _ => return false,
        }
        true
    }
}

fn ssl_mode(mode: Option<&str>) -> Result<SslMode, DsnError> {
    match mode {
        None | Some("verify-full") => Ok(SslMode::VerifyFull),
        Some("disable") => Ok(SslMode::Disable),
        Some("require") => Ok(SslMode::Require),
        Some("verify-ca") => Ok(SslMode::VerifyCa),
        Some(other) => Err(DsnError::SslMode(other.to_owned())),
    }
}

fn split_url(text: &str) -> Result<(String, SslOptions), DsnError> {
    let mut url = url::Url::parse(text).map_err(|error| DsnError::Syntax(error.to_string()))?;
    let mut options = SslOptions::default();
    let kept: Vec<_> = url
        .query_pairs()
        .filter(|(key, value)| !options.take(key, value))
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    if kept.is_empty() {
        url.set_query(None);
    } else {
        url.query_pairs_mut().clear().extend_pairs(kept);
    }
    Ok((url.to_string(), options))
}

fn split_pairs(text: &str) -> (String, SslOptions) {
    let mut options = SslOptions::default();
    let kept: Vec<_> = text
        .split_whitespace()
        .filter(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            !options.take(key, value.trim_matches('\''))
        })
        .collect();
    (kept.join(" "), options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, mode: SslMode, host: &str, port: u16, database: &str) {
        let dsn = Dsn::parse(text).unwrap();
        let seen = (dsn.ssl_mode, &*dsn.host, dsn.port, &*dsn.database);
        assert_eq!(seen, (mode, host, port, database), "{text}");
    }

    #[test]
    fn verify_full_is_the_default() {
        check(
            "postgresql://u:p@db.example:5433/app",
            SslMode::VerifyFull,
            "db.example",
            5433,
            "app",
        );
        check("host=db user=u", SslMode::VerifyFull, "db", 5432, "u");
    }

    #[test]
    fn ssl_options_are_ours_and_the_rest_is_the_drivers() {
        let dsn = "postgres://u@h/app?sslmode=verify-ca&connect_timeout=3&sslrootcert=/ca.pem";
        check(dsn, SslMode::VerifyCa, "h", 5432, "app");
        assert_eq!(Dsn::parse(dsn).unwrap().ssl_root_cert, Some("/ca.pem".into()));
        check("host=h user=u dbname=app sslmode=disable", SslMode::Disable, "h", 5432, "app");
    }

    #[test]
    fn a_socket_needs_no_tls() {
        check("host=/run/pg user=u dbname=app", SslMode::Disable, "/run/pg", 5432, "app");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |text| Dsn::parse(text).unwrap_err().to_string();
        assert!(error("postgres://u@h/app?sslmode=prefer").contains("sslmode=prefer"));
        assert!(error("dbname=app user=u").starts_with("the database URL names no host. It has"));
        assert!(error("host=h").starts_with("the database URL names no user. It has the form"));
        assert!(error("nonsense").starts_with("the database URL cannot be read"));
        assert!(error("nonsense").contains("postgres://user:password@host"));
    }
}
