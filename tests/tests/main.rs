//! End-to-end tests: a real PostgreSQL, the `tidewater` binary, and clients.
//!
//! All of them are modules of one binary, since each binary is linked separately. The faults that
//! they inject are listed in `tests/FAULTS.md`.

mod admin;
mod aws;
mod backend_node;
mod backend_trouble;
mod bad_input;
mod client_schema;
mod connections;
mod console;
mod copy;
mod decoding;
mod end_to_end;
mod fixtures;
mod full_disk;
mod getting_started;
mod health;
mod idle_cost;
mod lambda;
mod localstack;
mod metrics;
mod no_leak;
mod official_sdk;
mod official_sdk_bases;
mod plan;
mod random_system;
mod redeploy;
mod refusing_store;
mod restored_tickets;
mod rights;
mod row_limits;
mod rows;
mod secure_source;
mod slot_guard;
mod source_check;
mod source_identity;
mod stalled_store;
mod status;
mod tables;
mod takeover;
mod traffic_cost;
mod until_caught_up;
mod validate;
mod value_types;
mod verify;
mod why;
