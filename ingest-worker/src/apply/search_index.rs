//! Finds entries of a list by key, without comparing all pairs where lists are long.

use std::collections::HashSet;
use std::hash::Hash;

use foldhash::fast::RandomState;

/// Lists from this length on are hashed. Most rows are in a few buckets, where comparing is faster
/// than hashing; one query may put a row into 10,000.
const HASH_FROM: usize = 16;

/// A list that is searched by key.
pub(crate) struct SearchIndex<'l, T, F, K> {
    items: &'l [T],
    key: F,
    /// All keys, if the list is long.
    hashed: Option<HashSet<K, RandomState>>,
}

impl<'l, T, F, K> SearchIndex<'l, T, F, K>
where
    F: Fn(&'l T) -> K,
    K: Eq + Hash,
{
    /// Returns an index for about so many searches.
    pub(crate) fn new(items: &'l [T], searches: usize, key: F) -> Self {
        let is_long = items.len() >= HASH_FROM && searches >= HASH_FROM;
        let hashed = is_long.then(|| items.iter().map(&key).collect());
        Self { items, key, hashed }
    }

    /// Returns whether an entry has this key.
    pub(crate) fn contains(&self, key: &K) -> bool {
        match &self.hashed {
            Some(hashed) => hashed.contains(key),
            None => self.items.iter().any(|item| (self.key)(item) == *key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_lists_are_searched_alike() {
        for length in [0, 1, 15, 16, 40_u32] {
            let items: Vec<_> = (0..length).map(|number| number * 2).collect();
            for searches in [1, 100] {
                let index = SearchIndex::new(&items, searches, |item| *item);
                for number in 0..length * 2 + 2 {
                    let is_there = number % 2 == 0 && number < length * 2;
                    assert_eq!(index.contains(&number), is_there, "{number} of {length}");
                }
            }
        }
    }
}
