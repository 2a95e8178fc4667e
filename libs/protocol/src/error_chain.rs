//! Errors with their causes, on one line.

use std::error::Error;
use std::fmt;

/// An error and all of its causes, displayed as `error: cause: cause of the cause`.
///
/// Our errors keep a cause as `#[source]` and do not repeat it in their own text. Where an error
/// ends in a log line or a message, this shows the whole chain.
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'a>(pub &'a dyn Error);

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;

        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Self>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &dyn Error)
        }
    }

    #[test]
    fn every_cause_is_shown_once_and_in_order() {
        let inner = Layer("connection refused", None);
        let middle = Layer("cannot connect", Some(Box::new(inner)));
        let outer = Layer("storage failed", Some(Box::new(middle)));
        let shown = ErrorChain(&outer).to_string();
        assert_eq!(shown, "storage failed: cannot connect: connection refused");
        assert_eq!(ErrorChain(&Layer("alone", None)).to_string(), "alone");
    }
}
