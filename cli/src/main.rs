//! The `tidewater` command: wires the other crates together for people.

mod api;
mod args;
mod builder;
mod compact;
mod data_dir;
mod demo;
mod dev;
mod dev_key;
mod duration;
mod explain;
mod failure;
mod format;
mod ingest;
mod logging;
mod progress;
mod rows;
mod schema;
mod serve;
mod signals;
mod store;
mod sync;
mod token;
mod validate;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter =
        if matches!(cli.command, Command::Demo(_)) { logging::QUIET } else { logging::USUAL };
    logging::start(filter);
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Dev(args) => block_on(dev::run(&args)),
        Command::Validate(args) => block_on(validate::run(&args)),
        Command::Schema(args) => schema::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Rows(args) => block_on(rows::run(&args)),
        Command::Token(args) => token::run(&args),
        Command::Ingest(args) => block_on(ingest::run(&args)),
        Command::Compact(args) => block_on(compact::run(&args)),
        Command::Serve(args) => block_on(serve::run(&args)),
        Command::Sync(args) => block_on(sync::run(&args)),
        Command::Demo(args) => block_on(demo::run(&args)),
    }
}

/// Runs a command on a runtime of its own, which is gone, with all that it started, on return.
fn block_on<F: Future<Output = Result<(), Failure>>>(command: F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(anyhow::Error::from)?.block_on(command)
}
