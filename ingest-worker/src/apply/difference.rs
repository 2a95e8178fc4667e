//! The difference between a row's former and present buckets and answers to lookups.

use tidewater_protocol::{Digest, RowKey};
use tidewater_sync_config::{BucketRow, LookupRow, RowOutput};
use xxhash_rust::xxh3::xxh3_64;

use crate::apply::search_index::SearchIndex;
use crate::apply::source_row::{Answer, Membership};

/// The place of a row in a bucket: definition, parameters, type and id. A place that a row has left
/// needs a REMOVE.
type Place<'a> = (u16, &'a str, &'a str, &'a str);

impl<'a> Membership<'a> {
    fn place(&self) -> Place<'a> {
        (self.definition, self.params, self.object_type, self.object_id)
    }
}

/// Returns the buckets that hold a row. Those of one projection share its data, so that is
/// hashed once for all of them.
pub(super) fn memberships<'a>(output: &'a RowOutput, subkey: &str) -> Vec<Membership<'a>> {
    let mut last: Option<(BucketRow<'a>, Digest)> = None;
    let mut memberships = Vec::new();
    for row in output.buckets() {
        let digest = match last {
            Some((last, digest)) if is_same_projection(&row, &last) => digest,
            Some(_) | None => {
                let key = RowKey::new(row.object_type, row.object_id, subkey);
                Digest::of_put(&key, row.data)
            }
        };

        last = Some((row, digest));
        memberships.push(Membership {
            definition: number(row.definition),
            params: row.params,
            object_type: row.object_type,
            object_id: row.object_id,
            digest: digest.0,
        });
    }
    memberships
}

/// Returns the former memberships of a row whose places it has left.
pub(super) fn left_places<'o, 'b>(
    old: &'o [Membership<'b>],
    new: &[Membership<'_>],
) -> Vec<&'o Membership<'b>> {
    let places = SearchIndex::new(new, old.len(), Membership::place);
    old.iter().filter(|old| !places.contains(&old.place())).collect()
}

/// Returns the memberships of a row that are new or have other content, with that content.
pub(super) fn changed_rows<'n, 'a>(
    old: &[Membership<'_>],
    new: &'n [Membership<'a>],
    output: &'a RowOutput,
) -> Vec<(&'n Membership<'a>, BucketRow<'a>)> {
    let known = SearchIndex::new(old, new.len(), |membership| *membership);
    new.iter().zip(output.buckets()).filter(|(present, _)| !known.contains(present)).collect()
}

/// Returns the former answers of a row that it no longer gives.
pub(super) fn left_answers<'o, 'b>(
    old: &'o [Answer<'b>],
    new: &[(Answer<'_>, &str)],
) -> Vec<&'o Answer<'b>> {
    let present = SearchIndex::new(new, old.len(), |(answer, _)| *answer);
    old.iter().filter(|old| !present.contains(old)).collect()
}

/// Returns the answers of a row that it did not give before, each with its output.
pub(super) fn new_answers<'n, 'a>(
    old: &[Answer<'_>],
    new: &'n [(Answer<'a>, &'a str)],
) -> Vec<&'n (Answer<'a>, &'a str)> {
    let known = SearchIndex::new(old, new.len(), |answer| *answer);
    new.iter().filter(|(answer, _)| !known.contains(answer)).collect()
}

/// Returns whether two rows share their texts in memory, as those of one projection do.
fn is_same_projection(one: &BucketRow<'_>, other: &BucketRow<'_>) -> bool {
    std::ptr::eq(one.data, other.data)
        && std::ptr::eq(one.object_type, other.object_type)
        && std::ptr::eq(one.object_id, other.object_id)
}

/// Returns a row's answers to lookups, each with its output.
pub(super) fn answers(output: &RowOutput) -> Vec<(Answer<'_>, &str)> {
    output.lookups().map(|row| (answer(&row), row.output)).collect()
}

fn answer<'a>(row: &LookupRow<'a>) -> Answer<'a> {
    let output_hash = xxh3_64(row.output.as_bytes());
    Answer { lookup: number(row.lookup), key: row.key, output_hash }
}

/// Returns the number of a definition or lookup as source rows have it.
fn number(number: usize) -> u16 {
    u16::try_from(number).expect("the numbers of a generation have two bytes")
}
