//! Encodes messages as PostgreSQL does, for tests and the simulation.

use crate::source::pgoutput::{Datum, Relation};

/// The kind of an old tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldTuple {
    /// Only the columns of the replica identity are set.
    Key,
    /// All columns are set: `REPLICA IDENTITY FULL`.
    Row,
}

/// Encodes a Relation message.
pub fn relation(relation: &Relation) -> Vec<u8> {
    let mut out = vec![b'R'];
    out.extend_from_slice(&relation.oid.to_be_bytes());
    string(&relation.schema, &mut out);
    string(&relation.name, &mut out);
    out.push(relation.replica_identity);

    out.extend_from_slice(&u16_of(relation.columns.len()).to_be_bytes());
    for column in &relation.columns {
        out.push(u8::from(column.in_identity));
        string(&column.name, &mut out);
        out.extend_from_slice(&column.type_oid.to_be_bytes());
        out.extend_from_slice(&(-1_i32).to_be_bytes());
    }

    out
}

/// Encodes an Insert message.
pub fn insert(relation: u32, new: &[Datum<'_>]) -> Vec<u8> {
    let mut out = header(b'I', relation);
    out.push(b'N');
    tuple(new, &mut out);
    out
}

/// Encodes an Update message.
pub fn update(relation: u32, old: Option<(OldTuple, &[Datum<'_>])>, new: &[Datum<'_>]) -> Vec<u8> {
    let mut out = header(b'U', relation);
    if let Some((kind, old)) = old {
        old_tuple(kind, old, &mut out);
    }
    out.push(b'N');
    tuple(new, &mut out);
    out
}

/// Encodes a Delete message.
pub fn delete(relation: u32, kind: OldTuple, old: &[Datum<'_>]) -> Vec<u8> {
    let mut out = header(b'D', relation);
    old_tuple(kind, old, &mut out);
    out
}

/// Encodes a Truncate message.
pub fn truncate(relations: &[u32]) -> Vec<u8> {
    let mut out = vec![b'T'];
    out.extend_from_slice(&u32::from(u16_of(relations.len())).to_be_bytes());
    out.push(0);
    for relation in relations {
        out.extend_from_slice(&relation.to_be_bytes());
    }
    out
}

fn header(kind: u8, relation: u32) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&relation.to_be_bytes());
    out
}

fn old_tuple(kind: OldTuple, old: &[Datum<'_>], out: &mut Vec<u8>) {
    out.push(match kind {
        OldTuple::Key => b'K',
        OldTuple::Row => b'O',
    });
    tuple(old, out);
}

fn tuple(values: &[Datum<'_>], out: &mut Vec<u8>) {
    out.extend_from_slice(&u16_of(values.len()).to_be_bytes());
    for value in values {
        match value {
            Datum::Null => out.push(b'n'),
            Datum::Unchanged => out.push(b'u'),
            Datum::Text(text) => {
                out.push(b't');
                let length = u32::try_from(text.len()).expect("a test value is short");
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn u16_of(count: usize) -> u16 {
    u16::try_from(count).expect("a test message is small")
}
