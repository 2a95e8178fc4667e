//! Logs and progress bars share stderr.

use std::io::{IsTerminal, Write};
use std::sync::LazyLock;

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;

/// What is logged where neither `TIDEWATER_LOG` nor `RUST_LOG` says.
pub(crate) const USUAL: &str = "warn,pgwire_replication=off,tidewater=info,tidewater_ingest_worker=info,\
    tidewater_functions=info,tidewater_client=info,tidewater_storage=info";

/// The same, for a command that tells its own story.
pub(crate) const QUIET: &str = "error";

/// All progress bars of the process; log lines are written around them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// The progress bars: drawn on a terminal only.
pub(crate) fn bars() -> &'static MultiProgress {
    &BARS
}

/// Whether a person is watching stderr.
pub(crate) fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Writes text for people to stderr.
pub(crate) fn print_around_bars(text: &str) {
    // Nobody is left to be told when stderr is closed.
    let _ = BARS.suspend(|| std::io::stderr().write_all(text.as_bytes()));
}

/// Sends events to stderr: text on a terminal, JSON otherwise.
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

/// Stderr, with the progress bars out of the way while a line is written.
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
