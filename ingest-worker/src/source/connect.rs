//! Sessions on the source database.

use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use crate::source::database::Passwords;
use crate::source::dsn::{Dsn, DsnError, SslMode};
use crate::source::quote::quote_identifier;
use crate::source::tls::{self, TlsError};

/// Session options of sessions and of the replication stream, over the settings that a server, a
/// database or a role has as defaults.
///
/// - Display settings: a value prints the same way everywhere, since rows of both are compared as
///   text. `search_path` belongs to them, because the names of types print relative to it.
/// - Timeouts are off: the chunks of an initial copy, and the wait for a slot, may take longer than a
///   server allows its ordinary clients, and sessions are idle while the source is.
/// - `row_security=off` makes a query fail where it would leave out rows.
/// - `default_transaction_*`: logical messages are written, and snapshots begin at once.
///
/// `transaction_timeout` is set later, since PostgreSQL 16 and earlier refuse its name.
const SESSION_OPTIONS: &str = "-c datestyle=ISO -c intervalstyle=postgres \
    -c extra_float_digits=3 -c bytea_output=hex -c timezone=UTC -c client_encoding=UTF8 \
    -c standard_conforming_strings=on -c quote_all_identifiers=off -c search_path=pg_catalog \
    -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 \
    -c idle_session_timeout=0 -c row_security=off -c default_transaction_read_only=off \
    -c default_transaction_deferrable=off";

/// Switches off the limit of PostgreSQL 17 and later on the duration of a transaction: the snapshot
/// of a copied chunk may need longer.
const NO_TRANSACTION_TIMEOUT: &str = "
SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'";

/// TCP keepalives: a peer that is gone without a word is noticed within `IDLE + RETRIES * INTERVAL`,
/// 25 seconds, and not after the two hours that are the system's default.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVES_RETRIES: u32 = 3;
/// Duration of a connection attempt, handshake included, where the URL sets no `connect_timeout`. A
/// proxy may accept a connection and never answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Error of a connection attempt, sorted by what its owner has to fix.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection string is invalid.
    #[error(transparent)]
    Dsn(#[from] DsnError),
    /// TLS cannot be set up on our side.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server offers no TLS, and the connection string asks for it.
    #[error(
        "the server at {address} offers no TLS, which is the default for a host that is not this \
         machine: enable it on the server, or add ?sslmode=disable to the database URL (the password \
         and all data then travel unencrypted)"
    )]
    NoTls {
        /// `host:port`.
        address: String,
    },
    /// The server's certificate cannot be verified.
    #[error(
        "the certificate of the server at {address} cannot be verified: name the file with the \
         certificate of its authority by ?sslrootcert=FILE in the database URL (providers offer it for \
         download), or use sslmode=require, which encrypts and accepts any server that answers"
    )]
    Certificate {
        /// `host:port`.
        address: String,
        /// The reason.
        source: tokio_postgres::Error,
    },
    /// The connection was accepted, and then no server answered.
    #[error(
        "PostgreSQL at {address} did not answer within {} s: check that host and port in the \
         database URL are its own, and what is between it and here (a proxy, a firewall)",
        timeout.as_secs()
    )]
    Silent {
        /// `host:port`.
        address: String,
        /// The duration of the attempt.
        timeout: Duration,
    },
    /// The password of the session cannot be made.
    #[error("there is no password for user '{user}' of PostgreSQL at {address}")]
    NoPassword {
        /// `host:port`.
        address: String,
        /// The role.
        user: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server does not answer, or refuses the session.
    #[error(
        "cannot connect to PostgreSQL at {address} as user '{user}', database '{database}': {}",
        advice(source.code().map(tokio_postgres::error::SqlState::code), user, database, *login_advice)
    )]
    Refused {
        /// `host:port`.
        address: String,
        /// The role.
        user: String,
        /// The database.
        database: String,
        /// Advice for a refused password that was made for the session.
        login_advice: Option<&'static str>,
        /// The error of the driver, with the server's words if it answered.
        source: tokio_postgres::Error,
    },
}

impl ConnectError {
    /// Returns whether the same attempt may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Refused { source, .. } => {
                is_transient_code(source.code().map(tokio_postgres::error::SqlState::code))
            }
            // Credentials come from services that may be unavailable for a moment.
            Self::Silent { .. } | Self::NoPassword { .. } => true,
            Self::Dsn(_) | Self::Tls(_) | Self::NoTls { .. } | Self::Certificate { .. } => false,
        }
    }
}

