//! Why an expression has no value.

/// Why an expression has no value. Never holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EvaluationError {
    /// Text that should be JSON is not.
    NotJson,
    /// Text that should be a JSON array is something else.
    NotAnArray,
    /// A path that does not begin with `$`.
    BadPath,
    /// PostgreSQL's text of a value that is not what its type prints.
    BadText,
    /// Arrays and the like within each other, too many.
    TooDeep,
    /// Text that should be a UUID is not.
    NotUuid,
    /// What should be a geometry as PostGIS prints it is not.
    NotGeometry,
    /// An integer that does not fit in 64 bits.
    IntegerOverflow,
    /// A text or blob that is longer than [`VALUE_BYTES_MAX`](crate::value::VALUE_BYTES_MAX).
    TooLong,
    /// A LIKE of too many steps.
    TooManySteps,
    /// More buckets or keys than may come of one row or request.
    TooMany,
    NullId,
    BlobId,
}

impl EvaluationError {
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::NotJson => "a value is not valid JSON",
            Self::NotAnArray => "a value is not a JSON array",
            Self::BadPath => "a JSON path does not begin with `$`",
            Self::BadText => "a value is not as PostgreSQL prints its type",
            Self::TooDeep => "a value is nested more than 10 levels deep",
            Self::NotUuid => "a value is not a UUID",
            Self::NotGeometry => "a value is not a geometry as PostGIS prints it",
            Self::IntegerOverflow => "an integer is beyond 64 bits",
            Self::TooLong => "the result of an expression is longer than 16 MiB",
            Self::TooManySteps => "a text takes more than 10000000 steps to compare with LIKE",
            Self::TooMany => "too many combinations of array elements",
            Self::NullId => "the column `id` is NULL",
            Self::BlobId => "the column `id` is a blob",
        }
    }
}
