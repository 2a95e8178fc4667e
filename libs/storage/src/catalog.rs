//! The catalog of a bucket: its published base, and what is waiting for deletion.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidewater_protocol::{Checksum, OpId, SnapshotFrame};

use crate::error::StorageError;

/// The published base of a bucket and everything that waits for deletion. It is stored beside the
/// bucket's head, so a reader gets both from the same moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Catalog {
    /// The start of the log: a client at a position below it starts from the base.
    pub floor: OpId,
    /// The current rows at one op id, for clients that start from the base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Former bases whose objects still exist, for clients that are downloading one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<RetiredBase>,
    /// The publications of bases, oldest first. The floor may rise to one that is older than the
    /// horizon. Stored as `marks`.
    #[serde(rename = "marks", skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<TimedOp>,
    /// Op ids up to which segments will be deleted, each with the time of the deletion.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub covered: Vec<TimedOp>,
}

/// The current rows of a bucket at one op id, stored as objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The last operation that the base contains; it is the end of a segment.
    pub to: OpId,
    /// The checksum of all operations of the bucket up to `to`.
    pub checksum: Checksum,
    /// `checksum` minus the checksum of the rows: the checksum of the CLEAR that precedes them.
    pub remainder: Checksum,
    /// The number of rows.
    pub rows: u64,
    /// The number of operations ever written to the bucket up to `to`.
    pub count: u64,
    /// The name prefix of its objects, which was never used before.
    pub name: String,
    /// A random number that distinguishes its markers from those of the bucket's other bases.
    pub marker: u32,
    /// The number of typed SQLite files; a small base has none.
    pub files: u32,
    /// The number of frames of its rows; 0 in a base that was published before this was stored.
    #[serde(default)]
    pub frames: u32,
}

/// A base that another has replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredBase {
    /// The replaced base.
    #[serde(flatten)]
    pub base: Base,
    /// The time at which its objects are deleted, in seconds since 1970.
    pub delete_at: u64,
}

/// An op id and a time, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedOp {
    /// The op id.
    pub op: OpId,
    /// The time.
    pub time: u64,
}

/// The parts of a base: the object `<name>/manifest`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseManifest {
    /// The frames of the object `<name>/rows`, in order.
    pub rows: Vec<RowsFrame>,
    /// The objects `<name>/file-<n>`, in order.
    pub files: Vec<TypedFile>,
}

/// A frame of rows: a payload of `SegmentWriter`, compressed independently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsFrame {
    /// The compressed size in bytes.
    pub bytes: u64,
    /// The uncompressed size in bytes.
    pub raw_bytes: u64,
    /// The number of rows.
    pub rows: u64,
    /// The checksum of the rows.
    pub sum: Checksum,
}

/// A typed SQLite file with some of the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypedFile {
    /// The compressed size in bytes.
    pub bytes: u64,
    /// The uncompressed size in bytes.
    pub raw_bytes: u64,
    /// The number of rows.
    pub rows: u64,
    /// The frames, in order.
    pub frames: Vec<SnapshotFrame>,
}

impl Catalog {
    /// Decodes a stored catalog. Zero bytes are the empty catalog.
    ///
    /// # Errors
    /// `Damaged` if the content cannot be decoded.
    pub fn decode(stored: &[u8]) -> Result<Self, StorageError> {
        if stored.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(stored)
            .map_err(|error| StorageError::Damaged("catalog", error.into()))
    }

    /// Returns the stored form: JSON.
    ///
    /// # Panics
    /// Never: numbers, texts and lists are valid JSON.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("numbers, texts and lists are valid JSON").into()
    }

    /// Returns the base that a marker belongs to if a client can continue from it: its objects and
    /// the log after it still exist. Only the bits that a marker op id can carry are compared.
    #[must_use]
    pub fn base_of_marker(&self, marker: u32) -> Option<&Base> {
        let retired = self.retired.iter().map(|retired| &retired.base);
        let mut bases = self.base.iter().chain(retired);
        let wanted = OpId::marker(marker, 0);
        bases.find(|base| OpId::marker(base.marker, 0) == wanted && base.to >= self.floor)
    }
}

impl Base {
    /// Returns the number of operations that a client is sent in place of those up to `to`: the CLEAR,
    /// the rows, and the MOVE that ends each line. A base without rows is one line as well.
    #[must_use]
    pub fn sent_operations(&self) -> u64 {
        1 + self.rows + u64::from(self.frames.max(1))
    }

    /// Returns the name of the object with the [`BaseManifest`].
    #[must_use]
    pub fn manifest(&self) -> String {
        format!("{}/manifest", self.name)
    }

    /// Returns the name of the object with the rows.
    #[must_use]
    pub fn rows_object(&self) -> String {
        format!("{}/rows", self.name)
    }

