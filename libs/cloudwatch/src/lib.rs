//! Metrics as lines of a log, from which CloudWatch reads them: without a call, a connection or an agent.
#![warn(missing_docs)]

mod emf;

pub use emf::{EmfRecorder, NAMESPACE, PUBLISHED};
