//! The replication slot. The worker creates it if it is missing and holds it as long as it runs, which
//! makes it the only worker: PostgreSQL lets one session at a time read a slot.

use std::time::Duration;

use pgwire_replication::{PgWireError, ReplicationClient, ReplicationConfig};
use tidewater_storage::Lsn;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

use crate::config::{Progress, SourceNames};
use crate::source::connect::{ConnectError, password, session_options};
use crate::source::dsn::Dsn;
use crate::source::error::SourceError;
use crate::source::quote::quote_identifier;
use crate::source::tls;

/// Time after which the owner is told what the creation of a slot waits for. On a quiet server it
/// takes some milliseconds; it takes longer only while older transactions are open.
const SLOT_CREATION_NOTICE_AFTER: Duration = Duration::from_secs(2);
/// Pause between attempts to acquire a slot that another session holds. A worker that replaces
/// another waits this long at most after the other has ended.
const ACQUIRE_RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Interval of status messages to the server while positions are confirmed. The server forgets WAL
/// only after one of them has confirmed it.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Events that the driver may buffer. It stops reading the socket beyond that: backpressure.
pub(crate) const EVENTS_BUFFERED_MAX: usize = 2_048;

/// Error of the replication slot, sorted by what its owner has to do.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// Choose another name.
    #[error(
        "replication slot '{0}' cannot be used: it belongs to another plugin or database, so choose \
         another name"
    )]
    Foreign(String),
    /// Start again: the slot was dropped while the worker started.
    #[error("replication slot '{0}' does not exist any more: it was dropped just now")]
    Missing(String),
    /// Fix what the server names.
    #[error("replication slot '{slot}' cannot be used: the server refuses to stream from it")]
    Refused {
        /// The slot.
        slot: String,
        /// The server's words.
        source: PgWireError,
    },
    /// The stream's session has no password.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The source database failed.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl From<tokio_postgres::Error> for SlotError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Source(error.into())
    }
}

impl From<PgWireError> for SlotError {
    fn from(error: PgWireError) -> Self {
        Self::Source(error.into())
    }
}

/// A slot as the server lists it.
#[derive(Clone, Debug)]
struct ListedSlot {
    plugin: Option<String>,
    is_of_this_database: bool,
    wal_status: Option<String>,
}

/// Usability of a slot that the server lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usability {
    /// It continues where it was confirmed.
    Usable,
    /// It is not ours: it has another plugin, another database, or is a physical one.
    Foreign,
    /// The server has removed WAL that it still needed. Nobody can continue from it.
    Lost,
}

const SLOT: &str = "
SELECT plugin::text, database::text = current_database(), wal_status::text
FROM pg_replication_slots WHERE slot_name = $1";

impl ListedSlot {
    fn from_row(row: &Row) -> Self {
        Self {
            plugin: row.get(0),
            // A physical slot belongs to no database.
            is_of_this_database: row.get::<_, Option<bool>>(1) == Some(true),
            wal_status: row.get(2),
        }
    }

    fn usability(&self) -> Usability {
        if self.plugin.as_deref() != Some("pgoutput") || !self.is_of_this_database {
            return Usability::Foreign;
        }
        if self.wal_status.as_deref() == Some("lost") {
            return Usability::Lost;
        }
        Usability::Usable
    }
}

/// Returns whether the slot can be used; `None` if there is none of this name.
pub(crate) async fn find_slot(client: &Client, name: &str) -> Result<Option<Usability>, SlotError> {
    let row = client.query_opt(SLOT, &[&name]).await?;
    Ok(row.map(|row| ListedSlot::from_row(&row).usability()))
}

/// Drops the slot. Waits while another session holds it: our own former one may not have ended yet.
pub(crate) async fn drop_slot(
    client: &Client,
    name: &str,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), SlotError> {
    let mut is_reported = false;
    loop {
        let dropped = client.execute("SELECT pg_drop_replication_slot($1)", &[&name]).await;
        let error = match dropped {
            Ok(_) => return Ok(()),
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => return Ok(()),
            Err(error) if error.code() == Some(&SqlState::OBJECT_IN_USE) => error,
            Err(error) => return Err(error.into()),
        };
        if !is_reported {
            is_reported = true;
            on_progress(Progress::Waiting(format!("another session holds the slot: {error}")));
        }
        tokio::time::sleep(ACQUIRE_RETRY_PAUSE).await;
    }
}

