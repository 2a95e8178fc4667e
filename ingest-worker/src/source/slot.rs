//! The replication slot: made when it is missing, held while the worker runs.

use std::time::Duration;

use pgwire_replication::{PgWireError, ReplicationClient, ReplicationConfig};
use tidewater_storage::Lsn;
use tokio_postgres::Client;

use crate::config::Progress;
use crate::error::RunError;
use crate::source::connect::SESSION_OPTIONS;
use crate::source::dsn::Dsn;
use crate::source::tls;

/// How long making a slot may take before its owner is told what it waits for.
const SLOT_CREATION_NOTICE_AFTER: Duration = Duration::from_secs(2);
/// Between attempts to take a slot that another session still holds.
const ACQUIRE_RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Events that the driver may hold ready.
const EVENTS_BUFFERED_MAX: usize = 2_048;

/// What is known of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// It was made just now: nothing read from a former slot of this name says anything about it.
    pub(crate) is_new: bool,
}

/// Finds the slot, or makes it.
pub(crate) async fn ensure_slot(
    client: &Client,
    name: &str,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<Slot, RunError> {
    let query = "SELECT plugin::text, database::text = current_database(), wal_status::text
                 FROM pg_replication_slots WHERE slot_name = $1";
    if let Some(row) = client.query_opt(query, &[&name]).await? {
        let plugin: Option<String> = row.get(0);
        if plugin.as_deref() != Some("pgoutput") || row.get::<_, Option<bool>>(1) != Some(true) {
            let reason = "it exists, but for another plugin or database: choose another name";
            return Err(RunError::Slot(name.to_owned(), reason.to_owned()));
        }
        if row.get::<_, Option<String>>(2).as_deref() != Some("lost") {
            return Ok(Slot { is_new: false });
        }
        // The server threw away WAL that was still needed: nobody can go on from this slot.
        client.execute("SELECT pg_drop_replication_slot($1)", &[&name]).await?;
        on_progress(Progress::Advice(format!(
            "replication slot {name} was lost (the server removed WAL that it needed, see \
             max_slot_wal_keep_size): everything is copied anew"
        )));
    }
    let create = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')::text";
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&name];
    let creation = client.query_one(create, &params);
    tokio::pin!(creation);
    let made = tokio::select! {
        made = &mut creation => made,
        () = tokio::time::sleep(SLOT_CREATION_NOTICE_AFTER) => {
            on_progress(Progress::Waiting(format!(
                "making replication slot {name}: PostgreSQL waits for transactions that were open \
                 before (SELECT pid, xact_start, query FROM pg_stat_activity WHERE state <> 'idle' \
                 ORDER BY xact_start; and SELECT * FROM pg_prepared_xacts;)"
            )));
            creation.await
        }
    };
    match made {
        Ok(_) => Ok(Slot { is_new: true }),
        // Another worker made it at the same moment; holding it decides.
        Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::DUPLICATE_OBJECT) => {
            Ok(Slot { is_new: false })
        }
        Err(error) => Err(error.into()),
    }
}

/// Up to where the slot was confirmed.
pub(crate) async fn confirmed_lsn(client: &Client, name: &str) -> Result<Lsn, RunError> {
    let query = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1";
    let row = client.query_opt(query, &[&name]).await?;
    let text: Option<String> = row.and_then(|row| row.get(0));
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| RunError::Slot(name.to_owned(), "it has vanished".to_owned()))
}

/// A held slot.
pub(crate) struct AcquiredSlot {
    pub(crate) stream: ReplicationClient,
    pub(crate) system_id: String,
    pub(crate) timeline: u32,
}

/// Starts the stream from where the slot was confirmed. From then on this session holds the slot,
/// which makes it the only worker. Waits while another session holds it.
pub(crate) async fn acquire_slot(
    dsn: &Dsn,
    publication: &str,
    slot: &str,
    on_progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<AcquiredSlot, RunError> {
    let password = dsn.config.get_password().map(String::from_utf8_lossy).unwrap_or_default();
    let config = ReplicationConfig::new(
        dsn.host.as_str(),
        dsn.user.as_str(),
        password,
        dsn.database.as_str(),
        slot,
        publication,
    )
    .with_port(dsn.port)
    .with_tls(tls::replication(dsn))
    .with_options(SESSION_OPTIONS)
    .with_application_name("tidewater")
    .with_status_interval(Duration::from_secs(1))
    .with_buffer_size(EVENTS_BUFFERED_MAX);
    let mut told = false;
    loop {
        let mut stream = ReplicationClient::connect_gated(config.clone()).await?;
        let system = stream.identify_system().await?;
        stream.start().await?;
        match stream.wait_started().await {
            Ok(()) => {
                let (system_id, timeline) = (system.system_id, system.timeline);
                return Ok(AcquiredSlot { stream, system_id, timeline });
            }
            Err(PgWireError::Server(message)) if message.contains("is active for PID") => {
                if !std::mem::replace(&mut told, true) {
                    on_progress(Progress::Waiting(format!(
                        "another session holds the slot: {message}"
                    )));
                }
                tokio::time::sleep(ACQUIRE_RETRY_PAUSE).await;
            }
            Err(PgWireError::Server(message)) => {
                return Err(RunError::Slot(slot.to_owned(), message));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
