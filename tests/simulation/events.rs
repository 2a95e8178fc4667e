//! The log of events of a run, by which a failed seed is debugged.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

/// Number of lines that are kept for the case of a failure. They cover more than a hundred turns,
/// and a fault usually shows soon after its cause.
const RECENT_MAX: usize = 500;

/// The lines of a run. Equal seeds give equal lines.
#[derive(Default)]
pub(crate) struct EventLog {
    recent: VecDeque<String>,
    /// All lines, if the test compares them.
    all: Option<Vec<String>>,
    /// The file that all lines are written to.
    file: Option<Arc<File>>,
}

impl EventLog {
    /// Returns a log that keeps all lines for [`Self::take_lines`].
    pub(crate) fn keeping_all() -> Self {
        Self { all: Some(Vec::new()), ..Self::default() }
    }

    /// Returns a log that writes all lines to a file too, if there is one.
    pub(crate) fn with_file(file: Option<Arc<File>>) -> Self {
        Self { file, ..Self::default() }
    }

    pub(crate) fn push(&mut self, line: String) {
        if let Some(file) = &self.file {
            file.as_ref().write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        if let Some(all) = &mut self.all {
            all.push(line.clone());
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(line);
    }

    /// Returns the last lines, oldest first.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &String> {
        self.recent.iter()
    }

    /// Returns all lines of a log that keeps them.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        self.all.take().unwrap_or_default()
    }
}
