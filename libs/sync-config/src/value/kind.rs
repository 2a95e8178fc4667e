//! Kinds of values.

/// Values of different kinds are never equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ValueKind {
    Number,
    Text,
}
