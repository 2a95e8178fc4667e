//! Packs: the copies of many rows in one record.
//!
//! Recording each copy of a row in `_tw_rows` takes as long as inserting the rows of a large
//! snapshot, and most copies never change again. So the copies of a large table are stored in
//! packs. A pack is a run of copies in the order of their ids, delta-encoded. Before anything
//! happens to one of its rows, a pack is unpacked: its copies move to `_tw_rows`. `LAYOUT.md`
//! describes the format.
//!
//! The packs of a type do not overlap, so one lookup finds the pack that may contain a row. A table
//! whose ids do not all come after the existing packs is not packed.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Rows, params};
use tidewater_protocol::leb128;

/// The size of a pack, in bytes. With ids of usual length the record fits into one page (4 KiB) of
/// the database.
const PACK_BYTES: usize = 3_800;
/// The longest text that is decoded, in bytes. The encoder never writes longer ones:
/// SQLite refuses them.
const TEXT_BYTES_MAX: u64 = 1 << 30;

/// A copy whose value is the visible row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PackedCopy {
    id: String,
    subkey: String,
    op_id: i64,
}

/// Writes packs to a file. They go into the database when the rows are there. Memory stays bounded,
/// whatever the number of rows.
#[derive(Debug)]
pub(super) struct PackWriter {
    out: BufWriter<File>,
    /// The first id of the pack that is being filled.
    first: String,
    last: PackedCopy,
    copies: Vec<u8>,
}

impl PackWriter {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let out = BufWriter::new(File::create(path)?);
        Ok(Self { out, first: String::new(), last: PackedCopy::default(), copies: Vec::new() })
    }

    /// Adds a copy. Ids must ascend.
    pub(super) fn push(&mut self, id: &str, subkey: &str, op_id: i64) -> io::Result<()> {
        if self.copies.is_empty() {
            self.first = id.to_owned();
            self.last = PackedCopy::default();
        }

        push_text(&mut self.copies, &mut self.last.id, id);
        push_text(&mut self.copies, &mut self.last.subkey, subkey);
        // Op ids are not negative, so this does not overflow.
        leb128::encode(&mut self.copies, zigzag(op_id - self.last.op_id));
        self.last.op_id = op_id;

        if self.copies.len() >= PACK_BYTES { self.end_pack() } else { Ok(()) }
    }

    fn end_pack(&mut self) -> io::Result<()> {
        for part in [self.first.as_bytes(), self.last.id.as_bytes(), &self.copies] {
            self.out.write_all(&(part.len() as u64).to_le_bytes())?;
            self.out.write_all(part)?;
        }

        self.copies.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        if !self.copies.is_empty() {
            self.end_pack()?;
        }
        self.out.flush()
    }
}

