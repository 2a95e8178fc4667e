//! Connection strings, with the meaning that libpq gives them, for both of our drivers.

use std::net::IpAddr;
use std::path::PathBuf;

use tokio_postgres::config::Host;

use crate::source::database::{Database, Login, Passwords};

/// Form of a connection string, part of every error about one.
const FORM: &str = "it has the form postgres://user:password@host:5432/database, with any of @ : / % \
    in the password written as %40 %3A %2F %25";

/// Error of a connection string that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DsnError {
    /// The text is no connection string.
    #[error("the database URL cannot be read: {FORM}")]
    Syntax(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// `sslmode` has a value that is not supported.
    #[error(
        "sslmode={0} is not supported: use disable (the default on this machine), require, verify-ca or \
         verify-full (the default for other hosts)"
    )]
    SslMode(String),
    /// A part is missing that both drivers need.
    #[error("the database URL names no {0}: {FORM}")]
    Missing(&'static str),
    /// There are two passwords.
    #[error(
        "the database URL has a password, but each session gets one that is made for it: remove it"
    )]
    TwoPasswords,
    /// A password that grants access by itself would travel unencrypted.
    #[error("sslmode=disable would send the password of the session unencrypted to {0}: remove it")]
    UnencryptedPassword(String),
}

/// Authentication of the server, as in libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SslMode {
    /// Not encrypted.
    Disable,
    /// Encrypted, but with any server that answers.
    Require,
    /// The issuer of the certificate is verified, the host name is not.
    VerifyCa,
    /// Issuer and host name are verified.
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
    pub(crate) passwords: Option<Passwords>,
}

/// Returns the URI of a database without its password and its options, for people; `None` if its
/// connection string cannot be read.
#[must_use]
pub fn display_uri(database: &Database) -> Option<String> {
    let dsn = Dsn::of(database).ok()?;
    Some(format!("postgresql://{}@{}:{}/{}", dsn.user, dsn.host, dsn.port, dsn.database))
}

impl Dsn {
    /// Parses the connection string of a database. Passwords that are made for a session travel by TLS,
    /// unless the connection string says otherwise and cannot leave this machine.
    pub(crate) fn of(database: &Database) -> Result<Self, DsnError> {
        let Some(passwords) = database.passwords() else { return Self::parse(database.url()) };
        let dsn = Self::parse_with_default(database.url(), |_| SslMode::VerifyFull)?;
        if dsn.config.get_password().is_some() {
            return Err(DsnError::TwoPasswords);
        }
        if dsn.ssl_mode == SslMode::Disable && !is_local(&dsn.config) {
            return Err(DsnError::UnencryptedPassword(dsn.address()));
        }
        Ok(Self { passwords: Some(passwords.clone()), ..dsn })
    }

    /// Parses `postgresql://...` or `key=value ...`.
    pub(crate) fn parse(text: &str) -> Result<Self, DsnError> {
        Self::parse_with_default(text, |config| {
            if is_local(config) { SslMode::Disable } else { SslMode::VerifyFull }
        })
    }

    /// Parses a connection string whose mode is `default_mode` unless it names one.
    fn parse_with_default(
        text: &str,
        default_mode: impl FnOnce(&tokio_postgres::Config) -> SslMode,
    ) -> Result<Self, DsnError> {
        let is_url = text.starts_with("postgres") && text.contains("://");
        let (rest, options) = if is_url { split_url(text)? } else { split_pairs(text) };
        let config: tokio_postgres::Config =
            rest.parse().map_err(|error: tokio_postgres::Error| DsnError::Syntax(error.into()))?;

        let host = match config.get_hosts().first().ok_or(DsnError::Missing("host"))? {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        let user = config.get_user().ok_or(DsnError::Missing("user"))?.to_owned();
        let database = config.get_dbname().unwrap_or(&user).to_owned();
        let port = config.get_ports().first().copied().unwrap_or(5432);

        let ssl_mode = match options.mode.as_deref() {
            // PostgreSQL has no TLS on a Unix socket, which starts with a slash.
            _ if host.starts_with('/') => SslMode::Disable,
            Some(mode) => parse_ssl_mode(mode)?,
            None => default_mode(&config),
        };
        let ssl_root_cert = options.root_cert.map(PathBuf::from);
        Ok(Self { config, ssl_mode, ssl_root_cert, host, port, user, database, passwords: None })
    }

    /// Returns what a password for a session is made from.
    pub(crate) fn login(&self) -> Login {
        Login { host: self.host.clone(), port: self.port, user: self.user.clone() }
    }

    /// Returns `host:port`, for people.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// TLS options of a connection string, which tokio-postgres does not know.
#[derive(Default)]
struct SslOptions {
    mode: Option<String>,
    root_cert: Option<String>,
}

impl SslOptions {
    /// Takes the option if it is one of ours, and returns whether it is.
    fn take(&mut self, key: &str, value: &str) -> bool {
        match key {
            "sslmode" => self.mode = Some(value.to_owned()),
            "sslrootcert" => self.root_cert = Some(value.to_owned()),
            _ => return false,
        }
        true
    }
}

fn parse_ssl_mode(mode: &str) -> Result<SslMode, DsnError> {
    match mode {
        "verify-full" => Ok(SslMode::VerifyFull),
        "disable" => Ok(SslMode::Disable),
        "require" => Ok(SslMode::Require),
        "verify-ca" => Ok(SslMode::VerifyCa),
        other => Err(DsnError::SslMode(other.to_owned())),
    }
}

/// Returns whether a connection cannot leave this machine: then nobody on a network can read it or
/// answer in the server's place.
fn is_local(config: &tokio_postgres::Config) -> bool {
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        // The address is what is connected to; the host is only its name.
        return addresses.iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
    })
}

