//! A running session: the thread that owns the state machine, and the task that does its I/O.

pub(crate) mod io_task;
pub(crate) mod sync_thread;
