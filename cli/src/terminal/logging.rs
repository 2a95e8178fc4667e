//! Logs and progress bars, which share stderr.

use std::io::{IsTerminal, Write};
use std::sync::LazyLock;

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use tracing::level_filters::LevelFilter;
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

/// Adds a bar that counts `unit`.
pub(crate) fn add_bar(message: &str, unit: &str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_style(bar_style(unit));
    BARS.add(bar.with_message(message.to_owned()))
}

/// Returns the style of a bar. One line of 80 columns shows it whole.
fn bar_style(unit: &str) -> ProgressStyle {
    let template =
        format!("  {{msg:18!}} {{bar:10}} {{human_pos:>11}} / {{human_len}} {unit} {{rate:>11}}");
    ProgressStyle::with_template(&template)
        .expect("the template is a constant that parses")
        .with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            // If the text cannot be written, the bar lacks it.
            let _ = write!(text, "{}/s", HumanCount(whole(state.per_sec())));
        })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate that people look at"
)]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
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
#[expect(clippy::disallowed_methods, reason = "the filter of the log is no flag of a command")]
pub(crate) fn start(default_filter: &str) {
    let filter = ["TIDEWATER_LOG", "RUST_LOG"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find_map(|directives| EnvFilter::try_new(with_our_crates(&directives)).ok())
        .unwrap_or_else(|| EnvFilter::new(default_filter));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(AroundBars::new);

    if on_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().init();
    }
}

/// Returns the directives of a filter. A level alone is that of our crates: at `debug`, the SQL parser
/// and the HTTP library would hide everything else.
fn with_our_crates(directives: &str) -> String {
    match directives.trim().parse::<LevelFilter>() {
        Ok(level) => DEFAULT_FILTER.replace("=info", &format!("={level}")),
        Err(_) => directives.to_owned(),
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::{ProgressDrawTarget, TermLike};

    use super::*;

    #[test]
    fn a_level_alone_is_that_of_our_crates() {
        let filter = with_our_crates(" debug");
        assert!(filter.starts_with("warn,pgwire_replication=off,tidewater=debug,"), "{filter}");
        assert!(!filter.contains("info"), "{filter}");
        assert_eq!(with_our_crates("info,sqlparser=debug"), "info,sqlparser=debug");
    }

    /// A terminal that keeps what is written to it.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            80
        }

        fn write_line(&self, line: &str) -> io::Result<()> {
            self.write_str(&format!("{line}\n"))
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().clear();
            Ok(())
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_bar_fits_into_80_columns() {
        for unit in ["rows", "operations"] {
            let screen = Screen::default();
            let bar = ProgressBar::with_draw_target(
                Some(123_456_789),
                ProgressDrawTarget::term_like(Box::new(screen.clone())),
            );
            bar.set_style(bar_style(unit));
            bar.set_message("public.a_table_with_a_long_name");
            bar.set_position(98_765_432);
            bar.tick();

            let shown = screen.0.lock().unwrap().clone();
            let rate = shown.trim_end().rsplit(' ').next().unwrap();
            assert!(rate.ends_with("/s") && !rate.contains('.'), "{shown:?}");
            let total = format!("98,765,432 / 123,456,789 {unit}");
            assert!(shown.contains(&total), "{shown:?}");
            // The rate of the first moment is far beyond any real one.
            let width = shown.trim_end().chars().count() - rate.len() + "1,234,567/s".len();
            assert!(width <= 80, "{shown:?}");
        }
    }
}
