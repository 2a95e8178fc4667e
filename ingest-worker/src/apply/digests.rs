//! The digests of the rows in buckets, and the definitions for which source rows have none.
//!
//! A source row has no digest for a definition whose rows contain all columns of the table: each
//! change of the row changes its content, so the record would be written for the digest alone. A copy
//! over the rows must find those whose content is as before, so their digests are computed from the
//! buckets when the run begins. From then on each PUT of the run is noted. Its REMOVEs need not be: a
//! digest is looked up only for a bucket that the source row names.

use tidewater_protocol::{Body, Digest, RowKey};
use tidewater_storage::{ScratchMap, StorageError};
use tidewater_sync_config::UnionEvaluator;
use xxhash_rust::xxh3::Xxh3;

/// The digests, by bucket and row.
#[derive(Debug)]
pub(crate) struct BucketDigests(ScratchMap);

impl BucketDigests {
    pub(super) fn new() -> Result<Self, StorageError> {
        ScratchMap::new().map(Self)
    }

    /// Returns the digest of the last PUT of a row in a bucket, unless a REMOVE follows it.
    pub(super) fn get(
        &self,
        bucket: &str,
        row: &RowKey<'_>,
    ) -> Result<Option<Digest>, StorageError> {
        Ok(self.0.get(place(bucket, row))?.map(Digest))
    }

    /// Notes a PUT.
    pub(super) fn note_put(
        &self,
        bucket: &str,
        row: &RowKey<'_>,
        digest: Digest,
    ) -> Result<(), StorageError> {
        self.0.insert(place(bucket, row), digest.0)
    }

    /// Notes a REMOVE.
    pub(super) fn note_remove(&self, bucket: &str, row: &RowKey<'_>) -> Result<(), StorageError> {
        self.0.remove(place(bucket, row))
    }
}

/// Returns a hash of a bucket and a row in it. With 128 bits, no two of them are ever the same.
fn place(bucket: &str, row: &RowKey<'_>) -> u128 {
    let mut hasher = Xxh3::new();
    for part in [bucket, &row.object_type, &row.object_id, &row.subkey] {
        // The length keeps ("ab", "c") apart from ("a", "bc").
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.digest128()
}

/// Returns the definitions, by their numbers, whose rows contain all columns of their table. A digest would
/// not find a change that changes nothing of them.
pub(super) fn digest_free(evaluator: &UnionEvaluator) -> Vec<u16> {
    let definitions = evaluator.definitions();
    let free = definitions.filter(|&number| evaluator.contains_all_columns(number));
    free.filter_map(|number| u16::try_from(number).ok()).collect()
}

/// Notes a stored operation of a bucket, if its row is of a table with one of these prefixes of subkeys.
pub(super) fn note_operation(
    digests: &BucketDigests,
    bucket: &str,
    prefixes: &[String],
    operation: &Body<'_>,
) -> Result<(), StorageError> {
    let is_noted =
        |row: &RowKey<'_>| prefixes.iter().any(|prefix| row.subkey.starts_with(&**prefix));

    match operation {
        Body::Put { row, data } if is_noted(row) => {
            digests.note_put(bucket, row, Digest::of_put(row, data))
        }
        Body::Remove { row } if is_noted(row) => digests.note_remove(bucket, row),
        Body::Put { .. } | Body::Remove { .. } | Body::Move | Body::Clear => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_in_its_bucket_until_it_is_removed() {
        let digests = BucketDigests::new().unwrap();
        let row = RowKey::new("todos", "1", "0.a");
        digests.note_put("tag[]", &row, Digest(7)).unwrap();
        digests.note_put("tag[]", &row, Digest(8)).unwrap();
        assert_eq!(digests.get("tag[]", &row).unwrap(), Some(Digest(8)));
        assert_eq!(digests.get("tag[1]", &row).unwrap(), None, "another bucket");
        assert_eq!(digests.get("tag[]", &RowKey::new("todos", "10", ".a")).unwrap(), None);

        digests.note_remove("tag[]", &row).unwrap();
        assert_eq!(digests.get("tag[]", &row).unwrap(), None);
    }

    #[test]
    fn only_rows_of_the_tables_are_noted() {
        let digests = BucketDigests::new().unwrap();
        let data = "{}";
        let prefixes = ["1.", "3."].map(str::to_owned);
        for subkey in ["1.a", "11.a", "2.a"] {
            let row = RowKey::new("todos", "1", subkey);
            let put = Body::Put { row: row.clone(), data: data.into() };
            note_operation(&digests, "tag[]", &prefixes, &put).unwrap();
            let expected = (subkey == "1.a").then(|| Digest::of_put(&row, data));
            assert_eq!(digests.get("tag[]", &row).unwrap(), expected, "{subkey}");
        }

        let row = RowKey::new("todos", "1", "1.a");
        let remove = Body::Remove { row: row.clone() };
        note_operation(&digests, "tag[]", &prefixes, &remove).unwrap();
        assert_eq!(digests.get("tag[]", &row).unwrap(), None);
    }
}