/// Inserts the packs of a file into the database.
pub(super) fn insert(
    connection: &Connection,
    type_id: i64,
    bucket: i64,
    path: &Path,
) -> Result<(), InsertError> {
    let mut input = BufReader::new(File::open(path)?);
    let mut insert = connection.prepare_cached(
        "INSERT INTO _tw_packs (type, first, last, bucket, copies) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;

    while let Some(first) = read_part(&mut input)? {
        let first = text(first)?;
        let last = text(read_part(&mut input)?.unwrap_or_default())?;
        let copies = read_part(&mut input)?.unwrap_or_default();
        insert.execute(params![type_id, first, last, bucket, copies])?;
    }
    Ok(())
}

/// The reason why packs were not inserted.
#[derive(Debug, thiserror::Error)]
pub(super) enum InsertError {
    #[error(transparent)]
    File(#[from] io::Error),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

fn read_part(input: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }

    let length = u64::from_le_bytes(length);
    let mut part = Vec::new();
    let count = input.take(length).read_to_end(&mut part)?;
    if count as u64 == length { Ok(Some(part)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Returns whether there are packs at all. If not, no row needs to be looked up in them.
pub(super) fn has_any(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM _tw_packs")?.exists([])
}

/// Returns the greatest id in the packs of a type. New packs must begin after it.
pub(super) fn last_packed_id(
    connection: &Connection,
    type_id: i64,
) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT last FROM _tw_packs WHERE type = ?1 ORDER BY first DESC LIMIT 1";
    connection.prepare_cached(sql)?.query_row([type_id], |row| row.get(0)).optional()
}

/// Unpacks the pack that contains the row, if there is one.
pub(super) fn unpack_containing(
    connection: &Connection,
    type_id: i64,
    id: &str,
) -> rusqlite::Result<()> {
    // Packs do not overlap: only the last one that begins at or before the id can contain it.
    let mut select = connection.prepare_cached(
        "SELECT id, last, bucket, copies FROM _tw_packs WHERE type = ?1 AND first <= ?2 \
         ORDER BY first DESC LIMIT 1",
    )?;
    let mut found = select.query(params![type_id, id])?;
    let Some(row) = found.next()? else { return Ok(()) };
    if row.get_ref(1)?.as_str()? < id {
        return Ok(());
    }

    let copies = decode(row.get_ref(3)?.as_blob()?)?;
    if copies.binary_search_by(|copy| copy.id.as_str().cmp(id)).is_err() {
        return Ok(());
    }
    unpack(connection, row.get(0)?, type_id, row.get(2)?, &copies)
}

/// Unpacks all packs of the buckets that were cleared.
pub(super) fn unpack_cleared(connection: &Connection) -> rusqlite::Result<()> {
    // The ids first, then one pack at a time: a pack is deleted once it is unpacked.
    let mut select = connection.prepare(
        "SELECT id FROM _tw_packs WHERE bucket IN (SELECT id FROM _tw_buckets WHERE is_cleared)",
    )?;
    let packs: Vec<i64> =
        select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;

    let mut select =
        connection.prepare("SELECT type, bucket, copies FROM _tw_packs WHERE id = ?1")?;
    for pack in packs {
        let (type_id, bucket, copies) = select.query_row([pack], |row| {
            Ok((row.get(0)?, row.get(1)?, decode(row.get_ref(2)?.as_blob()?)?))
        })?;
        unpack(connection, pack, type_id, bucket, &copies)?;
    }
    Ok(())
}

fn unpack(
    connection: &Connection,
    pack: i64,
    type_id: i64,
    bucket: i64,
    copies: &[PackedCopy],
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT OR ABORT INTO _tw_rows (type, id, bucket, subkey, op_id) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for PackedCopy { id, subkey, op_id } in copies {
        insert.execute(params![type_id, id, bucket, subkey, op_id])?;
    }

    connection.prepare_cached("DELETE FROM _tw_packs WHERE id = ?1")?.execute([pack]).map(drop)
}

/// Tells which ids are in the packs of a type. Must be asked in ascending order.
pub(super) struct PackedIds<'s> {
    packs: Rows<'s>,
    current: Vec<PackedCopy>,
}

impl<'s> PackedIds<'s> {
    pub(super) const SQL: &'static str =
        "SELECT copies FROM _tw_packs WHERE type = ?1 ORDER BY first";

    /// Takes the rows of [`PackedIds::SQL`].
    pub(super) fn new(packs: Rows<'s>) -> Self {
        Self { packs, current: Vec::new() }
    }

    pub(super) fn contains(&mut self, id: &str) -> rusqlite::Result<bool> {
        while self.current.last().is_none_or(|last| last.id.as_str() < id) {
            let Some(pack) = self.packs.next()? else { return Ok(false) };
            self.current = decode(pack.get_ref(0)?.as_blob()?)?;
        }
        Ok(self.current.binary_search_by(|copy| copy.id.as_str().cmp(id)).is_ok())
    }
}

fn decode(mut packed: &[u8]) -> rusqlite::Result<Vec<PackedCopy>> {
    let mut copies = Vec::new();
    let mut last = PackedCopy::default();

    while !packed.is_empty() {
        let next = next_copy(&mut packed, &last).ok_or_else(|| {
            let message = "a pack of copies is damaged".into();
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, message)
        })?;
        last.clone_from(&next);
        copies.push(next);
    }
    Ok(copies)
}

fn next_copy(packed: &mut &[u8], last: &PackedCopy) -> Option<PackedCopy> {
    let id = next_text(packed, &last.id)?;
    let subkey = next_text(packed, &last.subkey)?;
    let op_id = last.op_id.checked_add(unzigzag(leb128::decode(packed).ok()?))?;
    Some(PackedCopy { id, subkey, op_id })
}

/// Writes the length that `new` shares with `last`, then the rest of it.
fn push_text(out: &mut Vec<u8>, last: &mut String, new: &str) {
    let shared = last.bytes().zip(new.bytes()).take_while(|(a, b)| a == b).count();
    // Both parts must be whole characters.
    let shared = (0..=shared).rev().find(|&end| new.is_char_boundary(end)).unwrap_or(0);

    leb128::encode(out, shared as u64);
    leb128::encode(out, (new.len() - shared) as u64);
    out.extend_from_slice(&new.as_bytes()[shared..]);
    last.truncate(shared);
    last.push_str(&new[shared..]);
}

fn next_text(packed: &mut &[u8], last: &str) -> Option<String> {
    let shared = next_length(packed)?;
    let rest = next_length(packed)?;
    let (rest, after) = packed.split_at_checked(rest)?;
    *packed = after;

    let rest = std::str::from_utf8(rest).ok()?;
    Some([last.get(..shared)?, rest].concat())
}

fn next_length(packed: &mut &[u8]) -> Option<usize> {
    let length = leb128::decode(packed).ok().filter(|length| *length <= TEXT_BYTES_MAX)?;
    usize::try_from(length).ok()
}

/// Maps small numbers of either sign to small unsigned ones.
const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

#[cfg(test)]
mod tests;