/// Returns the options of the connection string, followed by ours: the last one of a name is in force.
pub(crate) fn session_options(dsn: &Dsn) -> String {
    let given = dsn.config.get_options().map(|options| format!("{options} ")).unwrap_or_default();
    format!("{given}{SESSION_OPTIONS}")
}

/// Opens a session. It ends when the client is dropped.
pub(crate) async fn connect(dsn: &Dsn) -> Result<Client, ConnectError> {
    let timeout = dsn.config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
    let address = dsn.address();
    match tokio::time::timeout(timeout, open(dsn)).await {
        Ok(opened) => opened,
        Err(_) => Err(ConnectError::Silent { address, timeout }),
    }
}

/// Returns the password for a session that begins now.
pub(crate) async fn password(dsn: &Dsn) -> Result<String, ConnectError> {
    let Some(passwords) = &dsn.passwords else {
        let password = dsn.config.get_password().map(String::from_utf8_lossy);
        return Ok(password.unwrap_or_default().into_owned());
    };
    passwords.make(dsn.login()).await.map_err(|source| ConnectError::NoPassword {
        address: dsn.address(),
        user: dsn.user.clone(),
        source,
    })
}

async fn open(dsn: &Dsn) -> Result<Client, ConnectError> {
    let mut config = dsn.config.clone();
    if dsn.passwords.is_some() {
        config.password(password(dsn).await?);
    }
    config.options(session_options(dsn));
    config.application_name("tidewater");
    config.keepalives_idle(KEEPALIVES_IDLE);
    config.keepalives_interval(KEEPALIVES_INTERVAL);
    config.keepalives_retries(KEEPALIVES_RETRIES);
    config.tcp_user_timeout(KEEPALIVES_IDLE + KEEPALIVES_INTERVAL * KEEPALIVES_RETRIES);

    let client = match tls::connector(dsn)? {
        Some(tls) => {
            config.ssl_mode(tokio_postgres::config::SslMode::Require);
            let connected = config.connect(tls).await;
            let (client, connection) = connected.map_err(|error| refused(dsn, error))?;
            tokio::spawn(connection);
            client
        }
        None => {
            config.ssl_mode(tokio_postgres::config::SslMode::Disable);
            let connected = config.connect(NoTls).await;
            let (client, connection) = connected.map_err(|error| refused(dsn, error))?;
            tokio::spawn(connection);
            client
        }
    };

    client.batch_execute(NO_TRANSACTION_TIMEOUT).await.map_err(|error| refused(dsn, error))?;
    Ok(client)
}

fn refused(dsn: &Dsn, source: tokio_postgres::Error) -> ConnectError {
    let address = dsn.address();
    // The driver has no error kind for it. Its text says that the server answered 'N'.
    let cause = std::error::Error::source(&source).map(ToString::to_string).unwrap_or_default();
    if dsn.ssl_mode != SslMode::Disable && cause.contains("does not support TLS") {
        return ConnectError::NoTls { address };
    }
    if is_certificate_error(&source) {
        return ConnectError::Certificate { address, source };
    }
    ConnectError::Refused {
        address,
        user: dsn.user.clone(),
        database: dsn.database.clone(),
        login_advice: dsn.passwords.as_ref().map(Passwords::advice),
        source,
    }
}

