//! What is remembered of a source row, to know what it took part in when it changes.

use bytes::Bytes;

/// The record of a source row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourceRow {
    /// How many equal rows stand behind it: more than one only in tables without a key.
    pub(crate) copies: u64,
    /// The buckets that hold it.
    pub(crate) memberships: Vec<Membership>,
    /// The lookups that it answers.
    pub(crate) answers: Vec<Answer>,
    /// Values that an UPDATE may leave out since they are stored out of line: column and text.
    pub(crate) toast: Vec<(u16, String)>,
}

/// A row in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Definition and parameters.
    pub(crate) definition: u16,
    pub(crate) params: String,
    /// The row's identity on the client.
    pub(crate) object_type: String,
    pub(crate) object_id: String,
    /// XXH3-64 of the data: equal output needs no operation.
    pub(crate) data_hash: u64,
}

/// A row's answer to a lookup; the answer itself is in the lookup's cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) lookup: u16,
    pub(crate) key: String,
    pub(crate) output_hash: u64,
}

impl SourceRow {
    /// Stored form: counts, numbers and lengths as LEB128, hashes as 8 bytes little-endian.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer(Vec::with_capacity(96));
        out.number(self.copies);
        out.number(self.memberships.len() as u64);
        for m in &self.memberships {
            out.number(u64::from(m.definition));
            out.text(&m.params);
            out.text(&m.object_type);
            out.text(&m.object_id);
            out.0.extend_from_slice(&m.data_hash.to_le_bytes());
        }
        out.number(self.answers.len() as u64);
        for answer in &self.answers {
            out.number(u64::from(answer.lookup));
            out.text(&answer.key);
            out.0.extend_from_slice(&answer.output_hash.to_le_bytes());
        }
        out.number(self.toast.len() as u64);
        for (column, value) in &self.toast {
            out.number(u64::from(*column));
            out.text(value);
        }
        out.0.into()
    }

    /// Reads the stored form; `None` when it is none.
    pub(crate) fn decode(stored: &[u8]) -> Option<Self> {
        let mut stored = Reader(stored);
        let copies = stored.number()?;
        let memberships = stored.list(|stored| {
            Some(Membership {
                definition: stored.small()?,
                params: stored.text()?,
                object_type: stored.text()?,
                object_id: stored.text()?,
                data_hash: stored.hash()?,
            })
        })?;
        let answers = stored.list(|stored| {
            let (lookup, key) = (stored.small()?, stored.text()?);
            Some(Answer { lookup, key, output_hash: stored.hash()? })
        })?;
        let toast = stored.list(|stored| Some((stored.small()?, stored.text()?)))?;
        stored.0.is_empty().then_some(Self { copies, memberships, answers, toast })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7F) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push((number & 0x7F) as u8);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
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
        let mut number = 0;
        for place in 0..10 {
            let byte = self.bytes(1)?[0];
            number |= u64::from(byte & 0x7F) << (7 * place);
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u16> {
        u16::try_from(self.number()?).ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        String::from_utf8(self.bytes(length)?.to_vec()).ok()
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

    fn rows() -> impl Strategy<Value = SourceRow> {
        let membership = (any::<u16>(), ".{0,9}", ".{0,9}", ".{0,9}", any::<u64>()).prop_map(
            |(definition, params, object_type, object_id, data_hash)| Membership {
                definition,
                params,
                object_type,
                object_id,
                data_hash,
            },
        );
        let answer = (any::<u16>(), ".{0,9}", any::<u64>())
            .prop_map(|(lookup, key, output_hash)| Answer { lookup, key, output_hash });
        let list = 0..4_usize;
        (
            any::<u64>(),
            proptest::collection::vec(membership, list.clone()),
            proptest::collection::vec(answer, list.clone()),
            proptest::collection::vec((any::<u16>(), ".{0,40}"), list),
        )
            .prop_map(|(copies, memberships, answers, toast)| SourceRow {
                copies,
                memberships,
                answers,
                toast,
            })
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read(row in rows()) {
            prop_assert_eq!(SourceRow::decode(&row.encode()), Some(row));
        }

        #[test]
        fn damage_is_noticed_or_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = SourceRow::decode(&bytes);
        }

        #[test]
        fn a_cut_record_is_no_record(row in rows(), cut in 1_usize..20) {
            let stored = row.encode();
            let kept = stored.len().saturating_sub(cut);
            prop_assert_eq!(SourceRow::decode(&stored[..kept]), None);
        }
    }
}
