//! Errors of evaluation.

/// Reason why an expression has no value. Contains no data of the row, so it may be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EvaluationError {
    /// A text is not valid JSON.
    NotJson,
    /// A text is not a JSON array.
    NotAnArray,
    /// A JSON path does not begin with `$`.
    BadPath,
    /// The text of a PostgreSQL value does not have the format of its type.
    BadText,
    /// Arrays, composites and ranges are nested too deeply.
    TooDeep,
    /// A value is not a UUID.
    NotUuid,
    /// A value is not a geometry in PostGIS's format.
    NotGeometry,
    /// An integer does not fit in 64 bits.
    IntegerOverflow,
    /// A text or blob is longer than [`VALUE_BYTES_MAX`](crate::value::VALUE_BYTES_MAX).
    TooLong,
    /// A LIKE takes too many steps.
    TooManySteps,
    /// A query yields too many buckets or keys for one subscription.
    TooMany,
    /// A request asks too many lookup questions.
    TooManyQuestions,
    /// A request takes too many steps.
    OverBudget,
    /// The arrays of a row have more combinations of elements than
    /// [`COMBINATIONS_MAX`](crate::row::evaluate::COMBINATIONS_MAX).
    TooManyCombinations,
    /// The keys and outputs of a row are longer than
    /// [`MATCH_BYTES_MAX`](crate::row::evaluate::MATCH_BYTES_MAX).
    TooManyBytes,
    /// The output column `id` is NULL.
    NullId,
    /// The output column `id` is a blob.
    BlobId,
}

impl EvaluationError {
    /// Returns the message for logs and reports.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::NotJson => "a value is not valid JSON, or is nested more than 1000 levels deep",
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
            Self::TooManyQuestions => "too many lookups",
            Self::OverBudget => "too many steps",
            Self::TooManyCombinations => "its arrays have more than 10000 combinations of elements",
            Self::TooManyBytes => "its keys and outputs are longer than 16 MiB together",

            Self::NullId => "the column `id` is NULL",
            Self::BlobId => "the column `id` is a blob",
        }
    }
}
