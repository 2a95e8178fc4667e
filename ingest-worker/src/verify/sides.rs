//! The contents of both sides, place by place: in memory for some places, on disk for all of them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use tidewater_protocol::{OpId, leb128};
use xxhash_rust::xxh3::xxh3_64;

use crate::verify::place::{Place, PlaceKind, read_bytes, read_text, write_bytes, write_text};
use crate::verify::verdict::StoredChange;

/// Files by which places are sorted. One of them is in memory at a time: with a hundred million places,
/// 400,000 places, or some 100 MB.
const PARTITIONS: usize = 256;
/// Bytes that are collected for a file before they are written: 8 MiB for all files.
const BUFFER_BYTES: usize = 32 << 10;

/// A row or an answer as the source has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SourceContent<'a> {
    pub(super) digest: u64,
    /// The name of the source row.
    pub(super) row_name: &'a str,
    pub(super) data: &'a str,
}

/// A receiver of what both sides have.
pub(super) trait Sides: Send {
    /// Takes a row or an answer that the source has.
    fn source(&mut self, place: &Place<'_>, content: SourceContent<'_>) -> io::Result<()>;

    /// Takes a change that the store has, with the data of a row.
    fn stored(
        &mut self,
        place: &Place<'_>,
        change: StoredChange,
        data: Option<&str>,
    ) -> io::Result<()>;

    /// Takes the name of a lookup whose answers are to be read.
    fn lookup(&mut self, name: &str) -> io::Result<()>;
}

/// The contents of both sides at one place.
#[derive(Clone, Debug, Default)]
pub(super) struct BothSides {
    /// The digest in the source.
    pub(super) source: Option<u64>,
    pub(super) source_data: Option<String>,
    /// The name of the source row, if it is known.
    pub(super) row_name: Option<String>,
    pub(super) changes: Vec<StoredChange>,
    pub(super) stored_data: Option<String>,
}

/// Places in their binary form, with what both sides have.
pub(super) type Places = HashMap<Box<[u8]>, BothSides>;

/// All places, in files.
pub(super) struct SpilledSides {
    partitions: Vec<BufWriter<File>>,
    place: Vec<u8>,
    record: Vec<u8>,
}

/// One file's places.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) places: Places,
    /// The lookups whose answers belong to it, each once.
    pub(super) lookups: Vec<String>,
}

const SOURCE: u8 = 1;
const STORED: u8 = 2;
const LOOKUP: u8 = 3;

impl SpilledSides {
    /// Creates the files. They are removed when the process ends, however it ends.
    pub(super) fn create() -> io::Result<Self> {
        let file = |_| Ok(BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile()?));
        let partitions = (0..PARTITIONS).map(file).collect::<io::Result<_>>()?;
        Ok(Self { partitions, place: Vec::new(), record: Vec::new() })
    }

    /// Returns the partitions one after another.
    pub(super) fn into_partitions(self) -> impl Iterator<Item = io::Result<Partition>> {
        self.partitions.into_iter().map(|partition| {
            let mut file = partition.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.seek(SeekFrom::Start(0))?;
            let mut content = Vec::new();
            BufReader::new(file).read_to_end(&mut content)?;
            Partition::read(&content).ok_or_else(|| io::Error::other("a temporary file is damaged"))
        })
    }

    /// Writes the record to the partition of its place. Answers are together with their lookup.
    fn write(&mut self, place: &Place<'_>) -> io::Result<()> {
        let hash = match place.kind {
            PlaceKind::Row => xxh3_64(&self.place),
            PlaceKind::Answer => xxh3_64(place.container.as_bytes()),
        };
        let count = PARTITIONS as u64;
        let partition = usize::try_from(hash % count).unwrap_or_default();
        self.partitions[partition].write_all(&self.record)
    }

    fn begin(&mut self, kind: u8, place: &Place<'_>) {
        place.encode(&mut self.place);
        self.record.clear();
        self.record.push(kind);
        write_bytes(&self.place, &mut self.record);
    }
}

impl Sides for SpilledSides {
    fn source(&mut self, place: &Place<'_>, content: SourceContent<'_>) -> io::Result<()> {
        self.begin(SOURCE, place);
        self.record.extend_from_slice(&content.digest.to_le_bytes());
        write_text(content.row_name, &mut self.record);
        self.write(place)
    }

    fn stored(
        &mut self,
        place: &Place<'_>,
        change: StoredChange,
        _data: Option<&str>,
    ) -> io::Result<()> {
        self.begin(STORED, place);
        self.record.push(u8::from(change.content.is_some()) | u8::from(change.is_oldest_kept) << 1);
        leb128::encode(&mut self.record, change.op.get().unsigned_abs());
        self.record.extend_from_slice(&change.content.unwrap_or_default().to_le_bytes());
        self.write(place)
    }

    fn lookup(&mut self, name: &str) -> io::Result<()> {
        let place = Place::answer(name, "");
        self.begin(LOOKUP, &place);
        self.write(&place)
    }
}

