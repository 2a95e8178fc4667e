//! The generation of a sync config: a first one, or one that continues that of the former config.

use sha2::{Digest, Sha256};
use tidewater_storage::{Generation, GenerationId, Numbering, Tag};
use tidewater_sync_config::{EVALUATOR_VERSION, SyncConfig};

/// Version of what the worker stores. Raised when stored data means something else than before:
/// it is part of a generation's identity, so all tables are copied again.
const STORED_FORMAT: u32 = 5;

/// Random tags for the definitions and lookups of a config, in its order. Those that are as before keep
/// their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTags {
    /// One for each bucket definition.
    pub definitions: Vec<Tag>,
    /// One for each parameter lookup.
    pub lookups: Vec<Tag>,
}

/// A compiled sync config and its text.
#[derive(Clone, Copy)]
pub(super) struct ConfigSource<'a> {
    pub(super) config: &'a SyncConfig,
    pub(super) text: &'a str,
}

/// Returns a generation that begins with a config; `None` if the config has more definitions or lookups
/// than the stored form has numbers for.
pub(super) fn first(
    id: GenerationId,
    source: ConfigSource<'_>,
    tags: NewTags,
) -> Option<Generation> {
    Some(Generation {
        id,
        identity: identity(source.config),
        sync_config: source.text.to_owned(),
        definition_numbers: Numbering::first(tags.definitions.len())?,
        lookup_numbers: Numbering::first(tags.lookups.len())?,
        definitions: tags.definitions,
        lookups: tags.lookups,
        rows_of: None,
        retired_at: None,
    })
}

/// A generation that the store has, with its compiled config.
#[derive(Clone, Debug)]
pub(super) struct KnownGeneration {
    pub(super) config: SyncConfig,
    pub(super) generation: Generation,
}

impl KnownGeneration {
    /// Compiles the config of a stored generation. Returns `None` if the stored data means something
    /// else now.
    pub(super) fn compile(generation: &Generation) -> Option<Self> {
        // Hashes of a former config are only comparable if the same evaluator has stored it.
        let config = SyncConfig::compile(&generation.sync_config).ok()?;
        let is_valid = generation.identity == identity(&config);
        is_valid.then(|| Self { config, generation: generation.clone() })
    }
}

/// The lowest numbers that no definition and no lookup of some source rows has ever had.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FreeNumbers {
    pub(super) definition: u16,
    pub(super) lookup: u16,
}

/// Returns the generation of a config: the known one with the same text, or one that continues the source
/// rows of the known ones. Definitions and lookups that any of them has keep their tags and numbers.
/// Returns `None` if no generation is known, or if no number is left.
pub(super) fn continued(
    known: &[KnownGeneration],
    id: GenerationId,
    source: ConfigSource<'_>,
    tags: &NewTags,
    free: FreeNumbers,
) -> Option<Generation> {
    let rows_of = known.first()?.generation.rows_of();
    let has_text = |known: &&KnownGeneration| known.generation.sync_config == source.text;
    if let Some(known) = known.iter().find(has_text) {
        return Some(known.generation.clone());
    }

    let mut definitions = KnownPlans::default();
    let mut lookups = KnownPlans::default();
    for KnownGeneration { config, generation } in known {
        let numbers = &generation.definition_numbers;
        definitions.add(&definition_keys(config), &generation.definitions, numbers);
        lookups.add(&lookup_keys(config), &generation.lookups, &generation.lookup_numbers);
    }
    let definitions =
        definitions.assign(&definition_keys(source.config), &tags.definitions, free.definition)?;
    let lookups = lookups.assign(&lookup_keys(source.config), &tags.lookups, free.lookup)?;
    Some(Generation {
        id,
        identity: identity(source.config),
        sync_config: source.text.to_owned(),
        definitions: definitions.tags,
        lookups: lookups.tags,
        rows_of: Some(rows_of),
        definition_numbers: definitions.numbers,
        lookup_numbers: lookups.numbers,
        retired_at: None,
    })
}

/// The name and the hash of each definition. Buckets on devices have the name.
fn definition_keys(config: &SyncConfig) -> Vec<(&str, &str)> {
    config.definitions().iter().map(|one| (&*one.name, &*one.hash)).collect()
}