/// Splits a URL into one without our options, and these.
///
/// The other parameters keep their encoding: libpq and the driver decode `%20` and take `+` for a
/// plus sign, where a form encoder would write a space as `+`.
fn split_url(text: &str) -> Result<(String, SslOptions), DsnError> {
    let mut url = url::Url::parse(text).map_err(|error| DsnError::Syntax(error.into()))?;
    let mut options = SslOptions::default();
    let kept: Vec<_> = url
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .filter(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            !options.take(&percent_decode(key), &percent_decode(value))
        })
        .map(str::to_owned)
        .collect();

    let query = (!kept.is_empty()).then(|| kept.join("&"));
    url.set_query(query.as_deref());
    Ok((url.to_string(), options))
}

fn percent_decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Splits `key=value ...` into a text without our options, and these. The other pairs keep their form.
fn split_pairs(text: &str) -> (String, SslOptions) {
    let mut options = SslOptions::default();
    let mut kept = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (pair, following) = rest.split_at(pair_length(rest));
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !options.take(key.trim(), &unquoted(value.trim())) {
            kept.push(pair.trim_end());
        }
        rest = following.trim_start();
    }
    (kept.join(" "), options)
}

/// Returns the length of the pair that a text begins with. As in libpq, spaces may surround `=`, a value
/// in quotes may contain spaces, and a backslash takes the next character as it is.
fn pair_length(text: &str) -> usize {
    let Some(equals) = text.find('=') else { return text.len() };
    let value = &text[equals + 1..];
    let begin = equals + 1 + (value.len() - value.trim_start().len());

    let mut is_quoted = false;
    let mut is_escaped = false;
    for (at, letter) in text[begin..].char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '\'' => is_quoted = !is_quoted,
            _ if letter.is_whitespace() && !is_quoted => return begin + at,
            _ => {}
        }
    }
    text.len()
}

