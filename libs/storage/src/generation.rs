//! Generations: sync configs as the worker maintains them.

use serde::{Deserialize, Serialize};

use crate::keys::{GenerationId, Tag};

/// A sync config as the worker maintains it, with the tags under which its buckets and lookups are
/// stored.
///
/// A config that changes begins a new generation. Definitions and lookups that are as before keep their
/// tags and the numbers by which source rows refer to them, and the new generation continues the
/// source rows of the former one. So only what is new is copied.
///
/// A generation is written after the control record names it, and before anything is stored under it.
/// Only `retired_at` changes later, and the tags of a generation that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The id.
    pub id: GenerationId,
    /// A hash of everything that makes stored data of two generations incompatible: the compiled
    /// plans, the evaluator's version, the stored format.
    pub identity: String,
    /// The text of the sync config.
    pub sync_config: String,
    /// The tags of the bucket definitions, in the order of the config.
    pub definitions: Vec<Tag>,
    /// The tags of the parameter lookups, in the order of the config.
    pub lookups: Vec<Tag>,
    /// The generation whose source rows and copy progress this one continues, if not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_of: Option<GenerationId>,
    /// The numbers of the definitions in source rows.
    #[serde(default, skip_serializing_if = "Numbering::is_empty")]
    pub definition_numbers: Numbering,
    /// The numbers of the lookups in source rows.
    #[serde(default, skip_serializing_if = "Numbering::is_empty")]
    pub lookup_numbers: Numbering,
    /// The time at which the builder found the generation unused by worker and readers, in seconds
    /// since 1970. The generation is deleted after a grace period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<u64>,
}

impl Generation {
    /// Returns the generation under whose id source rows and copy progress are stored.
    #[must_use]
    pub fn rows_of(&self) -> GenerationId {
        self.rows_of.unwrap_or(self.id)
    }
}

/// The numbers by which source rows refer to the definitions or to the lookups of a config. Generations
/// with the same source rows never use a number for two of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbering {
    /// The numbers, in the order of the config.
    numbers: Vec<u16>,
    /// The lowest number that was never used.
    next: u16,
}

impl Numbering {
    /// Returns the numbers of so many definitions or lookups in new source rows; `None` if there are
    /// too many.
    #[must_use]
    pub fn first(count: usize) -> Option<Self> {
        Self::assign(vec![None; count], 0)
    }

    /// Returns the numbers of a config, given those that its definitions or lookups have already. The
    /// others get numbers from `next` on. Returns `None` when no number is left.
    #[must_use]
    pub fn assign(known: Vec<Option<u16>>, mut next: u16) -> Option<Self> {
        let mut numbers = Vec::with_capacity(known.len());
        for known in known {
            numbers.push(known.unwrap_or(next));
            if known.is_none() {
                next = next.checked_add(1)?;
            }
        }
        Some(Self { numbers, next })
    }

    /// Returns the lowest number that was never used when this was stored.
    #[must_use]
    pub fn next(&self) -> u16 {
        self.next
    }

    /// Returns the numbers, in the order of the config.
    #[must_use]
    pub fn numbers(&self) -> &[u16] {
        &self.numbers
    }

    fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.next == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_by_its_owner_and_never_used_again() {
        let first = Numbering::first(3).unwrap();
        assert_eq!(first.numbers(), [0, 1, 2]);
        let next = Numbering::assign(vec![Some(2), None, Some(0)], first.next()).unwrap();
        assert_eq!((next.numbers(), next.next()), (&[2, 3, 0][..], 4));
        let removed = Numbering::assign(Vec::new(), next.next()).unwrap();
        assert_eq!(Numbering::assign(vec![None], removed.next()).unwrap().numbers(), [4]);
    }

    #[test]
    fn there_are_no_numbers_beyond_the_stored_form() {
        assert!(Numbering::first(usize::from(u16::MAX)).is_some());
        assert!(Numbering::first(usize::from(u16::MAX) + 1).is_none());
    }
}