fn lookup_keys(config: &SyncConfig) -> Vec<(&str, &str)> {
    config.lookups().iter().map(|one| ("", &*one.hash)).collect()
}

/// The definitions, or the lookups, of the known generations.
#[derive(Default)]
struct KnownPlans<'a> {
    /// Each once, by its number.
    plans: Vec<KnownPlan<'a>>,
    /// The lowest number that none of the generations has ever used.
    next: u16,
}

struct KnownPlan<'a> {
    key: (&'a str, &'a str),
    tag: &'a Tag,
    number: u16,
    is_taken: bool,
}

/// Tags and numbers in the order of a config.
struct AssignedPlans {
    tags: Vec<Tag>,
    numbers: Numbering,
}

impl<'a> KnownPlans<'a> {
    fn add(&mut self, keys: &[(&'a str, &'a str)], tags: &'a [Tag], numbering: &Numbering) {
        for ((key, tag), &number) in keys.iter().zip(tags).zip(numbering.numbers()) {
            if self.plans.iter().all(|known| known.number != number) {
                self.plans.push(KnownPlan { key: *key, tag, number, is_taken: false });
            }
        }
        self.next = self.next.max(numbering.next());
    }

    /// Assigns to each of `keys` the tag and number of a known one, or new ones from `free` on. Equal
    /// keys are matched one to one.
    fn assign(
        mut self,
        keys: &[(&str, &str)],
        new_tags: &[Tag],
        free: u16,
    ) -> Option<AssignedPlans> {
        let mut tags = Vec::with_capacity(keys.len());
        let mut numbers = Vec::with_capacity(keys.len());
        for (key, new_tag) in keys.iter().zip(new_tags) {
            let known = self.plans.iter_mut().find(|known| !known.is_taken && known.key == *key);
            if let Some(known) = known {
                known.is_taken = true;
                tags.push(known.tag.clone());
                numbers.push(Some(known.number));
            } else {
                tags.push(new_tag.clone());
                numbers.push(None);
            }
        }
        let numbers = Numbering::assign(numbers, self.next.max(free))?;
        Some(AssignedPlans { tags, numbers })
    }
}

