//! `tidewater schema`: prints the JSON Schema of sync configs, for editors.

use std::io::Write;

use anyhow::Context;
use clap::Args;

use crate::terminal::failure::Failure;

const SCHEMA: &str = include_str!("../../../libs/sync-config/sync-config.schema.json");

const EXAMPLES: &str = "\
Example:
  Write the schema next to the sync config, and refer to it in the config's first line. This works in
  editors that use yaml-language-server (VS Code with its YAML extension, Neovim, Helix and others):
    tidewater schema > sync-config.schema.json

    # yaml-language-server: $schema=./sync-config.schema.json
    config:
      edition: 3

The editor then completes and explains keys, and marks unknown ones. It does not check the queries;
`tidewater validate` does.";

/// Print the JSON Schema of sync configs, for editors
///
/// It is JSON Schema draft 2020-12. Nothing else is printed.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SchemaArgs {}

/// Prints the schema to stdout.
pub(crate) fn run(_: &SchemaArgs) -> Result<(), Failure> {
    std::io::stdout().write_all(SCHEMA.as_bytes()).context("cannot write to stdout")?;
    Ok(())
}
