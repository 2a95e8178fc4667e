//! The client against a scripted server, over real HTTP and on real files.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this is all test code"
)]

mod app;
mod restart;
mod server;
mod snapshots;
mod sync;
mod todo;

mod uploads;
