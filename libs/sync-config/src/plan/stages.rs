//! How many rounds of questions a request takes.

use super::{Instantiation, LookupPlan, Step};

/// Most rounds of questions of a request, each of which needs the answers to the one before. A query
/// that would take more does not compile.
///
/// Lookups that need nothing of each other are asked in one round, so it is the longest chain that
/// counts.
pub const STAGES_MAX: usize = 32;

impl Instantiation {
    /// The rounds of questions until all is known, that of what must be absent too.
    pub(crate) fn stages(&self, lookups: &[LookupPlan]) -> usize {
        // After how many rounds each slot has its values.
        let mut known_after: Vec<usize> = Vec::new();
        let mut longest = 0;
        for step in &self.steps {
            let (rounds, slots) = match step {
                Step::Value(_) => (0, 1),
                Step::Elements { outputs, .. } => (0, outputs.len()),
                Step::Lookup { lookup, .. } => {
                    let of_slot = |slot: usize| known_after.get(slot).copied().unwrap_or_default();
                    let before = step.slots_used().into_iter().map(of_slot).max();
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
