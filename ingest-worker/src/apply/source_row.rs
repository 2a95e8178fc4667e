//! The record of a source row: the buckets and lookups that it was in when it was last applied.

use tidewater_protocol::leb128;

/// A digest that is not kept: each change of the row changes its content in the bucket, so the record
/// need not be written for the digest alone.
pub(crate) const UNKNOWN_DIGEST: u64 = 0;

/// The record of a source row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourceRow<'a> {
    /// The number of equal rows: more than one only in tables without a key.
    pub(crate) copies: u64,
    /// The buckets that contain it.
    pub(crate) memberships: Vec<Membership<'a>>,
    /// The lookups that it answers.
    pub(crate) answers: Vec<Answer<'a>>,
    /// Values that an UPDATE may leave out, since PostgreSQL stores them out of line: column and text.
    pub(crate) toast: Vec<(u16, &'a str)>,
}

/// A row in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Membership<'a> {
    /// The index of the bucket's definition.
    pub(crate) definition: u16,
    /// The bucket's parameters.
    pub(crate) params: &'a str,
    /// The row's identity on the client.
    pub(crate) object_type: &'a str,
    pub(crate) object_id: &'a str,
    /// The digest of the PUT, or [`UNKNOWN_DIGEST`]: an equal one needs no operation.
    pub(crate) digest: u64,
}

/// A row's answer to a lookup. Its output is in the lookup's own record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Answer<'a> {
    pub(crate) lookup: u16,
    pub(crate) key: &'a str,
    pub(crate) output_hash: u64,
}

impl<'a> SourceRow<'a> {
    /// Replaces the content of `out` with the stored form: counts, numbers and lengths as LEB128,
    /// hashes as 8 bytes little-endian. An object id that equals the row's key is left out, since the
    /// key names the record.
    pub(crate) fn encode(&self, row_key: &str, out: &mut Vec<u8>) {
        out.clear();
        let mut out = Writer(out);
        out.number(self.copies);

        out.number(self.memberships.len() as u64);
        for m in &self.memberships {
            out.number(u64::from(m.definition));
            out.text(m.params);
            out.text(m.object_type);
            out.text_or(m.object_id, row_key);
            out.0.extend_from_slice(&m.digest.to_le_bytes());
        }

        out.number(self.answers.len() as u64);
        for answer in &self.answers {
            out.number(u64::from(answer.lookup));
            out.text(answer.key);
            out.0.extend_from_slice(&answer.output_hash.to_le_bytes());
        }

        out.number(self.toast.len() as u64);
        for (column, value) in &self.toast {
            out.number(u64::from(*column));
            out.text(value);
        }
    }

    /// Reads the stored form. Returns `None` for anything else.
    pub(crate) fn decode(stored: &'a [u8], row_key: &'a str) -> Option<Self> {
        let mut stored = Reader(stored);
        let copies = stored.number()?;

        let memberships = stored.list(|stored| {
            Some(Membership {
                definition: stored.small()?,
                params: stored.text()?,
                object_type: stored.text()?,
                object_id: stored.text_or(row_key)?,
                digest: stored.hash()?,
            })
        })?;

        let answers = stored.list(|stored| {
            Some(Answer {
                lookup: stored.small()?,
                key: stored.text()?,
                output_hash: stored.hash()?,
            })
        })?;

        let toast = stored.list(|stored| Some((stored.small()?, stored.text()?)))?;
        stored.0.is_empty().then_some(Self { copies, memberships, answers, toast })
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn number(&mut self, number: u64) {
        leb128::encode(self.0, number);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Writes a text that often equals `usual`. Lengths are stored plus 1, and 0 stands for `usual`.
    fn text_or(&mut self, text: &str, usual: &str) {
        if text == usual {
            return self.number(0);
        }
        self.number(text.len() as u64 + 1);
        self.0.extend_from_slice(text.as_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn list<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        (0..count).map(|_| one(self)).collect()
    }

    fn number(&mut self) -> Option<u64> {
        leb128::decode(&mut self.0).ok()
    }

    fn small(&mut self) -> Option<u16> {
        u16::try_from(self.number()?).ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    fn text_or(&mut self, usual: &'a str) -> Option<&'a str> {
        match self.number()?.checked_sub(1) {
            None => Some(usual),
            Some(length) => std::str::from_utf8(self.bytes(usize::try_from(length).ok()?)?).ok(),
        }
    }

    fn hash(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A record's parts, with texts of its own.
    type Parts = (u64, Vec<(u16, [String; 3], u64)>, Vec<(u16, String, u64)>, Vec<(u16, String)>);

    fn parts() -> impl Strategy<Value = Parts> {
        let texts = [".{0,9}", ".{0,9}", "(key|.{0,9})"];
        let list = 0..4_usize;
        (
            any::<u64>(),
            proptest::collection::vec((any::<u16>(), texts, any::<u64>()), list.clone()),
            proptest::collection::vec((any::<u16>(), ".{0,9}", any::<u64>()), list.clone()),
            proptest::collection::vec((any::<u16>(), ".{0,40}"), list),
        )
    }

    fn row((copies, memberships, answers, toast): &Parts) -> SourceRow<'_> {
        SourceRow {
            copies: *copies,
            memberships: memberships
                .iter()
                .map(|(definition, [params, object_type, object_id], digest)| Membership {
                    definition: *definition,
                    params,
                    object_type,
                    object_id,
                    digest: *digest,
                })
                .collect(),

            answers: answers
                .iter()
                .map(|(lookup, key, output_hash)| Answer {
                    lookup: *lookup,
                    key,
                    output_hash: *output_hash,
                })
                .collect(),
            toast: toast.iter().map(|(column, text)| (*column, text.as_str())).collect(),
        }
    }

    fn encoded(row: &SourceRow<'_>, key: &str) -> Vec<u8> {
        let mut out = vec![0];
        row.encode(key, &mut out);
        out
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(parts in parts()) {
            let row = row(&parts);
            let stored = encoded(&row, "key");
            prop_assert_eq!(SourceRow::decode(&stored, "key"), Some(row));
        }

        #[test]
        fn damage_is_noticed_or_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = SourceRow::decode(&bytes, "key");
        }

        #[test]
        fn a_cut_record_is_no_record(parts in parts(), cut in 1_usize..20) {
            let stored = encoded(&row(&parts), "key");
            let kept = stored.len().saturating_sub(cut);
            prop_assert_eq!(SourceRow::decode(&stored[..kept], "key"), None);
        }
    }

    #[test]
    fn an_id_that_is_the_key_takes_one_byte() {
        let key = "0123456789";
        let shorter = encoded(&in_one_bucket("012345678"), key).len();
        assert_eq!(shorter - encoded(&in_one_bucket(key), key).len(), 9);
    }

    /// A row in one bucket, with this id.
    fn in_one_bucket(object_id: &str) -> SourceRow<'_> {
        let membership =
            Membership { definition: 0, params: "[]", object_type: "t", object_id, digest: 0 };
        SourceRow { copies: 1, memberships: vec![membership], ..SourceRow::default() }
    }
}
