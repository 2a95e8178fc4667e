//! Sessions on the source database.

use tokio_postgres::{Client, NoTls};

use crate::source::dsn::{Dsn, DsnError, SslMode};
use crate::source::tls::{self, TlsError};

/// Makes values print the same way in every session, whatever the server's or role's defaults.
pub(crate) const SESSION_OPTIONS: &str = "-c datestyle=ISO -c intervalstyle=postgres \
    -c extra_float_digits=3 -c bytea_output=hex -c timezone=UTC -c client_encoding=UTF8 \
    -c standard_conforming_strings=on -c statement_timeout=0 \
    -c idle_in_transaction_session_timeout=0";

/// The source database cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection string is wrong.
    #[error(transparent)]
    Dsn(#[from] DsnError),
    /// TLS cannot be set up on our side.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server offers no TLS.
    #[error(
        "the server at {0} offers no TLS. Switch it on there, or add ?sslmode=disable to the \
         database URL: then the password, and all data, travel unencrypted"
    )]
    NoTls(String),
    /// The server does not answer, or refuses.
    #[error("cannot connect to PostgreSQL at {0} as user '{1}', database '{2}': {advice}", advice = advice(.3))]
    Refused(String, String, String, #[source] tokio_postgres::Error),
}

impl ConnectError {
    /// Whether the same attempt may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        let Self::Refused(.., error) = self else { return false };
        // Class 28 is about who we are, 3D and 42 about what we ask for; those stay wrong.
        error.code().is_none_or(|code| !["28", "3D", "42"].contains(&&code.code()[..2]))
    }
}

/// Opens a session. It ends when the client is dropped.
pub(crate) async fn connect(dsn: &Dsn) -> Result<Client, ConnectError> {
    let mut config = dsn.config.clone();
    let given = config.get_options().map(|options| format!("{options} ")).unwrap_or_default();
    config.options(format!("{given}{SESSION_OPTIONS}"));
    config.application_name("tidewater");
    let refused = |error: tokio_postgres::Error| {
        let place = format!("{}:{}", dsn.host, dsn.port);
        // The driver has no kind for it; this is how it says that the server answered 'N'.
        if dsn.ssl_mode != SslMode::Disable && error_text(&error).contains("does not support TLS") {
            return ConnectError::NoTls(place);
        }
        ConnectError::Refused(place, dsn.user.clone(), dsn.database.clone(), error)
    };
    match tls::connector(dsn)? {
        Some(tls) => {
            config.ssl_mode(tokio_postgres::config::SslMode::Require);
            let (client, connection) = config.connect(tls).await.map_err(refused)?;
            tokio::spawn(connection);
            Ok(client)
        }
        None => {
            config.ssl_mode(tokio_postgres::config::SslMode::Disable);
            let (client, connection) = config.connect(NoTls).await.map_err(refused)?;
            tokio::spawn(connection);
            Ok(client)
        }
    }
}

/// What to do about a refusal; why it came is the error itself.
fn advice(error: &tokio_postgres::Error) -> &'static str {
    match error.code().map(tokio_postgres::error::SqlState::code) {
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
             and that pg_hba.conf lets it in from here"
        }
        Some("3D000") => {
            "check the database's name at the end of the database URL, or make it: CREATE DATABASE"
        }
        Some("42501") => "the role may not connect: GRANT CONNECT ON DATABASE ... TO ...",
        Some("53300") => {
            "all its connections are in use: end some, or raise max_connections and restart it"
        }
        Some("57P03") => "it is starting up or shutting down: try again in a moment",
        Some(_) => "it says why",
    }
}

fn error_text(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// Quotes an identifier for SQL.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a literal for SQL (`standard_conforming_strings` is on in our sessions).
pub(crate) fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