/// Creates the slot, unless another worker did so at the same moment. Returns whether it is new: then
/// nothing that was read from a former slot of this name says anything about it.
pub(crate) async fn ensure_slot(
    client: &Client,
    name: &str,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<bool, SlotError> {
    match create_slot(client, name, on_progress).await {
        Ok(()) => Ok(true),
        // Acquiring it decides which of us runs.
        Err(error) if error.code() == Some(&SqlState::DUPLICATE_OBJECT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Creates the slot. PostgreSQL first waits until all transactions that are open now have ended.
async fn create_slot(
    client: &Client,
    name: &str,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), tokio_postgres::Error> {
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&name];
    let query = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')::text";
    let creation = client.query_one(query, &params);
    tokio::pin!(creation);

    let created = tokio::select! {
        created = &mut creation => created,
        () = tokio::time::sleep(SLOT_CREATION_NOTICE_AFTER) => {
            on_progress(Progress::Waiting(format!(
                "creating replication slot {name}: PostgreSQL waits for transactions that were open \
                 before (SELECT pid, xact_start, query FROM pg_stat_activity WHERE state <> 'idle' \
                 ORDER BY xact_start; and SELECT * FROM pg_prepared_xacts;)"
            )));
            creation.await
        }
    };
    created.map(|_| ())
}

/// Positions of the server while this session holds the slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerPositions {
    /// The position up to which the slot was confirmed.
    pub(crate) confirmed: Lsn,
    /// The end of the server's WAL.
    pub(crate) end: Lsn,
}

/// Reads the positions of the slot and of the server.
pub(crate) async fn server_positions(
    client: &Client,
    name: &str,
) -> Result<ServerPositions, SlotError> {
    let query = "SELECT confirmed_flush_lsn::text, pg_current_wal_insert_lsn()::text
                 FROM pg_replication_slots WHERE slot_name = $1";
    let missing = || SlotError::Missing(name.to_owned());
    let row = client.query_opt(query, &[&name]).await?.ok_or_else(missing)?;
    let position = |column: usize| {
        let text: Option<String> = row.get(column);
        text.and_then(|text| text.parse().ok()).ok_or_else(missing)
    };
    Ok(ServerPositions { confirmed: position(0)?, end: position(1)? })
}

/// Returns the server's system identifier, without a slot.
pub(crate) async fn system_id(
    dsn: &Dsn,
    names: SourceNames<'_>,
    receiver_timeout: Duration,
) -> Result<String, SlotError> {
    let config = replication_config(dsn, password(dsn).await?, names, receiver_timeout);
    let identification = async {
        let mut stream = ReplicationClient::connect_gated(config).await?;
        stream.identify_system().await
    };
    let identified = tokio::time::timeout(receiver_timeout, identification).await;
    Ok(identified.map_err(|_| SourceError::Silent(receiver_timeout))??.system_id)
}

/// A slot that this session holds, with its stream.
pub(crate) struct AcquiredSlot {
    pub(crate) stream: ReplicationClient,
    pub(crate) system_id: String,
    pub(crate) timeline: u32,
}

/// Starts the stream from where the slot was confirmed. From then on this session holds the slot,
/// which makes it the only worker. Waits while another session holds it.
///
/// The server ends the session when it hears nothing from us for `receiver_timeout`, as we do.
pub(crate) async fn acquire_slot(
    dsn: &Dsn,
    names: SourceNames<'_>,
    receiver_timeout: Duration,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<AcquiredSlot, SlotError> {
    let mut is_reported = false;
    loop {
        // Another worker may hold the slot for longer than a password is valid.
        let config = replication_config(dsn, password(dsn).await?, names, receiver_timeout);
        let attempt = tokio::time::timeout(receiver_timeout, start_stream(config)).await;
        let started = attempt.map_err(|_| SourceError::Silent(receiver_timeout))?;
        let error = match started {
            Ok(acquired) => return Ok(acquired),
            Err(StreamStartError::Connect(error)) => return Err(error.into()),
            Err(StreamStartError::Refused(error)) => error,
        };

        let Some(message) = held_by_another(&error) else {
            return Err(refusal(names.slot, error));
        };
        if !is_reported {
            is_reported = true;
            on_progress(Progress::Waiting(format!("another session holds the slot: {message}")));
        }
        tokio::time::sleep(ACQUIRE_RETRY_PAUSE).await;
    }
}

/// Error of one attempt to start the stream.
enum StreamStartError {
    /// There is no session.
    Connect(PgWireError),
    /// The server does not stream from the slot.
    Refused(PgWireError),
}

async fn start_stream(config: ReplicationConfig) -> Result<AcquiredSlot, StreamStartError> {
    let connected = ReplicationClient::connect_gated(config).await;
    let mut stream = connected.map_err(StreamStartError::Connect)?;
    let system = stream.identify_system().await.map_err(StreamStartError::Connect)?;
    stream.start().await.map_err(StreamStartError::Connect)?;

    stream.wait_started().await.map_err(StreamStartError::Refused)?;
    Ok(AcquiredSlot { stream, system_id: system.system_id, timeline: system.timeline })
}

fn replication_config(
    dsn: &Dsn,
    password: String,
    names: SourceNames<'_>,
    receiver_timeout: Duration,
) -> ReplicationConfig {
    // The server asks for a sign of life after half of its timeout, if it has heard nothing from us
    // until then. Its questions are what we hear of it while the source is idle.
    let timeout = receiver_timeout.as_millis();
    let options = format!("{} -c wal_sender_timeout={timeout}", session_options(dsn));
    ReplicationConfig::new(
        dsn.host.as_str(),
        dsn.user.as_str(),
        password,
        dsn.database.as_str(),
        names.slot,
        // The server splits the value at commas and folds names that are not quoted.
        quote_identifier(names.publication),
    )
    .with_port(dsn.port)
    .with_tls(tls::replication_config(dsn))
    .with_options(options)
    .with_application_name("tidewater")
    .with_status_interval(STATUS_INTERVAL)
    // A message of ours that nobody asked for would delay the server's next question.
    .with_wakeup_interval(receiver_timeout)
    .with_buffer_size(EVENTS_BUFFERED_MAX)
}

/// Returns the server's message if it refuses the slot because another session holds it.
fn held_by_another(error: &PgWireError) -> Option<&str> {
    let PgWireError::Server(message) = error else { return None };
    has_code(message, &SqlState::OBJECT_IN_USE).then_some(message)
}

/// Returns whether the stream has ended because the slot cannot go on. The server decodes each change
/// with the catalog of that time, and the publication did not exist then. It never will have.
pub(crate) fn is_stuck(error: &PgWireError) -> bool {
    let PgWireError::Server(message) = error else { return false };
    has_code(message, &SqlState::UNDEFINED_OBJECT)
}

/// Returns whether the server's message has an SQLSTATE. The driver gives it as text only, after a
/// message that may be in any language.
fn has_code(message: &str, code: &SqlState) -> bool {
    message.contains(&format!("(SQLSTATE {})", code.code()))
}

/// Sorts an error of the attempt to acquire a slot.
fn refusal(slot: &str, error: PgWireError) -> SlotError {
    if error.is_server() {
        return SlotError::Refused { slot: slot.to_owned(), source: error };
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;
    use std::sync::Arc;

    fn usability(plugin: Option<&str>, is_of_this_database: bool, wal: Option<&str>) -> Usability {
        let plugin = plugin.map(str::to_owned);
        let wal_status = wal.map(str::to_owned);
        ListedSlot { plugin, is_of_this_database, wal_status }.usability()
    }

    #[test]
    fn a_slot_of_ours_is_usable_as_long_as_its_wal_is_there() {
        for status in [Some("reserved"), Some("extended"), Some("unreserved"), None] {
            assert_eq!(usability(Some("pgoutput"), true, status), Usability::Usable, "{status:?}");
        }
        assert_eq!(usability(Some("pgoutput"), true, Some("lost")), Usability::Lost);
    }

    #[test]
    fn a_slot_of_another_plugin_or_database_is_never_dropped() {
        for status in [Some("reserved"), Some("lost"), None] {
            assert_eq!(usability(Some("wal2json"), true, status), Usability::Foreign);
            assert_eq!(usability(Some("pgoutput"), false, status), Usability::Foreign);
            assert_eq!(usability(None, false, status), Usability::Foreign, "a physical slot");
        }
    }

    #[test]
    fn only_a_slot_that_another_session_holds_is_waited_for() {
        for active in [
            "replication slot \"s\" is active for PID 7 (SQLSTATE 55006)",
            "Replikations-Slot »s« ist aktiv für PID 7 (SQLSTATE 55006)",
        ] {
            assert_eq!(held_by_another(&PgWireError::Server(active.into())), Some(active));
        }
        let missing = "publication \"p\" does not exist (SQLSTATE 42704)";
        assert_eq!(held_by_another(&PgWireError::Server(missing.into())), None);
        assert_eq!(held_by_another(&PgWireError::Protocol("(SQLSTATE 55006)".into())), None);
    }

    #[test]
    fn a_slot_is_stuck_where_its_catalog_has_no_publication() {
        let missing = "publication \"p\" does not exist (SQLSTATE 42704)";
        assert!(is_stuck(&PgWireError::Server(missing.into())));
        let shutdown = "terminating connection due to administrator command (SQLSTATE 57P01)";
        assert!(!is_stuck(&PgWireError::Server(shutdown.into())));
        assert!(!is_stuck(&PgWireError::Protocol(missing.into())));
    }

    #[test]
    fn a_refusal_of_the_server_names_the_slot_and_keeps_the_cause() {
        let error = refusal("s", PgWireError::Server("no such publication".into()));
        assert!(error.to_string().starts_with("replication slot 's' cannot be used"), "{error}");
        assert!(error.source().unwrap().to_string().contains("no such publication"));
    }

    #[test]
    fn a_broken_connection_is_no_refusal() {
        let reset = Arc::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        let error = refusal("s", PgWireError::Io(reset));
        assert!(matches!(error, SlotError::Source(SourceError::Disconnected(_))), "{error:?}");
        let error = refusal("s", PgWireError::Auth("wrong password".into()));
        assert!(matches!(error, SlotError::Source(SourceError::StreamFailed(_))), "{error:?}");
    }

    fn names(publication: &str) -> SourceNames<'_> {
        SourceNames { publication, slot: "s" }
    }

    #[tokio::test]
    async fn the_stream_prints_values_as_the_sessions_do() {
        let dsn = Dsn::parse("postgres://u:p%40ss@h:5433/app?sslmode=disable").unwrap();
        let password = password(&dsn).await.unwrap();
        let config = replication_config(&dsn, password, names("pub"), Duration::from_secs(30));
        let options = config.options.unwrap_or_default();
        let own = options.strip_prefix(&session_options(&dsn)).expect("the sessions' options");
        assert_eq!(own, " -c wal_sender_timeout=30000");
        assert_eq!((&*config.host, config.port, &*config.user), ("h", 5433, "u"));
        assert_eq!((&*config.password, &*config.database), ("p@ss", "app"));
    }

    #[test]
    fn the_name_of_a_publication_is_quoted() {
        let dsn = Dsn::parse("postgres://u@h/app?sslmode=disable").unwrap();
        for (name, quoted) in [("pub", "\"pub\""), ("a,b", "\"a,b\""), ("q\"", "\"q\"\"\"")] {
            let config =
                replication_config(&dsn, String::new(), names(name), Duration::from_secs(30));
            assert_eq!(config.publication.names(), [quoted]);
        }
    }
}