/// Returns a value without its quotes and backslashes.
fn unquoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {}
            '\\' => text.extend(letters.next()),
            _ => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;
    use std::error::Error;

    fn check(text: &str, mode: SslMode, host: &str, port: u16, database: &str) {
        let dsn = Dsn::parse(text).unwrap();
        let seen = (dsn.ssl_mode, &*dsn.host, dsn.port, &*dsn.database);
        assert_eq!(seen, (mode, host, port, database), "{text}");
    }

    #[test]
    fn verify_full_is_the_default_for_other_hosts() {
        let url = "postgresql://u:p@db.example:5433/app";
        check(url, SslMode::VerifyFull, "db.example", 5433, "app");
        check("postgres://u@h", SslMode::VerifyFull, "h", 5432, "u");
        check("host=db user=u", SslMode::VerifyFull, "db", 5432, "u");
        for host in ["10.0.0.7", "0.0.0.0", "128.0.0.1", "localhost.example", "127.0.0.1.example"] {
            check(&format!("postgres://u@{host}/d"), SslMode::VerifyFull, host, 5432, "d");
        }
        check("postgres://u@[fe80::1]/d", SslMode::VerifyFull, "fe80::1", 5432, "d");
    }

    #[test]
    fn a_host_on_this_machine_needs_no_tls_unless_it_is_asked_for() {
        for host in ["localhost", "LocalHost", "127.0.0.1", "127.8.9.10", "::1"] {
            check(&format!("host={host} user=u"), SslMode::Disable, host, 5432, "u");
            let text = format!("host={host} user=u sslmode=verify-full");
            check(&text, SslMode::VerifyFull, host, 5432, "u");
        }
    }

    /// The address is connected to, whatever the host is called.
    #[test]
    fn an_address_decides_before_the_name_and_the_farthest_of_several_hosts() {
        let far = "host=localhost hostaddr=10.0.0.7 user=u";
        check(far, SslMode::VerifyFull, "localhost", 5432, "u");
        let near = "host=db.example hostaddr=127.0.0.1 user=u";
        check(near, SslMode::Disable, "db.example", 5432, "u");
        let several = "host=localhost,db.example user=u";
        check(several, SslMode::VerifyFull, "localhost", 5432, "u");
    }

    #[test]
    fn each_mode_of_libpq_that_authenticates_or_is_explicit_is_known() {
        let modes = [
            ("disable", SslMode::Disable),
            ("require", SslMode::Require),
            ("verify-ca", SslMode::VerifyCa),
            ("verify-full", SslMode::VerifyFull),
        ];
        for (name, mode) in modes {
            check(&format!("postgres://u@h/d?sslmode={name}"), mode, "h", 5432, "d");
            check(&format!("host=h user=u dbname=d sslmode={name}"), mode, "h", 5432, "d");
            check(&format!("host=h user=u dbname=d sslmode='{name}'"), mode, "h", 5432, "d");
        }
    }

    #[test]
    fn ssl_options_are_ours_and_the_rest_is_the_drivers() {
        let text = "postgres://u@h/app?sslmode=verify-ca&connect_timeout=3&sslrootcert=/ca.pem";
        check(text, SslMode::VerifyCa, "h", 5432, "app");
        let dsn = Dsn::parse(text).unwrap();
        assert_eq!(dsn.ssl_root_cert, Some("/ca.pem".into()));
        let timeout = dsn.config.get_connect_timeout();
        assert_eq!(timeout, Some(&std::time::Duration::from_secs(3)));
    }

    #[test]
    fn options_reach_the_server_as_libpq_passes_them() {
        for (query, options) in [
            ("options=-c%20search_path%3Dapp", "-c search_path=app"),
            ("options=-c%20geqo=off&sslmode=disable", "-c geqo=off"),
            ("sslmode=disable&options=-c%20a.b=1+1", "-c a.b=1+1"),
        ] {
            let dsn = Dsn::parse(&format!("postgres://u@h/app?{query}")).unwrap();
            assert_eq!(dsn.config.get_options(), Some(options), "{query}");
        }
    }

    #[test]
    fn quoted_values_of_pairs_may_contain_spaces_quotes_and_names_of_options() {
        let text = r"host = h user=u password='a  b sslmode=disable \' \\' dbname=d sslrootcert='/my ca.pem' sslmode = require";
        let dsn = Dsn::parse(text).unwrap();
        assert_eq!(dsn.config.get_password(), Some(&br"a  b sslmode=disable ' \"[..]));
        assert_eq!(dsn.ssl_root_cert, Some("/my ca.pem".into()));
        check(text, SslMode::Require, "h", 5432, "d");
    }

    #[test]
    fn an_encoded_ssl_option_is_decoded() {
        let dsn = Dsn::parse("postgres://u@h/app?sslrootcert=%2Fmy%20ca.pem").unwrap();
        assert_eq!(dsn.ssl_root_cert, Some("/my ca.pem".into()));
        assert_eq!(dsn.config.get_options(), None);
    }

    #[test]
    fn a_password_is_decoded_once() {
        let dsn = Dsn::parse("postgres://u:a%40b%3Ac%2Fd%25e@h/app?sslmode=disable").unwrap();
        assert_eq!(dsn.config.get_password(), Some(&b"a@b:c/d%e"[..]));
    }

    fn of_session_passwords(url: &str) -> Result<Dsn, DsnError> {
        let passwords = Passwords::new("", |_| Box::pin(async { Ok("token".to_owned()) }));
        Dsn::of(&Database::new(url).with_passwords(passwords))
    }

    #[test]
    fn a_password_of_a_session_travels_encrypted_unless_this_machine_says_otherwise() {
        for host in ["localhost", "127.0.0.1", "db.example"] {
            let dsn = of_session_passwords(&format!("postgres://u@{host}/d")).unwrap();
            assert_eq!(dsn.ssl_mode, SslMode::VerifyFull, "{host}");
        }
        let local = of_session_passwords("postgres://u@localhost/d?sslmode=disable").unwrap();
        assert_eq!(local.ssl_mode, SslMode::Disable);

        let refused = of_session_passwords("postgres://u@db.example/d?sslmode=disable");
        assert!(matches!(refused, Err(DsnError::UnencryptedPassword(_))), "{refused:?}");
        let refused = of_session_passwords("postgres://u:p@db.example/d");
        assert!(matches!(refused, Err(DsnError::TwoPasswords)), "{refused:?}");
    }

    #[test]
    fn a_unix_socket_needs_no_tls() {
        check("host=/run/pg user=u dbname=app", SslMode::Disable, "/run/pg", 5432, "app");
        // Even where it is asked for: libpq ignores the mode there.
        let text = "host=/run/pg user=u dbname=app sslmode=verify-full";
        check(text, SslMode::Disable, "/run/pg", 5432, "app");
    }

    #[test]
    fn an_unsupported_mode_is_named_with_those_that_are() {
        // These fall back to no encryption without telling.
        for mode in ["prefer", "allow", "Require", ""] {
            let error = Dsn::parse(&format!("postgres://u@h/app?sslmode={mode}")).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with(&format!("sslmode={mode} is not supported")), "{text}");
            assert!(text.contains("verify-full"));
        }
    }

    #[test]
    fn a_missing_part_is_named_with_the_form() {
        for (text, expected) in [
            ("dbname=app user=u", "the database URL names no host: it has"),
            ("host=h", "the database URL names no user: it has the form"),
            ("postgres:///app?sslmode=disable", "the database URL names no host"),
        ] {
            let error = Dsn::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
            assert!(error.contains("postgres://user:password@host"), "{error}");
        }
    }

    #[test]
    fn a_text_that_is_no_connection_string_keeps_its_cause_apart() {
        for text in ["nonsense", "postgres://u@h:notaport/d", "host=h user=u port=x", "a=b host=h"]
        {
            let error = Dsn::parse(text).unwrap_err();
            assert!(matches!(error, DsnError::Syntax(_)), "{text}: {error:?}");
            let cause = error.source().unwrap().to_string();
            assert!(!error.to_string().contains(&cause), "{error}: {cause}");
        }
    }

    /// libpq reads it so, and a connection string can be amended at its end.
    #[test]
    fn of_a_repeated_parameter_the_last_one_is_valid() {
        let url = "postgres://u@h/app?sslmode=disable&sslmode=require";
        check(url, SslMode::Require, "h", 5432, "app");
        let pairs = "host=a user=u sslmode=verify-ca dbname=x sslmode=disable dbname=app";
        check(pairs, SslMode::Disable, "a", 5432, "app");

        let url = "postgres://u@h/app?connect_timeout=3&sslrootcert=/a&connect_timeout=4\
                   &sslrootcert=/b";
        let dsn = Dsn::parse(url).unwrap();
        assert_eq!(dsn.ssl_root_cert, Some("/b".into()));
        let timeout = dsn.config.get_connect_timeout();
        assert_eq!(timeout, Some(&std::time::Duration::from_secs(4)));
    }

    #[test]
    fn the_key_of_an_option_may_be_encoded_and_parameters_may_be_missing() {
        for query in ["ssl%6Dode=disable", "&sslmode=disable&&", "sslmode=disable&"] {
            check(&format!("postgres://u@h/app?{query}"), SslMode::Disable, "h", 5432, "app");
        }
        check("postgres://u@h/app?", SslMode::VerifyFull, "h", 5432, "app");
    }

    #[test]
    fn an_ipv6_address_is_a_host_without_its_brackets() {
        check("postgres://u@[fe80::7]:5433/app", SslMode::VerifyFull, "fe80::7", 5433, "app");
        check("host=fe80::7 port=5433 user=u", SslMode::VerifyFull, "fe80::7", 5433, "u");
    }

    proptest! {
        #[test]
        fn each_part_of_a_url_arrives_as_it_was_before_it_was_encoded(
            parts in proptest::array::uniform5("[a-z0-9 @:/?#%&=+'\"\\\\é😀]{1,9}"),
            is_option_first: bool,
        ) {
            let encoded = parts.each_ref().map(|part| {
                utf8_percent_encode(part, NON_ALPHANUMERIC).to_string()
            });
            let [user, password, database, options, root_cert] = &encoded;
            let ours = format!("sslmode=require&sslrootcert={root_cert}");
            let theirs = format!("options={options}");
            let query = match is_option_first {
                true => format!("{ours}&{theirs}"),
                false => format!("{theirs}&{ours}"),
            };

            let dsn = Dsn::parse(&format!("postgres://{user}:{password}@h/{database}?{query}"));
            let dsn = dsn.unwrap();
            let [user, password, database, options, root_cert] = &parts;
            prop_assert_eq!((&dsn.user, &dsn.database), (user, database));
            prop_assert_eq!(dsn.config.get_password(), Some(password.as_bytes()));
            prop_assert_eq!(dsn.config.get_options(), Some(&**options));
            prop_assert_eq!(dsn.ssl_root_cert, Some(PathBuf::from(root_cert)));
            prop_assert_eq!(dsn.ssl_mode, SslMode::Require);
        }
    }
}
