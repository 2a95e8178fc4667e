//! The command line.

use clap::{Parser, Subcommand};

use crate::compact::CompactArgs;
use crate::demo::DemoArgs;
use crate::dev::DevArgs;
use crate::explain::ExplainArgs;
use crate::ingest::IngestArgs;
use crate::rows::RowsArgs;
use crate::schema::SchemaArgs;
use crate::serve::ServeArgs;
use crate::sync::SyncArgs;
use crate::token::TokenArgs;
use crate::validate::ValidateArgs;

const OVERVIEW: &str = "\
First steps:
  tidewater demo                                    see it work on a throwaway PostgreSQL
  tidewater dev --database-url URL --sync-config sync-config.yaml
                                                    your own database, on this machine
  tidewater token --user-id u1                      a token for an app under development

Every flag can be given in the environment: --database-url as TIDEWATER_DATABASE_URL, and so on;
flags win. A flag that may be repeated is a comma-separated list there. Logs go to stderr (text on a
terminal, JSON otherwise; filtered by TIDEWATER_LOG), results to stdout.
Exit codes: 0 done, 1 failed, 2 wrong usage or input.";

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
    Schema(SchemaArgs),
    Explain(ExplainArgs),
    Rows(RowsArgs),
    Token(TokenArgs),
    Ingest(IngestArgs),
    Compact(CompactArgs),
    Serve(ServeArgs),
    Sync(SyncArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// The flags' environment variables are a public interface with one rule.
    #[test]
    fn each_flag_has_its_variable() {
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
