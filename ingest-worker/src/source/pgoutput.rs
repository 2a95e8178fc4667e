//! Decodes messages of PostgreSQL's `pgoutput` plugin, protocol version 1, text format.
//!
//! The replication client decodes Begin, Commit and logical messages itself. Everything else
//! arrives as bytes and is decoded here, once: a [`Message`] names the places of its tuples, and
//! [`TupleRange::read`] reads the values from the same bytes when they are needed.

pub mod encode;

use std::ops::Range;

/// A message that violates the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed pgoutput message")]
pub struct Malformed;

/// A decoded message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// The description of a table: sent before its first change, and after it was altered.
    Relation(Relation),
    Insert {
        relation: u32,
        new: TupleRange,
    },
    Update {
        relation: u32,
        /// The old key (`K`) or the old row (`O`); absent if the key did not change.
        old: Option<TupleRange>,
        new: TupleRange,
    },
    Delete {
        relation: u32,
        old: TupleRange,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// An origin or type message. The worker needs neither.
    Other,
}

/// A table as the stream describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The table's id in `pg_class`.
    pub oid: u32,
    /// Name of its schema.
    pub schema: String,
    /// The table's name.
    pub name: String,
    /// `d`, `n`, `f` or `i`, as in `pg_class.relreplident`.
    pub replica_identity: u8,
    /// The columns, in the order of every tuple.
    pub columns: Vec<RelationColumn>,
}

/// A column as the stream describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// True if the column is part of the replica identity.
    pub in_identity: bool,
    /// The column's name.
    pub name: String,
    /// Id of its type in `pg_type`.
    pub type_oid: u32,
}

/// The place of a row's values within its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TupleRange {
    columns: u16,
    bytes: Range<usize>,
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datum<'a> {
    /// NULL.
    Null,
    /// A value stored out of line that did not change: PostgreSQL leaves it out of the stream.
    Unchanged,
    /// The text form of the value.
    Text(&'a str),
}

impl TupleRange {
    /// Reads the values from the message that this range was decoded from, in column order.
    pub(crate) fn read<'a>(&self, message: &'a [u8]) -> Result<Vec<Datum<'a>>, Malformed> {
        let bytes = message.get(self.bytes.clone()).ok_or(Malformed)?;
        let mut bytes = Reader::new(bytes);
        (0..self.columns).map(|_| bytes.datum()).collect()
    }
}

impl Message {
    /// Decodes one message. Values are located, not checked: reading them checks that they are
    /// UTF-8.
    pub(crate) fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut bytes = Reader::new(message);
        match bytes.byte()? {
            b'R' => Ok(Self::Relation(bytes.relation()?)),
            b'I' => {
                let relation = bytes.u32()?;
                bytes.expect(b'N')?;
                Ok(Self::Insert { relation, new: bytes.tuple()? })
            }

            b'U' => {
                let relation = bytes.u32()?;
                let mut kind = bytes.byte()?;
                let mut old = None;
                if kind == b'K' || kind == b'O' {
                    old = Some(bytes.tuple()?);
                    kind = bytes.byte()?;
                }

                if kind != b'N' {
                    return Err(Malformed);
                }
                Ok(Self::Update { relation, old, new: bytes.tuple()? })
            }

            b'D' => {
                let relation = bytes.u32()?;
                match bytes.byte()? {
                    b'K' | b'O' => Ok(Self::Delete { relation, old: bytes.tuple()? }),
                    _ => Err(Malformed),
                }
            }

            b'T' => {
                let count = bytes.u32()?;
                // Options (CASCADE, RESTART IDENTITY): the affected tables are listed in any case.
                bytes.byte()?;
                let relations = (0..count).map(|_| bytes.u32()).collect::<Result<_, _>>()?;
                Ok(Self::Truncate { relations })
            }

            b'Y' | b'O' => Ok(Self::Other),
            _ => Err(Malformed),
        }
    }
}

/// Reads a message from front to back.
struct Reader<'a> {
    rest: &'a [u8],
    /// Length of the whole message, from which positions are computed.
    length: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, length: bytes.len() }
    }

    fn position(&self) -> usize {
        self.length - self.rest.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.byte()? == byte { Ok(()) } else { Err(Malformed) }
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into().map_err(|_| Malformed)?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().map_err(|_| Malformed)?))
    }

    fn string(&mut self) -> Result<String, Malformed> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or(Malformed)?;
        let text = std::str::from_utf8(self.take(end)?).map_err(|_| Malformed)?;
        self.byte()?;
        Ok(text.to_owned())
    }

    fn relation(&mut self) -> Result<Relation, Malformed> {
        let oid = self.u32()?;
        let schema = self.string()?;
        let name = self.string()?;
        let replica_identity = self.byte()?;

        let count = self.u16()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            let in_identity = self.byte()? & 1 == 1;
            let name = self.string()?;
            let type_oid = self.u32()?;
            let _type_modifier = self.u32()?;
            columns.push(RelationColumn { in_identity, name, type_oid });
        }

        Ok(Relation { oid, schema, name, replica_identity, columns })
    }

    /// Finds the end of a tuple without reading its values.
    fn tuple(&mut self) -> Result<TupleRange, Malformed> {
        let columns = self.u16()?;
        let start = self.position();

        for _ in 0..columns {
            match self.byte()? {
                b'n' | b'u' => {}
                b't' => {
                    let length = self.u32()?;
                    self.take(length as usize)?;
                }
                _ => return Err(Malformed),
            }
        }

        Ok(TupleRange { columns, bytes: start..self.position() })
    }

    fn datum(&mut self) -> Result<Datum<'a>, Malformed> {
        match self.byte()? {
            b'n' => Ok(Datum::Null),
            b'u' => Ok(Datum::Unchanged),
            b't' => {
                let length = self.u32()?;
                let text = self.take(length as usize)?;
                std::str::from_utf8(text).map(Datum::Text).map_err(|_| Malformed)
            }
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests;
