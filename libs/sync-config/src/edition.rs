//! Editions of the config's language.

/// Version of the language that a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Edition {
    One,
    Two,
    Three,
}
