//! The tags of definitions or lookups, by their numbers in source rows.

use tidewater_storage::{Numbering, Tag};

/// The tags of all maintained definitions, or of all lookups. Numbers that no generation uses have none.
#[derive(Debug, Default)]
pub(crate) struct TagsByNumber(Vec<Option<Tag>>);

impl TagsByNumber {
    /// Adds the tags of a generation.
    pub(crate) fn add(&mut self, numbering: &Numbering, tags: &[Tag]) {
        for (&number, tag) in numbering.numbers().iter().zip(tags) {
            let number = usize::from(number);
            if self.0.len() <= number {
                self.0.resize(number + 1, None);
            }
            self.0[number] = Some(tag.clone());
        }
    }

    /// Returns the tag with a number.
    pub(crate) fn get(&self, number: u16) -> Option<&Tag> {
        self.0.get(usize::from(number)).and_then(Option::as_ref)
    }

    /// Returns all tags.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tag> {
        self.0.iter().flatten()
    }
}
