//! The store against what stands in for AWS: the DynamoDB emulator with objects in a directory, the
//! same behind a proxy that does its worst, and LocalStack with S3. One program, since each one
//! that links the SDK takes long to build.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

mod conformance;
mod consumed;
mod emulator;
mod environment;
mod faults;
mod given;
mod limits;
mod localstack;
mod metrics;
mod sdk;
mod tables;
mod unreliable;
