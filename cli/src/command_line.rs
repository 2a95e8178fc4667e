//! The command line: all commands, and the help that they share.

use clap::{Parser, Subcommand};

use crate::commands::check::CheckArgs;
use crate::commands::compact::CompactArgs;
use crate::commands::cost::CostArgs;
use crate::commands::demo::DemoArgs;
use crate::commands::dev::DevArgs;
use crate::commands::explain::ExplainArgs;
use crate::commands::ingest::IngestArgs;
use crate::commands::plan::PlanArgs;
use crate::commands::probe::ProbeArgs;
use crate::commands::queue::QueueArgs;
use crate::commands::rows::RowsArgs;
use crate::commands::schema::SchemaArgs;
use crate::commands::serve::ServeArgs;
use crate::commands::status::StatusCommandArgs;
use crate::commands::sync::SyncArgs;
use crate::commands::token::TokenArgs;
use crate::commands::top::TopArgs;
use crate::commands::validate::ValidateArgs;
use crate::commands::verify::VerifyArgs;
use crate::commands::why::WhyArgs;

/// Help text below the list of commands.
const OVERVIEW: &str = "\
First steps:
  tidewater demo                                    try it on a temporary PostgreSQL
  tidewater dev --database-url URL --sync-config sync-config.yaml
                                                    sync your own database, on this machine
  tidewater token --user-id u1                      print a token for development

Every flag can be set in the environment: --database-url as TIDEWATER_DATABASE_URL, and so on. Flags
take precedence. A repeatable flag is a comma-separated list there. Logs go to stderr (text on a
terminal, JSON otherwise; filtered by TIDEWATER_LOG), results to stdout.
Exit codes: 0 success, 1 failure, 2 wrong usage or input.";

/// Keep a PostgreSQL database in sync with SQLite databases on devices
#[derive(Parser, Debug)]
#[command(name = "tidewater", version, max_term_width = 100)]
#[command(after_help = OVERVIEW, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    Demo(DemoArgs),
    Dev(DevArgs),
    Validate(ValidateArgs),
    Check(CheckArgs),
    Schema(SchemaArgs),
    Explain(ExplainArgs),
    Plan(PlanArgs),
    Rows(RowsArgs),
    Token(TokenArgs),
    Ingest(IngestArgs),
    Compact(CompactArgs),
    Serve(ServeArgs),
    Status(StatusCommandArgs),
    Top(TopArgs),
    Probe(ProbeArgs),
    Why(WhyArgs),
    Cost(CostArgs),
    Verify(VerifyArgs),
    Sync(SyncArgs),
    Queue(QueueArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_passes_claps_checks() {
        Cli::command().debug_assert();
    }

    /// The environment variables are a public interface, named by one rule.
    #[test]
    fn each_flag_has_an_environment_variable() {
        for command in Cli::command().get_subcommands() {
            for flag in command.get_arguments().filter(|argument| argument.get_long().is_some()) {
                let long = flag.get_long().unwrap();
                if long == "help" {
                    continue;
                }
                let expected = format!("TIDEWATER_{}", long.to_uppercase().replace('-', "_"));
                let variable = flag.get_env().map(|name| name.to_string_lossy().into_owned());
                assert_eq!(variable, Some(expected), "{} --{long}", command.get_name());
            }
        }
    }

    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands().filter(|c| c.get_name() != "help") {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{}", command.get_name());
        }
    }
}
