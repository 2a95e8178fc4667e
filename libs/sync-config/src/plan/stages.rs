//! Number of lookup rounds that a request needs.

use super::{Instantiation, LookupPlan, Step};

/// Maximum number of lookup rounds of a request. Each round needs the answers of the one before, so
/// each adds a round trip to the storage. A query that needs more does not compile.
///
/// Independent lookups share a round: the longest chain counts.
pub const STAGES_MAX: usize = 32;

impl Instantiation {
    /// Returns the number of lookup rounds, including those of anti-joins.
    pub(crate) fn stages(&self, lookups: &[LookupPlan]) -> usize {
        // Number of rounds after which each slot has its values.
        let mut known_after: Vec<usize> = Vec::new();
        let mut longest = 0;
        for step in &self.steps {
            let (rounds, slots) = match step {
                Step::Value(_) => (0, 1),
                Step::Elements { outputs, .. } => (0, outputs.len()),
                Step::Lookup { lookup, .. } => {
                    let before = step
                        .slots_used()
                        .into_iter()
                        .map(|slot| known_after.get(slot).copied().unwrap_or_default())
                        .max();
                    (before.unwrap_or_default() + 1, lookups[*lookup].outputs.len())
                }
                Step::Equal(..) => (0, 0),
            };
            longest = longest.max(rounds);
            known_after.extend(std::iter::repeat_n(rounds, slots));
        }

        self.not_exists.iter().map(|part| part.stages(lookups)).fold(longest, usize::max)
    }
}
