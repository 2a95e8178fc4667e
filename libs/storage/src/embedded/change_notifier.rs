//! Notification of waiting calls: immediate for writes of this process, by polling for others.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::watch;
use tracing::warn;

use super::schema;
use crate::Ticket;

/// The poll interval while a call waits.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The newest values that this process has seen. Both only increase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The revision of the control record; 0 if there is none.
    pub(super) control: u64,
    pub(super) ticket: Ticket,
}

#[derive(Debug)]
pub(super) struct ChangeNotifier {
    shared: Arc<Shared>,
    file: PathBuf,
    poller: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    newest: watch::Sender<Seen>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiters: usize,
    closed: bool,
}

/// A waiting call. The thread polls while at least one exists.
struct Waiter<'a>(&'a Shared);

impl ChangeNotifier {
    pub(super) fn new(file: PathBuf) -> Self {
        let shared = Shared {
            newest: watch::Sender::new(Seen::default()),
            state: Mutex::default(),
            wake: Condvar::new(),
        };
        Self { shared: Arc::new(shared), file, poller: Mutex::default() }
    }

    pub(super) fn control_advanced_to(&self, revision: u64) {
        self.shared.raise(Seen { control: revision, ticket: Ticket::default() });
    }

    pub(super) fn ticket_advanced_to(&self, ticket: Ticket) {
        self.shared.raise(Seen { control: 0, ticket });
    }

    /// Returns the newest values that this process has seen. Those in the file may be newer.
    pub(super) fn newest(&self) -> Seen {
        *self.shared.newest.borrow()
    }

    /// Waits until `changed` holds for the newest values, at most for `timeout`.
    pub(super) async fn wait(&self, timeout: Duration, changed: impl Fn(&Seen) -> bool) {
        let mut newest = self.shared.newest.subscribe();
        self.start_polling();
        let _waiter = Waiter::new(&self.shared);
        // A timeout is no error, and the sender lives as long as `self`.
        let _ = tokio::time::timeout(timeout, newest.wait_for(|seen| changed(seen))).await;
    }

    fn start_polling(&self) {
        let mut poller = self.poller.lock().unwrap_or_else(PoisonError::into_inner);
        if poller.is_none() {
            let shared = Arc::clone(&self.shared);
            let file = self.file.clone();
            let spawned = std::thread::Builder::new()
                .name("tidewater-poll".into())
                .spawn(move || shared.poll(&file));
            match spawned {
                Ok(thread) => *poller = Some(thread),
                // Waiting calls then notice other processes' writes after their timeout only.
                Err(error) => warn!(%error, "cannot start the thread that polls the store"),
            }
        }
    }
}

impl Drop for ChangeNotifier {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.wake.notify_all();
        let poller = self.poller.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(poller) = poller {
            // Its connection must be closed before a temporary directory is removed.
            let _ = poller.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raise(&self, to: Seen) {
        self.newest.send_if_modified(|seen| {
            let raised =
                Seen { control: seen.control.max(to.control), ticket: seen.ticket.max(to.ticket) };
            let changed = raised != *seen;
            *seen = raised;
            changed
        });
    }

    fn poll(&self, file: &std::path::Path) {
        let mut connection = None;
        let mut version = None;
        loop {
            let mut state = self.state();
            while state.waiters == 0 && !state.closed {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return;
            }
            drop(state);

            match look(file, &mut connection, &mut version) {
                Ok(Some(seen)) => self.raise(seen),
                Ok(None) => {}
                Err(error) => {
                    warn!(%error, "failed to poll the store for changes");
                    connection = None;
                    version = None;
                }
            }

            let paused =
                self.wake.wait_timeout_while(self.state(), POLL_INTERVAL, |state| !state.closed);
            drop(paused.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl<'a> Waiter<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.state().waiters += 1;
        shared.wake.notify_all();
        Self(shared)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.state().waiters -= 1;
    }
}

/// Returns the stored revision and ticket, or `None` if nothing was committed since the last poll.
fn look(
    file: &std::path::Path,
    connection: &mut Option<Connection>,
    version: &mut Option<i64>,
) -> rusqlite::Result<Option<Seen>> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(schema::connect_for_reading(file)?),
    };

    let now = connection
        .prepare_cached("PRAGMA data_version")?
        .query_row((), |row| row.get::<_, i64>(0))?;
    if *version == Some(now) {
        return Ok(None);
    }

    let control = number(connection, "SELECT revision FROM control")?;
    let ticket = Ticket(number(connection, "SELECT ticket FROM bell")?);
    *version = Some(now);
    Ok(Some(Seen { control, ticket }))
}

/// Returns the number that a query yields, or 0 if it yields no row.
fn number(connection: &Connection, sql: &str) -> rusqlite::Result<u64> {
    let found = connection.prepare_cached(sql)?.query_row((), |row| row.get(0)).optional()?;
    Ok(found.map_or(0, i64::cast_unsigned))
}