    /// Returns the name of a typed file.
    #[must_use]
    pub fn file(&self, number: usize) -> String {
        format!("{}/file-{number}", self.name)
    }

    /// Returns the names of all objects.
    pub fn objects(&self) -> impl Iterator<Item = String> + '_ {
        let files = (0..self.files as usize).map(|number| self.file(number));
        [self.manifest(), self.rows_object()].into_iter().chain(files)
    }
}

impl BaseManifest {
    /// Decodes a stored manifest.
    ///
    /// # Errors
    /// `Damaged` if the content cannot be decoded.
    pub fn decode(stored: &[u8]) -> Result<Self, StorageError> {
        serde_json::from_slice(stored)
            .map_err(|error| StorageError::Damaged("manifest", error.into()))
    }

    /// Returns the stored form: JSON.
    ///
    /// # Panics
    /// Never: numbers, texts and lists are valid JSON.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("numbers, texts and lists are valid JSON").into()
    }

    /// Returns the index of the frame that starts after `rows` rows, and its byte offset. Returns
    /// `None` if no frame starts or ends there.
    #[must_use]
    pub fn frame_after(&self, rows: u64) -> Option<(usize, u64)> {
        let mut seen = 0;
        let mut at = 0;
        for (number, frame) in self.rows.iter().enumerate() {
            if seen >= rows {
                return (seen == rows).then_some((number, at));
            }
            seen += frame.rows;
            at += frame.bytes;
        }
        (seen == rows).then_some((self.rows.len(), at))
    }
}

#[cfg(test)]
mod tests {
    use tidewater_protocol::Epoch;

    use super::*;

    fn op(sequence: u64) -> OpId {
        OpId::new(Epoch::new(1).unwrap(), sequence)
    }

    fn base(to: u64, marker: u32) -> Base {
        Base {
            to: op(to),
            checksum: Checksum(7),
            remainder: Checksum(2),
            rows: 10,
            count: 20,
            name: "snapshots/x/1".into(),
            marker,
            files: 2,
            frames: 1,
        }
    }

    #[test]
    fn a_catalog_is_read_back() {
        let mark = TimedOp { op: op(4), time: 1_800_000_000 };
        let catalog = Catalog {
            floor: op(3),
            base: Some(base(9, 1)),
            retired: vec![RetiredBase { base: base(5, 2), delete_at: 1_800_000_001 }],
            published: vec![mark],
            covered: vec![mark],
        };
        assert_eq!(Catalog::decode(&catalog.encode()).unwrap(), catalog);
        assert_eq!(Catalog::decode(&Catalog::default().encode()).unwrap(), Catalog::default());
        assert_eq!(Catalog::decode(b"").unwrap(), Catalog::default());
        assert!(matches!(Catalog::decode(b"{"), Err(StorageError::Damaged("catalog", _))));
    }

    #[test]
    fn a_marker_is_valid_while_the_log_after_its_base_exists() {
        let retired = vec![
            RetiredBase { base: base(5, 2), delete_at: 0 },
            RetiredBase { base: base(6, 3), delete_at: 0 },
        ];
        let catalog =
            Catalog { floor: op(6), base: Some(base(9, 1)), retired, ..Catalog::default() };

        let found = [1, 2, 3, 4].map(|marker| catalog.base_of_marker(marker).map(|base| base.to));
        assert_eq!(found, [Some(op(9)), None, Some(op(6)), None]);
    }

    #[test]
    fn a_base_is_found_by_the_bits_of_its_marker_that_a_client_reports() {
        for number in [0, 5, 1 << 30, u32::MAX] {
            let (marker, _) = OpId::marker(number, 7).as_marker().unwrap();
            let catalog = Catalog { base: Some(base(9, number)), ..Catalog::default() };
            assert!(catalog.base_of_marker(marker).is_some(), "{number}");
        }
    }

    #[test]
    fn a_frame_is_found_only_where_a_frame_starts_or_ends() {
        let [first, second] = [(100, 3), (50, 2)].map(|(bytes, rows)| RowsFrame {
            bytes,
            raw_bytes: 0,
            rows,
            sum: Checksum::ZERO,
        });
        let manifest = BaseManifest { rows: vec![first, second], files: Vec::new() };

        let at_ends = [0, 3, 5].map(|rows| manifest.frame_after(rows));
        assert_eq!(at_ends, [Some((0, 0)), Some((1, 100)), Some((2, 150))]);
        assert_eq!([1, 4, 6].map(|rows| manifest.frame_after(rows)), [None, None, None]);
        assert_eq!(BaseManifest::default().frame_after(0), Some((0, 0)));
    }

    #[test]
    fn a_base_names_all_of_its_objects() {
        let names: Vec<_> = base(9, 1).objects().collect();
        assert_eq!(
            names,
            ["manifest", "rows", "file-0", "file-1"].map(|n| { format!("snapshots/x/1/{n}") })
        );
    }
}
