//! Editions of the sync config language.

/// Version of the language that a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Edition {
    /// Bucket definitions. The default, with the behavior of the oldest configs.
    One,
    /// Bucket definitions and early streams, with the fixes of values switched on.
    Two,
    /// Streams, with all of the language.
    Three,
}
