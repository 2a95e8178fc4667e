//! PostgreSQL's built-in types, by the OIDs that never change, and what becomes of each.

use crate::plan::Kind;

/// What becomes of a type's printed text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Converter {
    Scalar(Scalar),
    Array { element: Element, delimiter: u8 },
    Range(Scalar),
    Multirange(Scalar),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    Scalar(Scalar),
    Range(Scalar),
    Multirange(Scalar),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Boolean,
    Integer,
    Real,
    /// As printed.
    Text,
    /// As printed; within arrays embedded as it is.
    Json,
    Bytes,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Lsn,
}

/// Types, with their arrays, whose values are not as printed: OID, OID of the array, what it is.
const SCALARS: [(u32, u32, Scalar); 19] = [
    (16, 1000, Scalar::Boolean),
    (17, 1001, Scalar::Bytes),
    (20, 1016, Scalar::Integer),
    (21, 1005, Scalar::Integer),
    (23, 1007, Scalar::Integer),
    (26, 1028, Scalar::Integer),
    (700, 1021, Scalar::Real),
    (701, 1022, Scalar::Real),
    (114, 199, Scalar::Json),
    (3802, 3807, Scalar::Json),
    (1082, 1182, Scalar::Date),
    (1083, 1183, Scalar::Time),
    (1114, 1115, Scalar::Timestamp),
    (1184, 1185, Scalar::TimestampTz),
    (3220, 3221, Scalar::Lsn),
    (25, 1009, Scalar::Text),
    (1043, 1015, Scalar::Text),
    (1700, 1231, Scalar::Text),
    (2950, 2951, Scalar::Text),
];

/// Arrays of other types that are as printed.
const TEXT_ARRAYS: [u32; 32] = [
    143,  // xml
    271,  // xid8
    629,  // line
    651,  // cidr
    719,  // circle
    775,  // macaddr8
    791,  // money
    1002, // char
    1003, // name
    1006, // int2vector
    1008, // regproc
    1010, // tid
    1011, // xid
    1012, // cid
    1013, // oidvector
    1014, // bpchar
    1017, // point
    1018, // lseg
    1019, // path
    1027, // polygon
    1034, // aclitem
    1040, // macaddr
    1041, // inet
    1187, // interval
    1263, // cstring
    1270, // timetz
    1561, // bit
    1563, // varbit
    2211, // regtype
    3643, // tsvector
    3645, // tsquery
    4073, // jsonpath
];

/// The array of boxes, the one whose elements are not separated by commas.
const BOX_ARRAY: u32 = 1020;

/// Range, array of it, multirange, array of that, and what it is a range of.
const RANGES: [(u32, u32, u32, u32, Scalar); 6] = [
    (3904, 3905, 4451, 6150, Scalar::Integer),
    (3926, 3927, 4536, 6157, Scalar::Integer),
    (3906, 3907, 4532, 6151, Scalar::Text),
    (3908, 3909, 4533, 6152, Scalar::Timestamp),
    (3910, 3911, 4534, 6153, Scalar::TimestampTz),
    (3912, 3913, 4535, 6155, Scalar::Date),
];

impl Converter {
    /// Enums, domains, composites and what extensions bring are text as printed.
    pub(crate) fn of_type(oid: u32, custom_types: bool) -> Self {
        for (scalar, array, kind) in SCALARS {
            if oid == scalar {
                return Self::Scalar(kind);
            }
            if oid == array {
                return Self::Array { element: Element::Scalar(kind), delimiter: b',' };
            }
        }
        if TEXT_ARRAYS.contains(&oid) {
            return Self::Array { element: Element::Scalar(Scalar::Text), delimiter: b',' };
        }
        if oid == BOX_ARRAY && custom_types {
            return Self::Array { element: Element::Scalar(Scalar::Text), delimiter: b';' };
        }
        if custom_types {
            for (range, ranges, multirange, multiranges, bound) in RANGES {
                let array = |element| Self::Array { element, delimiter: b',' };
                match oid {
                    _ if oid == range => return Self::Range(bound),
                    _ if oid == multirange => return Self::Multirange(bound),
                    _ if oid == ranges => return array(Element::Range(bound)),
                    _ if oid == multiranges => return array(Element::Multirange(bound)),
                    _ => {}
                }
            }
        }
        Self::Scalar(Scalar::Text)
    }

    /// What its values are compared as; `None` for bytes.
    pub(crate) fn kind(self) -> Option<Kind> {
        match self {
            Self::Scalar(Scalar::Bytes) => None,
            Self::Scalar(Scalar::Boolean | Scalar::Integer | Scalar::Real) => Some(Kind::Number),
            Self::Scalar(_) | Self::Array { .. } | Self::Range(_) | Self::Multirange(_) => {
                Some(Kind::Text)
            }
        }
    }
}
