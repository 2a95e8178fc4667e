//! The demo's steps: a spinner while one runs, a line when it is done.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::report::seconds;
use crate::logging;

const TICK: Duration = Duration::from_millis(100);

/// A step under way.
pub(crate) struct Stage {
    what: &'static str,
    began: Instant,
    spinner: Option<ProgressBar>,
}

impl Stage {
    /// Begins a step.
    pub(crate) fn begin(what: &'static str) -> Self {
        let spinner = logging::on_terminal().then(|| {
            let style = ProgressStyle::with_template("  {spinner} {msg} {elapsed}")
                .expect("the template is a constant that parses");
            let spinner = ProgressBar::new_spinner().with_style(style).with_message(what);
            let spinner = logging::bars().add(spinner);
            spinner.enable_steady_tick(TICK);
            spinner
        });
        Self { what, began: Instant::now(), spinner }
    }

    /// Says that it is done, and with what result; how long it took.
    pub(crate) fn done(self, result: impl FnOnce(Duration) -> String) -> Duration {
        let time = self.began.elapsed();
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        say(&format!("  ✓ {:46} {:>9}   {}", self.what, seconds(time), result(time)));
        time
    }

    /// Says that it went wrong.
    pub(crate) fn failed(self, why: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        say(&format!("  ✗ {:46} {:>9}   {why}", self.what, seconds(self.began.elapsed())));
    }
}

/// Prints a line of the demo's story.
pub(crate) fn say(line: &str) {
    // Nobody is left to be told when stdout is closed.
    let _ = logging::bars().suspend(|| writeln!(std::io::stdout(), "{line}"));
}
