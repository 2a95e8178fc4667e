//! Errors of the source database: its catalog, its queries and its replication stream.

use std::time::Duration;

use pgwire_replication::PgWireError;
use tokio_postgres::error::{DbError, SqlState};

/// A table that is no longer as the run knows it. It ends the run: the next one starts with the
/// tables as they are then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "table {table} has changed: {reason}; clients stay at the last checkpoint until the change is \
     applied"
)]
pub struct TableChanged {
    /// The table's id in `pg_class`.
    pub oid: u32,
    /// `schema.table`.
    pub table: String,
    /// The difference.
    pub reason: String,
    /// The next run stores all rows of the table again, whatever is stored of them.
    pub replaces_rows: bool,
}

/// Error of the source database, sorted by what its caller does next.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The connection broke: start another run, which continues where this one committed.
    #[error("the connection to the source database was lost")]
    Disconnected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection is open, and nothing comes through it: start another run.
    #[error("PostgreSQL has sent nothing for {} s, not even a keepalive", .0.as_secs())]
    Silent(Duration),
    /// A table is not what it was when the run started: start another run, which copies it.
    #[error(transparent)]
    TableChanged(#[from] TableChanged),
    /// The server refused a statement: fix what its message names.
    #[error("the source database refused a statement")]
    Refused(#[source] Box<DbError>),
    /// A row has text that is not UTF-8, in a database whose encoding does not check that: fix the row.
    #[error(
        "PostgreSQL refuses to send a row with text that is not UTF-8: `tidewater check` names the row, \
         without --slot; if the replication stream fails again after the row is fixed, drop the slot \
         (SELECT pg_drop_replication_slot('...');), since the WAL still has the former text"
    )]
    OtherText(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The replication stream ended for a reason that a new connection does not remove.
    #[error("the replication stream failed")]
    StreamFailed(#[source] PgWireError),
    /// The server's answer is none that PostgreSQL gives.
    #[error("the source database gave an unexpected answer to {0}")]
    UnexpectedAnswer(&'static str),
}

impl SourceError {
    /// Returns whether a new run may succeed without anyone fixing anything.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Disconnected(_) | Self::Silent(_) | Self::TableChanged(_) => true,
            Self::Refused(_)
            | Self::OtherText(_)
            | Self::StreamFailed(_)
            | Self::UnexpectedAnswer(_) => false,
        }
    }
}

impl From<tokio_postgres::Error> for SourceError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refusal) if *refusal.code() == SqlState::CHARACTER_NOT_IN_REPERTOIRE => {
                Self::OtherText(error.into())
            }
            Some(refusal) if !is_shutdown(refusal.code().code()) => {
                Self::Refused(Box::new(refusal.clone()))
            }
            // Without an answer of the server, the connection broke.
            _ => Self::Disconnected(error.into()),
        }
    }
}

impl From<PgWireError> for SourceError {
    fn from(error: PgWireError) -> Self {
        if refuses_text(&error) {
            return Self::OtherText(error.into());
        }
        // The same message would be too large again, and the same password wrong again.
        if error.is_message_too_large() || error.is_auth() {
            Self::StreamFailed(error)
        } else {
            Self::Disconnected(error.into())
        }
    }
}

/// Returns whether the server refuses to send text that is not UTF-8. The driver gives the SQLSTATE as
/// text only.
fn refuses_text(error: &PgWireError) -> bool {
    let PgWireError::Server(message) = error else { return false };
    message.contains(&format!("(SQLSTATE {})", SqlState::CHARACTER_NOT_IN_REPERTOIRE.code()))
}

/// Returns whether an SQLSTATE says that the server ends sessions: class 57, operator intervention.
fn is_shutdown(code: &str) -> bool {
    code.starts_with("57")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;
    use std::sync::Arc;

    fn changed() -> SourceError {
        SourceError::TableChanged(TableChanged {
            oid: 7,
            table: "public.lists".into(),
            reason: "it was dropped".into(),
            replaces_rows: false,
        })
    }

    #[test]
    fn only_a_lost_connection_and_a_changed_table_are_transient() {
        assert!(SourceError::Disconnected("reset by peer".into()).is_transient());
        assert!(changed().is_transient());
        assert!(!SourceError::UnexpectedAnswer("COPY").is_transient());
    }

    #[test]
    fn a_broken_stream_is_transient_with_its_cause() {
        for error in [
            PgWireError::Io(Arc::new(std::io::Error::other("reset"))),
            PgWireError::Server("FATAL: terminating connection".into()),
            PgWireError::Protocol("bad frame".into()),
            PgWireError::Task("panicked".into()),
            PgWireError::Tls("closed".into()),
        ] {
            let cause = error.to_string();
            let error = SourceError::from(error);
            assert!(error.is_transient(), "{cause}");
            assert_eq!(error.source().unwrap().to_string(), cause);
            assert!(!error.to_string().contains(&cause), "the cause is not part of the text");
        }
    }

    #[test]
    fn a_wrong_password_and_a_message_beyond_the_limit_are_not_transient() {
        let too_large = PgWireError::MessageTooLarge { payload_bytes: 2, limit_bytes: 1 };
        for error in [PgWireError::Auth("wrong password".into()), too_large] {
            let error = SourceError::from(error);
            assert!(matches!(error, SourceError::StreamFailed(_)) && !error.is_transient());
        }
    }

    /// Another connection would end at the same row.
    #[test]
    fn text_that_is_not_utf8_is_not_transient_and_says_what_finds_it() {
        let message = "ERROR: invalid byte sequence for encoding \"UTF8\": 0xff (SQLSTATE 22021)";
        let error = SourceError::from(PgWireError::Server(message.into()));
        assert!(matches!(error, SourceError::OtherText(_)) && !error.is_transient(), "{error:?}");
        assert!(error.to_string().contains("`tidewater check` names the row"), "{error}");
    }

    #[test]
    fn operator_intervention_is_a_lost_connection() {
        // admin_shutdown, crash_shutdown, cannot_connect_now, query_canceled
        for code in ["57P01", "57P02", "57P03", "57014"] {
            assert!(is_shutdown(code), "{code}");
        }
        for code in ["42P01", "42501", "55006", "40001", "5"] {
            assert!(!is_shutdown(code), "{code}");
        }
    }

    #[test]
    fn a_changed_table_says_what_changed_and_what_clients_see() {
        assert_eq!(
            changed().to_string(),
            "table public.lists has changed: it was dropped; clients stay at the last checkpoint \
             until the change is applied"
        );
    }
}
