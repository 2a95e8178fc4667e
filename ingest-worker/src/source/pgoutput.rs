//! Decodes messages of PostgreSQL's `pgoutput` plugin, protocol version 1, text format.
//!
//! Begin, Commit and logical messages are decoded by the replication client already.

/// A message that is not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed pgoutput message")]
pub(crate) struct Malformed;

/// A change, or what it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// Describes a table before its first change, and after it was altered.
    Relation(Relation),
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Option<Tuple<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: Tuple<'a>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// Origin and type messages, which say nothing that we use.
    Other,
}

/// A table as the stream describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    /// `d`, `n`, `f` or `i`.
    pub(crate) replica_identity: u8,
    pub(crate) columns: Vec<RelationColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RelationColumn {
    pub(crate) in_identity: bool,
    pub(crate) name: String,
    pub(crate) type_oid: u32,
}

/// The values of a row, read one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuple<'a> {
    columns: usize,
    bytes: &'a [u8],
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Datum<'a> {
    Null,
    /// Stored out of line and not changed: the value is not in the stream.
    Unchanged,
    Text(&'a str),
}

impl<'a> Tuple<'a> {
    /// Puts the values into `out`, in the order of the table's columns.
    pub(crate) fn read(&self, out: &mut Vec<Datum<'a>>) -> Result<(), Malformed> {
        out.clear();
        let mut bytes = Reader(self.bytes);
        for _ in 0..self.columns {
            out.push(bytes.datum()?);
        }
        Ok(())
    }
}

impl<'a> Message<'a> {
    /// Decodes one message.
    pub(crate) fn decode(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut bytes = Reader(message);
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
                bytes.byte()?;
                let relations = (0..count).map(|_| bytes.u32()).collect::<Result<_, _>>()?;
                Ok(Self::Truncate { relations })
            }
            b'Y' | b'O' => Ok(Self::Other),
            _ => Err(Malformed),
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
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
        let end = self.0.iter().position(|&byte| byte == 0).ok_or(Malformed)?;
        let text = std::str::from_utf8(self.take(end)?).map_err(|_| Malformed)?;
        self.byte()?;
        Ok(text.to_owned())
    }

    fn relation(&mut self) -> Result<Relation, Malformed> {
        let oid = self.u32()?;
        let (schema, name) = (self.string()?, self.string()?);
        let replica_identity = self.byte()?;
        let count = self.u16()?;
        let columns = (0..count).map(|_| {
            let in_identity = self.byte()? & 1 == 1;
            let (name, type_oid) = (self.string()?, self.u32()?);
            self.u32()?;
            Ok(RelationColumn { in_identity, name, type_oid })
        });
        let columns = columns.collect::<Result<_, _>>()?;
        Ok(Relation { oid, schema, name, replica_identity, columns })
    }

    /// Finds where a tuple ends, without looking at its values.
    fn tuple(&mut self) -> Result<Tuple<'a>, Malformed> {
        let columns = usize::from(self.u16()?);
        let start = self.0;
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
        Ok(Tuple { columns, bytes: &start[..start.len() - self.0.len()] })
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tuple(values: &[Datum<'_>]) -> Vec<u8> {
        let mut out = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for value in values {
            match value {
                Datum::Null => out.push(b'n'),
                Datum::Unchanged => out.push(b'u'),
                Datum::Text(text) => {
                    out.push(b't');
                    out.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
        out
    }

    fn read<'a>(tuple: &Tuple<'a>) -> Vec<Datum<'a>> {
        let mut out = Vec::new();
        tuple.read(&mut out).unwrap();
        out
    }

    #[test]
    fn an_update_may_carry_its_old_key() {
        let old = [Datum::Text("1"), Datum::Null];
        let new = [Datum::Text("2"), Datum::Unchanged];
        let message =
            [b"U\0\0\0\x07K".as_slice(), &tuple(&old), b"N".as_slice(), &tuple(&new)].concat();
        let Ok(Message::Update { relation: 7, old: Some(o), new: n }) = Message::decode(&message)
        else {
            panic!("not an update of relation 7");
        };
        assert_eq!((read(&o), read(&n)), (old.to_vec(), new.to_vec()));
    }

    #[test]
    fn a_relation_tells_its_identity() {
        let message = b"R\0\0\0\x05public\0todos\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0t\0\0\0\0\x19\xff\xff\xff\xff";
        let Ok(Message::Relation(relation)) = Message::decode(message) else {
            panic!("not a relation");
        };
        assert_eq!((relation.oid, relation.replica_identity), (5, b'd'));
        let columns: Vec<_> =
            relation.columns.iter().map(|c| (&*c.name, c.type_oid, c.in_identity)).collect();
        assert_eq!(columns, [("id", 23, true), ("t", 25, false)]);
    }

    #[test]
    fn a_truncate_names_all_its_tables() {
        let message = b"T\0\0\0\x02\x01\0\0\0\x05\0\0\0\x06";
        assert_eq!(Message::decode(message), Ok(Message::Truncate { relations: vec![5, 6] }));
    }

    proptest! {
        #[test]
        fn garbage_is_an_error(message in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(Message::Insert { new, .. }) = Message::decode(&message) {
                let _ = new.read(&mut Vec::new());
            }
        }
    }
}
