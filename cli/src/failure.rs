//! How a command ends when it does not end well.

use std::io::Write;
use std::process::ExitCode;

/// Why a command stopped, sorted by its exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the user gave is wrong, and the same call fails again: exit code 2.
    Wrong(anyhow::Error),
    /// It did not work: exit code 1.
    Failed(anyhow::Error),
    /// The input was looked at and found wrong, and everything has been said: exit code 2.
    Told,
}

impl Failure {
    /// Wrong usage or input.
    pub(crate) fn wrong(error: impl Into<anyhow::Error>) -> Self {
        Self::Wrong(error.into())
    }

    /// The error, for a caller to whom the exit code means nothing.
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Wrong(error) | Self::Failed(error) => error,
            Self::Told => anyhow::anyhow!("the input is wrong"),
        }
    }

    /// Writes the error and its causes to stderr; the code to exit with.
    pub(crate) fn report(&self) -> ExitCode {
        let (error, code) = match self {
            Self::Wrong(error) => (error, 2),
            Self::Failed(error) => (error, 1),
            Self::Told => return ExitCode::from(2),
        };
        // Nobody is left to be told when stderr is closed.
        let _ = std::io::stderr().write_all(message(error).as_bytes());
        ExitCode::from(code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// The error, then each cause on a line of its own.
fn message(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("  because: {cause}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_line() {
        let error = anyhow::anyhow!("disk on fire").context("cannot read 'a'").context("stopped");
        assert_eq!(
            message(&error),
            "error: stopped\n  because: cannot read 'a'\n  because: disk on fire\n"
        );
    }
}
