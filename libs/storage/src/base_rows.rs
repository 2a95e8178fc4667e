//! The rows of a base: PUT operations in the order of their op ids, in frames that are compressed
//! and read independently.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use tidewater_protocol::{Checksum, OpId, Operation};

use crate::catalog::{Base, BaseManifest, RowsFrame};
use crate::error::{BoxError, StorageError};
use crate::ports::ObjectStore;
use crate::segment::SegmentWriter;

/// The uncompressed size in bytes at which a frame ends. A frame is one line of the stream, and the
/// server keeps it in memory for a client that reads slowly.
const FRAME_BYTES_MAX: usize = 4 << 20;
/// The maximum uncompressed size of a frame in bytes; larger claims are rejected as damage. A row of
/// PostgreSQL is below 1 GiB.
const FRAME_RAW_BYTES_MAX: u64 = 2 << 30;
/// The zstd level. At higher levels the time grows faster than the size shrinks.
const LEVEL: i32 = 3;

/// Writes the rows of a base to a file.
#[derive(Debug)]
pub struct BaseRowsWriter {
    file: File,
    frame: SegmentWriter,
    frame_sum: Checksum,
    frames: Vec<RowsFrame>,
    frame_rows: u64,
}

impl BaseRowsWriter {
    /// Creates a file whose frames contain at most `frame_rows` rows. A frame is one line of the
    /// stream, and so one transaction on a device that receives rows as lines.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(path: &Path, frame_rows: u64) -> std::io::Result<Self> {
        Ok(Self {
            file: File::create(path)?,
            frame: SegmentWriter::default(),
            frame_sum: Checksum::ZERO,
            frames: Vec::new(),
            frame_rows,
        })
    }

    /// Appends a row: a PUT with a greater op id than the previous one.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn push(&mut self, put: &Operation<'_>) -> std::io::Result<()> {
        self.frame.push(put);
        self.frame_sum += put.checksum;
        if self.frame.count() >= self.frame_rows || self.frame.len() >= FRAME_BYTES_MAX {
            self.end_frame()?;
        }
        Ok(())
    }

    /// Finishes the file and returns its frames.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn finish(mut self) -> std::io::Result<Vec<RowsFrame>> {
        if !self.frame.is_empty() {
            self.end_frame()?;
        }
        Ok(self.frames)
    }

    fn end_frame(&mut self) -> std::io::Result<()> {
        let frame = std::mem::take(&mut self.frame);
        let sum = std::mem::take(&mut self.frame_sum);
        let rows = frame.count();
        let raw = frame.into_payload();

        let compressed = zstd::bulk::compress(&raw, LEVEL)?;
        self.file.write_all(&compressed)?;
        self.frames.push(RowsFrame {
            bytes: compressed.len() as u64,
            raw_bytes: raw.len() as u64,
            rows,
            sum,
        });
        Ok(())
    }
}

/// A base whose manifest was read, so its frames can be read.
#[derive(Clone, Debug)]
pub struct BaseReader {
    /// The base.
    pub base: Base,
    /// The manifest of the base.
    pub manifest: BaseManifest,
}

/// A position between two frames of a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePosition {
    number: usize,
    at: u64,
    /// The number of rows before it.
    pub rows: u64,
}

impl BaseReader {
    /// Reads the manifest of a base. Returns `None` if the base was deleted.
    ///
    /// # Errors
    /// Errors of the ports; `Damaged` if the manifest cannot be decoded or belongs to another base.
    pub async fn open(
        storage: &impl ObjectStore,
        base: &Base,
    ) -> Result<Option<Self>, StorageError> {
        let Some(stored) = storage.object_range(&base.manifest(), 0..u64::MAX).await? else {
            return Ok(None);
        };

        let manifest = BaseManifest::decode(&stored)?;
        let rows: u64 = manifest.rows.iter().map(|frame| frame.rows).sum();
        let sum = manifest.rows.iter().fold(Checksum::ZERO, |sum, frame| sum + frame.sum);
        let has_all_files = u64::from(base.files) == manifest.files.len() as u64;
        if rows != base.rows || sum + base.remainder != base.checksum || !has_all_files {
            return Err(StorageError::Damaged(
                "manifest",
                "the manifest does not match its base".into(),
            ));
        }
        Ok(Some(Self { base: base.clone(), manifest }))
    }

    /// Returns the position after this number of rows, if a frame ends there.
    #[must_use]
    pub fn after(&self, rows: u64) -> Option<FramePosition> {
        let (number, at) = self.manifest.frame_after(rows)?;
        Some(FramePosition { number, at, rows })
    }

    /// Returns whether no frame follows a position.
    #[must_use]
    pub fn ends_at(&self, place: FramePosition) -> bool {
        place.number >= self.manifest.rows.len()
    }

    /// Returns the marker of a position: the op id that a client at this position reports.
    ///
    /// # Panics
    /// If there are 2^32 rows or more; the builder creates no such base.
    #[must_use]
    pub fn marker(&self, place: FramePosition) -> OpId {
        let rows = u32::try_from(place.rows).expect("a base has fewer than 2^32 rows");
        OpId::marker(self.base.marker, rows)
    }

