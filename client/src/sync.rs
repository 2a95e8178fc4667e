//! A running session: the thread that owns the state machine, and the task that does its I/O.
//!
//! [`thread::SyncThread`] has the [`crate::core::Core`] and the database. It blocks while SQLite
//! works. [`io_task::IoTask`] runs on the app's tokio runtime and does what must not wait for
//! SQLite: requests, the stream, timers. They talk over channels. A bounded one carries the
//! stream's lines, so a busy database slows the server down.

pub(crate) mod io_task;
pub(crate) mod shared;
pub(crate) mod stats;
pub(crate) mod thread;
