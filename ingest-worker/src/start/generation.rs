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

/// Returns the generation of a config that continues a stored one: the same if the text is. Otherwise
/// definitions and lookups that are as before keep their tags and numbers. Returns `None` if the
/// stored data means something else now, or if no number is left.
pub(super) fn continued(
    stored: &Generation,
    id: GenerationId,
    source: ConfigSource<'_>,
    tags: &NewTags,
) -> Option<Generation> {
    // Hashes of the former config are only comparable if the same evaluator has stored it.
    let former = SyncConfig::compile(&stored.sync_config).ok()?;
    if stored.identity != identity(&former) {
        return None;
    }
    if stored.sync_config == source.text {
        return Some(stored.clone());
    }

    let definitions = places(&definition_keys(&former), &definition_keys(source.config));
    let lookups = places(&lookup_keys(&former), &lookup_keys(source.config));
    Some(Generation {
        id,
        identity: identity(source.config),
        sync_config: source.text.to_owned(),
        definitions: kept_tags(&stored.definitions, &definitions, &tags.definitions),
        lookups: kept_tags(&stored.lookups, &lookups, &tags.lookups),
        rows_of: Some(stored.rows_of()),
        definition_numbers: stored.definition_numbers.succeeded_by(&definitions)?,
        lookup_numbers: stored.lookup_numbers.succeeded_by(&lookups)?,
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

/// Returns the place in `former` of each of `present`, or `None` for a new one.
fn places(former: &[(&str, &str)], present: &[(&str, &str)]) -> Vec<Option<usize>> {
    let mut is_free = vec![true; former.len()];
    let mut place_of = |key: &(&str, &str)| {
        let place = (0..former.len()).find(|&place| is_free[place] && former[place] == *key)?;
        is_free[place] = false;
        Some(place)
    };
    present.iter().map(&mut place_of).collect()
}

fn kept_tags(former: &[Tag], places: &[Option<usize>], new: &[Tag]) -> Vec<Tag> {
    let kept = places.iter().map(|place| place.and_then(|place| former.get(place)));
    kept.zip(new).map(|(kept, new)| kept.unwrap_or(new).clone()).collect()
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

    fn continued_with(stored: &Generation, text: &str, epoch: u32) -> Option<Generation> {
        let config = SyncConfig::compile(text).unwrap();
        let source = ConfigSource { config: &config, text };
        continued(stored, id(epoch), source, &tags(&config, 100 * epoch))
    }

    #[test]
    fn the_same_text_is_the_same_generation() {
        assert_eq!(continued_with(&stored(), CONFIG, 2), Some(stored()));
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
        let next = continued_with(&stored(), text, 2).unwrap();
        assert_eq!((next.id, next.rows_of()), (id(2), id(1)));
        assert_eq!(next.sync_config, text);
        assert_eq!(next.definitions, [Tag::from_bits(1), Tag::from_bits(0)]);
        assert_eq!(next.definition_numbers.numbers(), [1, 0]);
    }

    #[test]
    fn only_new_definitions_and_lookups_get_new_tags_and_numbers() {
        let next = continued_with(&stored(), OTHERS, 2).unwrap();
        assert_eq!(next.definitions, [Tag::from_bits(200), Tag::from_bits(1)]);
        assert_eq!(next.definition_numbers.numbers(), [2, 1]);
        assert_eq!(next.lookups, [Tag::from_bits(250)]);
        assert_eq!(next.lookup_numbers.numbers(), [0]);

        // A definition that comes back is a new one: nobody has kept its buckets up to date.
        let back = continued_with(&next, CONFIG, 3).unwrap();
        assert_eq!(back.rows_of(), id(1));
        assert_eq!(back.definitions, [Tag::from_bits(300), Tag::from_bits(1)]);
        assert_eq!(back.definition_numbers.numbers(), [3, 1]);
    }

    #[test]
    fn data_of_another_evaluator_or_format_is_not_continued() {
        let of_another = Generation { identity: "another".into(), ..stored() };
        assert_eq!(continued_with(&of_another, CONFIG, 2), None);
        let no_config = Generation { sync_config: "streams: [".into(), ..stored() };
        assert_eq!(continued_with(&no_config, CONFIG, 2), None);
    }

    #[test]
    fn equal_keys_are_matched_one_to_one() {
        let former = [("a", "1"), ("a", "1"), ("b", "1")];
        let present = [("a", "1"), ("b", "2"), ("a", "1"), ("a", "1")];
        assert_eq!(places(&former, &present), [Some(0), None, Some(1), None]);
    }
}
