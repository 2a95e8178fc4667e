//! Logs and progress bars, which share stderr.

use std::io::{IsTerminal, Write};
use std::sync::LazyLock;

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;

/// Filter of the log if neither `TIDEWATER_LOG` nor `RUST_LOG` is set.
pub(crate) const DEFAULT_FILTER: &str = "warn,pgwire_replication=off,tidewater=info,tidewater_ingest_worker=info,\
    tidewater_functions=info,tidewater_client=info,tidewater_storage=info";

/// Filter for a command that prints its own progress.
pub(crate) const QUIET_FILTER: &str = "error";

/// All progress bars of the process. They are hidden while a log line is written.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Returns the progress bars, which are drawn on a terminal only.
pub(crate) fn bars() -> &'static MultiProgress {
    &BARS
}

/// Returns whether stderr is a terminal.
pub(crate) fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Writes text to stderr without disturbing the progress bars.
pub(crate) fn eprint(text: &str) {
    // If stderr is closed, nobody reads the text.
    let _ = BARS.suspend(|| std::io::stderr().write_all(text.as_bytes()));
}

/// Installs the log: text on a terminal, JSON otherwise.
pub(crate) fn start(default_filter: &str) {
    let filter = ["TIDEWATER_LOG", "RUST_LOG"]
        .into_iter()
        .find_map(|name| EnvFilter::try_from_env(name).ok())
        .unwrap_or_else(|| EnvFilter::new(default_filter));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(AroundBars::new);

    if on_terminal() {
        builder.with_timer(tracing_subscriber::fmt::time::uptime()).with_target(false).init();
    } else {
        builder.json().init();
    }
}

/// A writer to stderr that hides the progress bars while it writes a line.
struct AroundBars;

impl AroundBars {
    fn new() -> Self {
        Self
    }
}

impl Write for AroundBars {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        BARS.suspend(|| std::io::stderr().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
