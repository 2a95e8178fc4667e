//! Evaluates rows of one table for several configs at once.

use std::collections::BTreeSet;

use super::evaluate::TableEvaluator;
use super::output::{BucketRow, RowOutput};

/// Evaluator of the rows of one table for all configs that are in use.
///
/// Definitions and lookups have the numbers that the caller gives them. One that several configs share
/// is evaluated once.
#[derive(Clone, Debug, Default)]
pub struct UnionEvaluator {
    parts: Vec<EvaluatorPart>,
    columns_read: Vec<bool>,
}

/// The definitions and lookups of one config that no earlier part has.
#[derive(Clone, Debug)]
pub struct EvaluatorPart {
    evaluator: TableEvaluator,
    is_served: bool,
    definitions: BTreeSet<usize>,
    lookups: BTreeSet<usize>,
}

impl UnionEvaluator {
    /// Adds the evaluator of a config, whose definitions and lookups have these numbers. `is_served`
    /// tells whether readers have the config, or may have it back at any time.
    pub fn add(
        &mut self,
        evaluator: TableEvaluator,
        definitions: &[u16],
        lookups: &[u16],
        is_served: bool,
    ) {
        let known_definitions: BTreeSet<_> = self.definitions().collect();
        let known_lookups: BTreeSet<_> = self.lookups().collect();
        let evaluator = evaluator.renumbered(
            |definition| {
                let number = usize::from(definitions[definition]);
                (!known_definitions.contains(&number)).then_some(number)
            },
            |lookup| {
                let number = usize::from(lookups[lookup]);
                (!known_lookups.contains(&number)).then_some(number)
            },
        );

        self.columns_read.resize(evaluator.columns_read().len(), false);
        for (read, also) in self.columns_read.iter_mut().zip(evaluator.columns_read()) {
            *read |= also;
        }
        self.parts.push(EvaluatorPart {
            is_served,
            definitions: evaluator.definitions().collect(),
            lookups: evaluator.lookups().collect(),
            evaluator,
        });
    }

    /// Returns the parts, in the order in which they were added.
    #[must_use]
    pub fn parts(&self) -> &[EvaluatorPart] {
        &self.parts
    }

    /// Returns whether no config reads the table.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Returns whether the table's rows answer lookups.
    #[must_use]
    pub fn has_lookups(&self) -> bool {
        self.parts.iter().any(|part| part.evaluator.has_lookups())
    }

    /// Returns the numbers of the definitions that the table's rows may be in.
    pub fn definitions(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().flat_map(|part| part.definitions.iter().copied())
    }

    /// Returns the numbers of the lookups that the table's rows may answer.
    pub fn lookups(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().flat_map(|part| part.lookups.iter().copied())
    }

    /// Returns for each column of the table whether any query reads it.
    #[must_use]
    pub fn columns_read(&self) -> &[bool] {
        &self.columns_read
    }

    /// Returns whether a config that is served reads a column.
    #[must_use]
    pub fn serves_column(&self, column: usize) -> bool {
        let mut served = self.parts.iter().filter(|part| part.is_served);
        served.any(|part| part.evaluator.columns_read().get(column).copied().unwrap_or_default())
    }

    /// Returns whether rows of the definition with a number contain every column of the table as it is, as
    /// those of `SELECT *` do: then each change of a row changes its content.
    #[must_use]
    pub fn contains_all_columns(&self, number: usize) -> bool {
        let mut parts = self.parts.iter().filter(|part| part.definitions.contains(&number));
        parts.all(|part| part.evaluator.contains_all_columns(number))
    }

    /// Returns whether the definition with a number is in a config that is served.
    #[must_use]
    pub fn serves_definition(&self, number: u16) -> bool {
        let number = usize::from(number);
        self.parts.iter().any(|part| part.is_served && part.definitions.contains(&number))
    }

    /// Returns whether the lookup with a number is in a config that is served.
    #[must_use]
    pub fn serves_lookup(&self, number: u16) -> bool {
        let number = usize::from(number);
        self.parts.iter().any(|part| part.is_served && part.lookups.contains(&number))
    }

    /// Evaluates a row as [`TableEvaluator::evaluate`] does, for all configs.
    pub fn evaluate(&self, row: &[Option<&str>], out: &mut RowOutput) {
        evaluate(self.parts.iter(), row, out);
    }

    /// Evaluates a row for the definitions and lookups that are in no config that is served.
    pub fn evaluate_unserved(&self, row: &[Option<&str>], out: &mut RowOutput) {
        evaluate(self.parts.iter().filter(|part| !part.is_served), row, out);
    }
}

impl EvaluatorPart {
    /// Returns whether a row in a bucket comes from this part.
    #[must_use]
    pub fn contains(&self, row: &BucketRow<'_>) -> bool {
        self.definitions.contains(&row.definition)
    }
}

fn evaluate<'a>(
    parts: impl Iterator<Item = &'a EvaluatorPart>,
    row: &[Option<&str>],
    out: &mut RowOutput,
) {
    out.clear();
    for part in parts {
        part.evaluator.evaluate_more(row, out);
    }
    out.deduplicate();
}