impl Partition {
    fn read(mut content: &[u8]) -> Option<Self> {
        let mut partition = Self::default();
        let content = &mut content;
        while let Some(kind) = content.split_off_first() {
            let place = read_bytes(content)?;
            if *kind == LOOKUP {
                partition.lookups.push(Place::decode(place)?.container.to_owned());
                continue;
            }

            if !partition.places.contains_key(place) {
                partition.places.insert(place.into(), BothSides::default());
            }
            let sides = partition.places.get_mut(place)?;
            match *kind {
                SOURCE => {
                    sides.source = Some(read_u64(content)?);
                    sides.row_name = Some(read_text(content)?.to_owned());
                }
                STORED => {
                    let flags = *content.split_off_first()?;
                    let op = i64::try_from(leb128::decode(content).ok()?).ok()?;
                    let digest = read_u64(content)?;
                    sides.changes.push(StoredChange {
                        op: OpId::from_i64(op)?,
                        content: (flags & 1 != 0).then_some(digest),
                        is_oldest_kept: flags & 2 != 0,
                    });
                }
                0 | 3..=u8::MAX => return None,
            }
        }

        partition.lookups.sort_unstable();
        partition.lookups.dedup();
        Some(partition)
    }
}

fn read_u64(from: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(from.split_off(..8)?.try_into().ok()?))
}

/// The watched places, with the data of both sides. All others are ignored.
#[derive(Debug)]
pub(super) struct WatchedSides {
    pub(super) places: Places,
    place: Vec<u8>,
}

impl WatchedSides {
    /// Begins to watch places, each with the name of its source row if that is known.
    pub(super) fn new(places: impl IntoIterator<Item = (Box<[u8]>, Option<String>)>) -> Self {
        let empty = |row_name| BothSides { row_name, ..BothSides::default() };
        let places = places.into_iter().map(|(place, row_name)| (place, empty(row_name)));
        Self { places: places.collect(), place: Vec::new() }
    }

    fn watched(&mut self, place: &Place<'_>) -> Option<&mut BothSides> {
        place.encode(&mut self.place);
        self.places.get_mut(self.place.as_slice())
    }
}

impl Sides for WatchedSides {
    fn source(&mut self, place: &Place<'_>, content: SourceContent<'_>) -> io::Result<()> {
        if let Some(sides) = self.watched(place) {
            sides.source = Some(content.digest);
            sides.row_name = Some(content.row_name.to_owned());
            sides.source_data = Some(content.data.to_owned());
        }
        Ok(())
    }

    fn stored(
        &mut self,
        place: &Place<'_>,
        change: StoredChange,
        data: Option<&str>,
    ) -> io::Result<()> {
        if let Some(sides) = self.watched(place) {
            // Changes come in their order, so the last one is the present content.
            sides.stored_data = data.map(str::to_owned);
            sides.changes.push(change);
        }
        Ok(())
    }

    fn lookup(&mut self, _name: &str) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidewater_protocol::Epoch;

    use super::*;

    fn place(object_id: &str) -> Place<'_> {
        let kind = PlaceKind::Row;
        Place { kind, container: "aaaaaa[]", object_type: "t", object_id, subkey: "0.1" }
    }

    fn change(number: u64, content: Option<u64>) -> StoredChange {
        StoredChange { op: OpId::new(Epoch::ZERO, number), content, is_oldest_kept: number == 1 }
    }

    /// Hands the same to both receivers.
    fn fill(sides: &mut dyn Sides) {
        let content = SourceContent { digest: 7, row_name: "row", data: "{}" };
        sides.source(&place("a"), content).unwrap();
        sides.source(&place("unwatched"), content).unwrap();
        sides.stored(&place("a"), change(1, Some(8)), Some("old")).unwrap();
        sides.stored(&place("a"), change(2, Some(u64::MAX)), Some("new")).unwrap();
        sides.stored(&place("b"), change(3, None), None).unwrap();
        for name in ["bbbbbb[1]", "bbbbbb[2]", "bbbbbb[1]"] {
            sides.lookup(name).unwrap();
        }
    }

    #[test]
    fn places_are_read_from_files_as_they_were_written() {
        let mut spilled = SpilledSides::create().unwrap();
        fill(&mut spilled);
        let partitions: Vec<_> = spilled.into_partitions().map(Result::unwrap).collect();

        let mut found: Vec<_> = partitions.iter().flat_map(|one| &one.places).collect();
        found.sort_by_key(|(place, _)| Place::decode(place).unwrap().object_id.to_owned());
        let ids: Vec<_> =
            found.iter().map(|(place, _)| Place::decode(place).unwrap().object_id).collect();
        assert_eq!(ids, ["a", "b", "unwatched"]);
        assert_eq!(found[0].1.changes, [change(1, Some(8)), change(2, Some(u64::MAX))]);
        assert_eq!((found[0].1.source, found[0].1.row_name.as_deref()), (Some(7), Some("row")));
        assert_eq!((found[1].1.source, &found[1].1.changes[..]), (None, &[change(3, None)][..]));

        let mut lookups: Vec<_> = partitions.iter().flat_map(|one| &one.lookups).collect();
        lookups.sort();
        assert_eq!(lookups, ["bbbbbb[1]", "bbbbbb[2]"], "each once");
    }

    #[test]
    fn watched_places_have_the_data_of_both_sides() {
        let watched = ["a", "b", "nowhere"].map(|id| {
            let mut encoded = Vec::new();
            place(id).encode(&mut encoded);
            (encoded.into_boxed_slice(), None)
        });
        let mut sides = WatchedSides::new(watched.clone());
        fill(&mut sides);
        let of = |index: usize| &sides.places[&watched[index].0];
        assert_eq!(sides.places.len(), 3, "nothing else is kept");
        assert_eq!(of(0).source_data.as_deref(), Some("{}"));
        assert_eq!(of(0).stored_data.as_deref(), Some("new"));
        assert_eq!((of(1).stored_data.as_deref(), of(1).changes.len()), (None, 1));
        assert_eq!((of(2).source, of(2).changes.len()), (None, 0));
    }
}
