//! Failures of a command, and their exit codes.

use std::io::Write;
use std::process::ExitCode;

/// The reason why a command stopped. The variants differ in the exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong flags or input. The same call fails again. Exit code 2.
    Usage(anyhow::Error),
    /// An operation failed. Exit code 1.
    Failed(anyhow::Error),
    /// Wrong input that the command has already reported in full. Exit code 2.
    AlreadyReported,
    /// A source database that is not ready, which the command has already reported in full. Exit code 1.
    SourceNotReady,
    /// A store that is not equal to its source, which the command has already reported in full. Exit
    /// code 1.
    NotEqual,
    /// A deployment that is not healthy, which the command has already reported in full. Exit code 1.
    NotHealthy,
    /// A row that does not arrive, which the command has already reported in full. Exit code 1.
    DoesNotArrive,
    /// A plan that copies tables, which the command has already reported in full. Exit code 2.
    WouldCopy,
}

impl Failure {
    /// Returns a failure for wrong flags or input.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    /// Returns the error, for a caller that does not set an exit code.
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Usage(error) | Self::Failed(error) => error,
            Self::AlreadyReported => anyhow::anyhow!("the input is wrong"),
            Self::SourceNotReady => anyhow::anyhow!("the source database is not ready"),
            Self::NotEqual => anyhow::anyhow!("the store is not equal to the source database"),
            Self::NotHealthy => anyhow::anyhow!("the deployment is not healthy"),
            Self::WouldCopy => anyhow::anyhow!("tables would be copied"),
            Self::DoesNotArrive => anyhow::anyhow!("the row does not arrive"),
        }
    }

    /// Writes the error and its causes to stderr, and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let (error, code) = match self {
            Self::Usage(error) => (error, 2),
            Self::Failed(error) => (error, 1),
            Self::AlreadyReported | Self::WouldCopy => return ExitCode::from(2),
            Self::SourceNotReady | Self::NotEqual | Self::NotHealthy | Self::DoesNotArrive => {
                return ExitCode::from(1);
            }
        };
        // If stderr is closed, nobody reads the error.
        let _ = std::io::stderr().write_all(message(error).as_bytes());
        ExitCode::from(code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Formats an error, with each cause on a line of its own.
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
