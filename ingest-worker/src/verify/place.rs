//! Places: where a row is in a bucket, or an answer in a lookup.

use tidewater_protocol::leb128;
use tidewater_storage::table_of_answer;
use xxhash_rust::xxh3::xxh3_64;

/// The kind of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaceKind {
    /// A row in a bucket.
    Row,
    /// The answer of a source row to a parameter lookup.
    Answer,
}

/// A place that both sides may fill. The empty texts of an answer are its type and its subkey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) kind: PlaceKind,
    /// The stored name of the bucket or of the lookup: the tag, then the parameters.
    pub(super) container: &'a str,
    pub(super) object_type: &'a str,
    /// The id on devices, or the name of the answer.
    pub(super) object_id: &'a str,
    pub(super) subkey: &'a str,
}

impl<'a> Place<'a> {
    /// Returns the place of an answer.
    pub(super) fn answer(lookup: &'a str, name: &'a str) -> Self {
        let kind = PlaceKind::Answer;
        Self { kind, container: lookup, object_type: "", object_id: name, subkey: "" }
    }

    /// Returns the number of the source row's table; `None` if the place names none.
    pub(super) fn table(&self) -> Option<u16> {
        match self.kind {
            PlaceKind::Row => self.subkey.split_once('.')?.0.parse().ok(),
            PlaceKind::Answer => table_of_answer(self.object_id),
        }
    }

    /// Returns the name of the source row, if the place shows it.
    ///
    /// The subkey has a hash of it. So the id on devices is it, or is not: most tables have one key
    /// column, and the output `id` is that column.
    pub(super) fn row_name(&self) -> Option<&'a str> {
        match self.kind {
            PlaceKind::Row => {
                let hash = u64::from_str_radix(self.subkey.split_once('.')?.1, 16).ok()?;
                (xxh3_64(self.object_id.as_bytes()) == hash).then_some(self.object_id)
            }
            // `answer_name` joins the table, the row and a hash without dots.
            PlaceKind::Answer => {
                let row_and_hash = self.object_id.split_once('.')?.1;
                Some(row_and_hash.rsplit_once('.')?.0)
            }
        }
    }

    /// Writes the binary form to `out`, which differs for different places.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.push(match self.kind {
            PlaceKind::Row => 0,
            PlaceKind::Answer => 1,
        });
        for text in [self.container, self.object_type, self.object_id, self.subkey] {
            write_text(text, out);
        }
    }

    /// Reads the binary form.
    pub(super) fn decode(mut encoded: &'a [u8]) -> Option<Self> {
        let kind = match encoded.split_off_first()? {
            0 => PlaceKind::Row,
            1 => PlaceKind::Answer,
            2..=u8::MAX => return None,
        };
        let mut text = || read_text(&mut encoded);
        Some(Self {
            kind,
            container: text()?,
            object_type: text()?,
            object_id: text()?,
            subkey: text()?,
        })
    }
}

/// Appends a text with its length.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) {
    write_bytes(text.as_bytes(), out);
}

/// Appends bytes with their number.
pub(super) fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    leb128::encode(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes a text from the front.
pub(super) fn read_text<'a>(from: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(read_bytes(from)?).ok()
}

/// Takes bytes with their number from the front.
pub(super) fn read_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(leb128::decode(from).ok()?).ok()?;
    from.split_off(..length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row<'a>(object_id: &'a str, subkey: &'a str) -> Place<'a> {
        let kind = PlaceKind::Row;
        Place { kind, container: "aaaaaa[]", object_type: "todos", object_id, subkey }
    }

    proptest! {
        #[test]
        fn a_place_is_read_as_it_was_written(texts in prop::array::uniform4("\\PC{0,9}"), is_row in any::<bool>()) {
            let [container, object_type, object_id, subkey] = &texts;
            let kind = if is_row { PlaceKind::Row } else { PlaceKind::Answer };
            let place = Place { kind, container, object_type, object_id, subkey };
            let mut encoded = vec![7];
            place.encode(&mut encoded);
            prop_assert_eq!(Place::decode(&encoded), Some(place));
        }

        #[test]
        fn damage_is_noticed_or_harmless(bytes in prop::collection::vec(any::<u8>(), 0..32)) {
            let _ = Place::decode(&bytes);
        }
    }

    #[test]
    fn a_place_names_its_table_and_its_row_where_that_can_be_known() {
        let hash = format!("7.{:016x}", xxh3_64(b"t1"));
        assert_eq!((row("t1", &hash).table(), row("t1", &hash).row_name()), (Some(7), Some("t1")));
        assert_eq!(row("other", &hash).row_name(), None, "the key is another column");
        assert_eq!((row("t1", "x").table(), row("t1", "x").row_name()), (None, None));

        let name = tidewater_storage::answer_name(3, "1.5|x", 0xab);
        let answer = Place::answer("bbbbbb[]", &name);
        assert_eq!((answer.table(), answer.row_name()), (Some(3), Some("1.5|x")));
    }
}
