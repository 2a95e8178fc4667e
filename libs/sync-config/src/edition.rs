//! Editions of the config's language.

/// Which language the file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Edition {
    One,
    Two,
    Three,
}
