//! The flags for limits on clients.

use clap::Args;

/// Number of connections and streams by default: what a process with 512 MB serves.
const CONNECTIONS_MAX: usize = 10_000;

/// The flags for limits on clients. docs/limits.md describes them.
#[derive(Args, Clone, Debug)]
pub(crate) struct LimitArgs {
    /// Connections that are served at a time. Probes have some more. The limit on open files is raised
    /// to the hard one, and bounds this number
    #[arg(long, env = "TIDEWATER_MAX_CONNECTIONS", value_name = "N",
          default_value_t = CONNECTIONS_MAX, value_parser = parse_count)]
    pub(crate) max_connections: usize,
}

impl Default for LimitArgs {
    fn default() -> Self {
        Self { max_connections: CONNECTIONS_MAX }
    }
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        Ok(_) | Err(_) => Err("it must be a number from 1".to_owned()),
    }
}
