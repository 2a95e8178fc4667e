//! The `tidewater` command, which connects the other crates for use on the command line.
//!
//! `command_line` declares the commands, and `commands` has a file for each. What several of them
//! start, with its flags, is in `services`. `terminal`, `process` and `tokens` are below those.

mod command_line;
mod commands;
mod process;
mod services;
mod terminal;
mod tokens;

use std::process::ExitCode;

use clap::Parser;

use command_line::{Cli, Command};
use commands::{
    check, compact, cost, demo, dev, explain, ingest, plan, probe, queue, rows, schema, serve,
    status, sync, token, top, validate, verify, why,
};
use terminal::failure::Failure;
use terminal::logging;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_demo = matches!(cli.command, Command::Demo(_));
    logging::start(if is_demo { logging::QUIET_FILTER } else { logging::DEFAULT_FILTER });

    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Dev(args) => block_on(dev::run(&args)),
        Command::Validate(args) => block_on(validate::run(&args)),
        Command::Check(args) => block_on(check::run(&args)),
        Command::Schema(args) => block_on(schema::run(&args)),
        Command::Explain(args) => explain::run(&args),
        Command::Plan(args) => block_on(plan::run(&args)),
        Command::Rows(args) => block_on(rows::run(&args)),
        Command::Token(args) => token::run(&args),
        Command::Ingest(args) => block_on(ingest::run(&args)),
        Command::Compact(args) => block_on(compact::run(&args)),
        Command::Serve(args) => block_on(serve::run(&args)),
        Command::Status(args) => block_on(status::run(&args)),
        Command::Top(args) => block_on(top::run(&args)),
        Command::Probe(args) => block_on(probe::run(&args)),
        Command::Why(args) => block_on(why::run(&args)),
        Command::Cost(args) => block_on(cost::run(&args)),
        Command::Verify(args) => block_on(verify::run(&args)),
        Command::Sync(args) => block_on(sync::run(&args)),
        Command::Queue(args) => queue::run(&args),
        Command::Demo(args) => block_on(demo::run(&args)),
    }
}

/// Runs a command on a runtime of its own. On return, the runtime has dropped all of its tasks.
fn block_on<F: Future<Output = Result<(), Failure>>>(command: F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(anyhow::Error::from)?.block_on(command)
}