/// Returns whether the server's certificate was not accepted. The driver wraps the error of the TLS
/// library several times.
fn is_certificate_error(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.to_string().contains("invalid peer certificate") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Returns whether a refusal with this SQLSTATE may pass by itself; `None` is no answer at all.
fn is_transient_code(code: Option<&str>) -> bool {
    // Class 28 is about who we are, 3D and 42 about what we ask for. Those stay wrong.
    let lasting = ["28", "3D", "42"];
    code.is_none_or(|code| !lasting.iter().any(|class| code.starts_with(class)))
}

/// Returns what to do about a refusal with this SQLSTATE; `None` is no answer at all. The reason
/// itself is in the cause.
fn advice(
    code: Option<&str>,
    user: &str,
    database: &str,
    login_advice: Option<&'static str>,
) -> String {
    let user = quote_identifier(user);
    let database = quote_identifier(database);
    match code {
        Some("3D000") => format!(
            "check the database name at the end of the database URL, or create the database: CREATE \
             DATABASE {database};"
        ),
        Some("42501") => {
            format!("allow the role to connect: GRANT CONNECT ON DATABASE {database} TO {user};")
        }
        Some("28P01" | "28000") if let Some(advice) = login_advice => advice.to_owned(),
        code => general_advice(code).to_owned(),
    }
}

/// Returns what to do about a refusal that has nothing to do with the database's name.
fn general_advice(code: Option<&str>) -> &'static str {
    match code {
        None => {
            "check host and port in the database URL, and that the server runs, listens there and \
             can be reached from here"
        }

        Some("28P01") => {
            "check user and password in the database URL (in it, @ : / % of a password are written \
             as %40 %3A %2F %25), or set another: ALTER ROLE ... PASSWORD '...'"
        }
        Some("28000") => {
            "check the user in the database URL, that the role may log in (ALTER ROLE ... LOGIN), \
             and that pg_hba.conf allows it to connect from here (a server on this machine that \
             demands TLS needs ?sslmode=require or verify-full)"
        }

        Some("53300") => {
            "all its connections are in use: end some, or raise max_connections and restart it"
        }
        Some("57P03") => "it is starting up or shutting down: try again in a moment",
        Some(_) => "the server refused the connection for the reason below",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn wrong_credentials_databases_and_privileges_are_not_transient() {
        for code in ["28P01", "28000", "3D000", "42501"] {
            assert!(!is_transient_code(Some(code)), "{code}");
        }
    }

    #[test]
    fn silence_and_an_overloaded_or_starting_server_are_transient() {
        for code in [None, Some("53300"), Some("57P03"), Some("08006"), Some("")] {
            assert!(is_transient_code(code), "{code:?}");
        }
    }

    #[test]
    fn a_connection_string_or_certificate_to_fix_is_not_transient() {
        let dsn = Dsn::parse("host=h").unwrap_err();
        assert!(!ConnectError::from(dsn).is_transient());
        assert!(!ConnectError::NoTls { address: "h:5432".into() }.is_transient());
    }

    #[test]
    fn each_refusal_that_users_meet_has_advice_of_its_own() {
        let codes = [
            None,
            Some("28P01"),
            Some("28000"),
            Some("3D000"),
            Some("42501"),
            Some("53300"),
            Some("57P03"),
            Some("XX000"),
        ];
        let advice: std::collections::HashSet<_> =
            codes.into_iter().map(|code| advice(code, "u", "d", None)).collect();
        assert_eq!(advice.len(), codes.len());
    }

    /// Port 1 of this machine: nobody listens there.
    #[tokio::test]
    async fn a_server_that_does_not_answer_is_named_with_its_cause() {
        let dsn = Dsn::parse("postgres://u:secret@127.0.0.1:1/app?sslmode=disable").unwrap();
        let error = connect(&dsn).await.unwrap_err();
        let text = error.to_string();
        let expected = "cannot connect to PostgreSQL at 127.0.0.1:1 as user 'u', database 'app': \
                        check host and port";
        assert!(text.starts_with(expected), "{text}");
        assert!(error.is_transient());
        assert!(error.source().is_some() && !text.contains("secret"));
    }

    /// A proxy without its server: it accepts and never answers.
    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_is_named_with_the_time_it_had() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("postgres://u@{address}/app?sslmode=disable&connect_timeout=1");

        let error = connect(&Dsn::parse(&url).unwrap()).await.unwrap_err();
        let expected = format!("PostgreSQL at {address} did not answer within 1 s");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(error.is_transient());
    }

    /// A server that refuses TLS in the way PostgreSQL does, by the byte 'N'.
    #[tokio::test]
    async fn a_server_without_tls_is_named_with_both_ways_out() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.read_exact(&mut [0; 8]).await.unwrap();
            socket.write_all(b"N").await.unwrap();
            let _ = socket.read(&mut [0; 1]).await;
        });

        let url = format!("postgres://u@{address}/app?sslmode=require");
        let error = connect(&Dsn::parse(&url).unwrap()).await.unwrap_err();
        assert!(matches!(error, ConnectError::NoTls { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&address.to_string()) && text.contains("sslmode=disable"), "{text}");
    }
}