    /// Returns the payload of the frame at a position, and the position after it. Returns `None` if
    /// the base was deleted.
    ///
    /// # Errors
    /// Errors of the ports; `Damaged` if the frame differs from its description in the manifest.
    ///
    /// # Panics
    /// If no frame follows the position.
    pub async fn frame(
        &self,
        storage: &impl ObjectStore,
        place: FramePosition,
    ) -> Result<Option<(Bytes, FramePosition)>, StorageError> {
        let frame = self.manifest.rows[place.number];
        let end = place.at + frame.bytes;
        let Some(compressed) =
            storage.object_range(&self.base.rows_object(), place.at..end).await?
        else {
            return Ok(None);
        };

        let raw = decompressed(&compressed, &frame)
            .map_err(|cause| StorageError::Damaged("base", cause))?;
        let next =
            FramePosition { number: place.number + 1, at: end, rows: place.rows + frame.rows };
        Ok(Some((raw, next)))
    }
}

fn decompressed(compressed: &[u8], frame: &RowsFrame) -> Result<Bytes, BoxError> {
    if frame.raw_bytes > FRAME_RAW_BYTES_MAX {
        return Err("the manifest gives a frame more bytes than the maximum".into());
    }
    let size = usize::try_from(frame.raw_bytes)?;
    let raw = zstd::bulk::decompress(compressed, size)?;
    if raw.len() != size {
        return Err("a frame is shorter than the manifest says".into());
    }
    Ok(raw.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Embedded, SegmentReader};
    use tidewater_protocol::{Body, Epoch, RowKey};

    /// Stores a base with this number of rows.
    async fn stored(store: &Embedded, rows: u64) -> Base {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");

        let mut writer = BaseRowsWriter::create(&path, 10_000).unwrap();
        let mut sum = Checksum::ZERO;
        for number in 1..=rows {
            let id = number.to_string();
            let body = Body::Put { row: RowKey::new("t", &id, "k"), data: "{}".into() };
            let op_id = OpId::new(Epoch::new(1).unwrap(), number * 2);
            let checksum = body.checksum().unwrap();
            sum += checksum;
            writer.push(&Operation { op_id, checksum, body }).unwrap();
        }
        let frames = writer.finish().unwrap();

        let base = Base {
            to: OpId::new(Epoch::new(1).unwrap(), rows * 2 + 1),
            checksum: sum + Checksum(5),
            remainder: Checksum(5),
            rows,
            count: rows,
            name: "b".into(),
            marker: 77,
            files: 0,
            frames: u32::try_from(frames.len()).unwrap(),
        };

        store.put_object_file(&base.rows_object(), &path).await.unwrap();
        let manifest = BaseManifest { rows: frames, files: Vec::new() };
        store.put_object(&base.manifest(), manifest.encode()).await.unwrap();
        base
    }

    #[tokio::test]
    async fn rows_are_read_back_frame_by_frame() {
        let store = Embedded::temporary().unwrap();
        for rows in [0, 1, 9_999, 10_000, 10_001, 25_000] {
            let base = stored(&store, rows).await;
            let open = BaseReader::open(&store, &base).await.unwrap().unwrap();

            let mut place = open.after(0).unwrap();
            let mut seen = 0;
            while !open.ends_at(place) {
                let (payload, next) = open.frame(&store, place).await.unwrap().unwrap();
                for operation in SegmentReader::new(&payload) {
                    seen += 1;
                    assert_eq!(operation.unwrap().op_id.sequence(), seen * 2);
                }
                assert_eq!((next.rows, open.after(seen)), (seen, Some(next)));
                assert_eq!(open.marker(next), OpId::marker(77, u32::try_from(seen).unwrap()));
                place = next;
            }
            assert_eq!(seen, rows);
        }
    }

    #[tokio::test]
    async fn a_deleted_base_is_not_an_error() {
        let store = Embedded::temporary().unwrap();
        let base = stored(&store, 3).await;
        let open = BaseReader::open(&store, &base).await.unwrap().unwrap();
        for object in base.objects() {
            store.delete_object(&object).await.unwrap();
        }
        assert!(BaseReader::open(&store, &base).await.unwrap().is_none());
        assert!(open.frame(&store, open.after(0).unwrap()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_base_that_differs_from_its_description_is_damaged() {
        let store = Embedded::temporary().unwrap();
        let base = stored(&store, 3).await;
        for other in [
            Base { rows: 4, ..base.clone() },
            Base { checksum: Checksum(1), ..base.clone() },
            Base { files: 1, ..base.clone() },
        ] {
            let opened = BaseReader::open(&store, &other).await;
            assert!(matches!(opened, Err(StorageError::Damaged("manifest", _))));
        }

        let open = BaseReader::open(&store, &base).await.unwrap().unwrap();
        let place = open.after(0).unwrap();
        let whole = store.object_range(&base.rows_object(), 0..u64::MAX).await.unwrap().unwrap();
        for bad in [whole.slice(..whole.len() - 1), whole.slice(1..), Bytes::new()] {
            store.put_object(&base.rows_object(), bad).await.unwrap();
            let read = open.frame(&store, place).await;
            assert!(matches!(read, Err(StorageError::Damaged("base", _))), "{read:?}");
        }
    }
}
