//! Tests of the `tidewater` program, run as people and programs run it. They need no database.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod docs;
mod explain;
mod program;
mod token;
mod usage;
mod validate;
