//! End-to-end tests: a real PostgreSQL, the `tidewater` binary, and clients.

mod bad_input;
mod end_to_end;
mod fixtures;
mod official_sdk;
mod random_system;
