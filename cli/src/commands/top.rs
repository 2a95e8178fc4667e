//! `tidewater top`: shows the state of a deployment, again and again.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use console::Term;

use crate::process::data_dir;
use crate::process::signals::Interruption;
use crate::services::status::StatusArgs;
use crate::terminal::failure::Failure;
use crate::terminal::{duration, status_text};

/// Switches to the alternate screen and hides the cursor, so that the shell's text is kept.
const BEGIN: &str = "\x1b[?1049h\x1b[?25l";
/// Undoes [`BEGIN`].
const END: &str = "\x1b[?25h\x1b[?1049l";
/// Moves to the upper left corner.
const HOME: &str = "\x1b[H";
/// Clears the rest of a line, and the rest of the screen.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";

const EXAMPLES: &str = "\
Examples:
  The store of `tidewater dev` in this folder, while it runs:
    tidewater top

  With the replication slot, every five seconds:
    tidewater top --interval 5s --database-url postgres://user@host/db

Ctrl-C ends it. It needs a terminal: `tidewater status --json` is for programs.

Exit codes: 0 ended by Ctrl-C, 1 the store cannot be read, 2 wrong usage.";

/// Show the state of a deployment in a terminal, again and again
///
/// It shows what `tidewater status` prints.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    status: StatusArgs,
    /// Time between two looks
    #[arg(long, env = "TIDEWATER_INTERVAL", value_name = "DURATION", default_value = "2s",
          value_parser = duration::parse_positive)]
    interval: Duration,
    /// Number of buckets that are examined at each look. On AWS, each costs one or two read units
    #[arg(long, env = "TIDEWATER_SCAN_BUCKETS", value_name = "N", default_value_t = 200)]
    scan_buckets: usize,
}

/// Shows the state until a signal.
pub(crate) async fn run(args: &TopArgs) -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() {
        return Err(Failure::Usage(anyhow!(
            "tidewater top needs a terminal, and stdout is none: use `tidewater status`, or \
             `tidewater status --json` for programs"
        )));
    }
    data_dir::create_private_files();
    let store = args.status.open().await?;
    let mut interruption = Interruption::listen()?;

    print(BEGIN)?;
    let shown = tokio::select! {
        shown = async {
            loop {
                let status = args.status.read(&store, args.scan_buckets).await?;
                let (height, width) = Term::stdout().size();
                print(&frame(&status_text::render(&status), height.into(), width.into()))?;
                tokio::time::sleep(args.interval).await;
            }
        } => shown,
        () = interruption.wait() => Ok(()),
    };
    print(END)?;
    shown
}

/// Returns a text as one screen: cut at its edges, with the rest cleared.
fn frame(text: &str, height: usize, width: usize) -> String {
    let mut frame = HOME.to_owned();
    // The last line stays empty: a line break there would scroll.
    for line in text.lines().take(height.saturating_sub(1)) {
        let line: String = line.chars().take(width).collect();
        // A String takes every write.
        let _ = write!(frame, "{line}{CLEAR_LINE}\r\n");
    }
    frame + CLEAR_REST
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.context("cannot write to stdout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_cut_at_the_edges_of_the_screen() {
        let shown = frame("one\ntwo\nthree\n", 3, 2);
        assert_eq!(shown, "\x1b[Hon\x1b[K\r\ntw\x1b[K\r\n\x1b[J");
        assert_eq!(frame("a\n", 24, 80), "\x1b[Ha\x1b[K\r\n\x1b[J");
    }
}
