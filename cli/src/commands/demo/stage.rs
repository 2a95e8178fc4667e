//! The demo's steps: a spinner while one runs, and a line at its end.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::report::seconds;
use crate::terminal::logging;

/// Interval of the spinner's animation.
const TICK: Duration = Duration::from_millis(100);

/// A step that is running.
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

    /// Prints that the step is done, with its result. Returns the time that it took.
    pub(crate) fn done(self, result: impl FnOnce(Duration) -> String) -> Duration {
        let time = self.began.elapsed();
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        say(&format!("  ✓ {:46} {:>9}   {}", self.what, seconds(time), result(time)));
        time
    }

    /// Prints that the step failed.
    pub(crate) fn failed(self, why: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        say(&format!("  ✗ {:46} {:>9}   {why}", self.what, seconds(self.began.elapsed())));
    }
}

/// Prints a line of the demo's output.
pub(crate) fn say(line: &str) {
    // If stdout is closed, nobody reads the line.
    let _ = logging::bars().suspend(|| writeln!(std::io::stdout(), "{line}"));
}
