//! `tidewater schema`: the sync config's shape, for editors.

use std::io::Write;

use anyhow::Context;
use clap::Args;

use crate::failure::Failure;

const SCHEMA: &str = include_str!("../../libs/sync-config/sync-config.schema.json");

const EXAMPLES: &str = "\
Example:
  Write the schema beside the sync config, and name it in the config's first line, for editors
  that work with yaml-language-server (VS Code with its YAML extension, Neovim, Helix and others):
    tidewater schema > sync-config.schema.json

    # yaml-language-server: $schema=./sync-config.schema.json
    config:
      edition: 3

The editor then completes keys, says what they mean, and marks those that do not exist. It does not
read the queries: `tidewater validate` does.";

/// Print the JSON Schema of sync configs, for editors
///
/// JSON Schema draft 2020-12. Nothing but the schema is printed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SchemaArgs {}

/// Prints the schema on stdout.
pub(crate) fn run(_: &SchemaArgs) -> Result<(), Failure> {
    std::io::stdout().write_all(SCHEMA.as_bytes()).context("cannot write to stdout")?;
    Ok(())
}