/// Returns the hash of everything that makes stored data of one generation useless for another.
/// Tables are not part of it: those that changed are copied again one by one. Nor is the config's
/// text, by which readers go: it is stored with the generation.
fn identity(config: &SyncConfig) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{STORED_FORMAT}|{EVALUATOR_VERSION}|"));
    for (name, plan) in definition_keys(config) {
        hash.update(format!("{name}|{plan}|"));
    }
    for (_, plan) in lookup_keys(config) {
        hash.update(format!("{plan}|"));
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{CONFIG, compiled};
    use tidewater_protocol::Epoch;

    const OTHERS: &str = "
config: {edition: 3}
streams:
  more: {query: SELECT * FROM lists WHERE lists.id IN (SELECT list_id FROM members WHERE user_id = auth.user_id())}
  notes: {priority: 1, query: SELECT id FROM notes}
";

    fn id(epoch: u32) -> GenerationId {
        GenerationId(Epoch::new(epoch).unwrap())
    }

    fn tags(config: &SyncConfig, first: u32) -> NewTags {
        let tag = |index: usize| Tag::from_bits(first + u32::try_from(index).unwrap());
        NewTags {
            definitions: (0..config.definitions().len()).map(tag).collect(),
            lookups: (50..50 + config.lookups().len()).map(tag).collect(),
        }
    }

    fn stored() -> Generation {
        let config = compiled();
        first(id(1), ConfigSource { config: &config, text: CONFIG }, tags(&config, 0)).unwrap()
    }

    fn continued_with(stored: &[&Generation], text: &str, epoch: u32) -> Option<Generation> {
        let config = SyncConfig::compile(text).unwrap();
        let source = ConfigSource { config: &config, text };
        let known: Vec<_> = stored.iter().flat_map(|one| KnownGeneration::compile(one)).collect();
        let tags = tags(&config, 100 * epoch);
        continued(&known, id(epoch), source, &tags, FreeNumbers::default())
    }

    #[test]
    fn the_same_text_is_the_same_generation() {
        assert_eq!(continued_with(&[&stored()], CONFIG, 2), Some(stored()));
    }

    #[test]
    fn another_text_of_the_same_config_changes_nothing_that_is_stored() {
        let text = "
# by me
config: {edition: 3}
streams:
  notes: {auto_subscribe: false, priority: 1, query: SELECT id FROM notes}
  todos: {query: SELECT * FROM todos}
";
        let next = continued_with(&[&stored()], text, 2).unwrap();
        assert_eq!((next.id, next.rows_of()), (id(2), id(1)));
        assert_eq!(next.sync_config, text);
        assert_eq!(next.definitions, [Tag::from_bits(1), Tag::from_bits(0)]);
        assert_eq!(next.definition_numbers.numbers(), [1, 0]);
    }

    #[test]
    fn only_new_definitions_and_lookups_get_new_tags_and_numbers() {
        let next = continued_with(&[&stored()], OTHERS, 2).unwrap();
        assert_eq!(next.definitions, [Tag::from_bits(200), Tag::from_bits(1)]);
        assert_eq!(next.definition_numbers.numbers(), [2, 1]);
        assert_eq!(next.lookups, [Tag::from_bits(250)]);
        assert_eq!(next.lookup_numbers.numbers(), [0]);

        // A definition that comes back is a new one: nobody has kept its buckets up to date.
        let back = continued_with(&[&next], CONFIG, 3).unwrap();
        assert_eq!(back.rows_of(), id(1));
        assert_eq!(back.definitions, [Tag::from_bits(300), Tag::from_bits(1)]);
        assert_eq!(back.definition_numbers.numbers(), [3, 1]);
    }

    #[test]
    fn data_of_another_evaluator_or_format_is_not_continued() {
        let of_another = Generation { identity: "another".into(), ..stored() };
        assert_eq!(continued_with(&[&of_another], CONFIG, 2), None);
        let no_config = Generation { sync_config: "streams: [".into(), ..stored() };
        assert_eq!(continued_with(&[&no_config], CONFIG, 2), None);
    }

    #[test]
    fn a_definition_that_a_maintained_generation_has_comes_back_as_it_was() {
        let next = continued_with(&[&stored()], OTHERS, 2).unwrap();
        // The former one is still maintained: its text is its generation.
        assert_eq!(continued_with(&[&next, &stored()], CONFIG, 3), Some(stored()));

        let both = CONFIG.replace("notes:", "memos:");
        let mixed = continued_with(&[&next, &stored()], &both, 3).unwrap();
        assert_eq!(mixed.definitions, [Tag::from_bits(0), Tag::from_bits(301)]);
        assert_eq!(mixed.definition_numbers.numbers(), [0, 3], "2 is of the generation between");
    }

    #[test]
    fn numbers_that_the_copy_has_seen_are_not_given_again() {
        let config = SyncConfig::compile(OTHERS).unwrap();
        let source = ConfigSource { config: &config, text: OTHERS };
        let known = [KnownGeneration::compile(&stored()).unwrap()];
        let free = FreeNumbers { definition: 7, lookup: 4 };
        let next = continued(&known, id(2), source, &tags(&config, 200), free).unwrap();
        assert_eq!(next.definition_numbers.numbers(), [7, 1]);
        assert_eq!(next.lookup_numbers.numbers(), [4]);
    }

    #[test]
    fn equal_keys_are_matched_one_to_one() {
        let tags: Vec<_> = (0..8).map(Tag::from_bits).collect();
        let mut known = KnownPlans::default();
        let former = [("a", "1"), ("a", "1"), ("b", "1")];
        known.add(&former, &tags[..3], &Numbering::first(3).unwrap());
        let present = [("a", "1"), ("b", "2"), ("a", "1"), ("a", "1")];
        let assigned = known.assign(&present, &tags[4..], 0).unwrap();
        assert_eq!(assigned.numbers.numbers(), [0, 3, 1, 4]);
        assert_eq!(assigned.tags, [0, 5, 1, 7].map(Tag::from_bits));
    }
}
