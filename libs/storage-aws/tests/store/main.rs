//! The store on emulators of AWS: the DynamoDB emulator with objects in a directory, the same behind a
//! proxy that injects faults, and LocalStack with S3. All tests are one program, because each program
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
mod without_list_bucket;
