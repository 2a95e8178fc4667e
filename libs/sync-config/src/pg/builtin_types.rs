//! PostgreSQL's built-in types, whose OIDs never change.

use super::catalog::TypeShape;

/// Conversion of a type that contains no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Boolean,
    Integer,
    Real,
    /// Stays as PostgreSQL prints it.
    Text,
    /// Stays as PostgreSQL prints it. Within a structure it is embedded, not quoted.
    Json,
    Bytes,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Lsn,
}

/// Types whose values do not stay PostgreSQL's text.
const SCALARS: [(u32, Scalar); 15] = [
    (16, Scalar::Boolean),
    (17, Scalar::Bytes),
    (20, Scalar::Integer),
    (21, Scalar::Integer),
    (23, Scalar::Integer),
    (26, Scalar::Integer),
    (700, Scalar::Real),
    (701, Scalar::Real),
    (114, Scalar::Json),
    (3802, Scalar::Json),
    (1082, Scalar::Date),
    (1083, Scalar::Time),
    (1114, Scalar::Timestamp),
    (1184, Scalar::TimestampTz),
    (3220, Scalar::Lsn),
];

/// Array types that become JSON in every edition, with their element types.
const ARRAYS: [(u32, u32); 60] = [
    (143, 142),   // xml
    (199, 114),   // json
    (271, 5069),  // xid8
    (629, 628),   // line
    (651, 650),   // cidr
    (719, 718),   // circle
    (775, 774),   // macaddr8
    (791, 790),   // money
    (1000, 16),   // bool
    (1001, 17),   // bytea
    (1002, 18),   // "char"
    (1003, 19),   // name
    (1005, 21),   // int2
    (1006, 22),   // int2vector
    (1007, 23),   // int4
    (1008, 24),   // regproc
    (1009, 25),   // text
    (1010, 27),   // tid
    (1011, 28),   // xid
    (1012, 29),   // cid
    (1013, 30),   // oidvector
    (1014, 1042), // bpchar
    (1015, 1043), // varchar
    (1016, 20),   // int8
    (1017, 600),  // point
    (1018, 601),  // lseg
    (1019, 602),  // path
    (1021, 700),  // float4
    (1022, 701),  // float8
    (1027, 604),  // polygon
    (1028, 26),   // oid
    (1034, 1033), // aclitem
    (1040, 829),  // macaddr
    (1041, 869),  // inet
    (1115, 1114), // timestamp
    (1182, 1082), // date
    (1183, 1083), // time
    (1185, 1184), // timestamptz
    (1187, 1186), // interval
    (1231, 1700), // numeric
    (1270, 1266), // timetz
    (1561, 1560), // bit
    (1563, 1562), // varbit
    (2201, 1790), // refcursor
    (2207, 2202), // regprocedure
    (2208, 2203), // regoper
    (2209, 2204), // regoperator
    (2210, 2205), // regclass
    (2211, 2206), // regtype
    (2951, 2950), // uuid
    (3221, 3220), // pg_lsn
    (3643, 3614), // tsvector
    (3645, 3615), // tsquery
    (3735, 3734), // regconfig
    (3770, 3769), // regdictionary
    (3807, 3802), // jsonb
    (4073, 4072), // jsonpath
    (4090, 4089), // regnamespace
    (4097, 4096), // regrole
    (4192, 4191), // regcollation
];

/// `box`, the only built-in type whose arrays are delimited by semicolons, and its array type.
const BOX: u32 = 603;
const BOX_ARRAY: u32 = 1020;

/// OIDs of built-in ranges: the range, its array, its multirange, the array of that, and the bound.
const RANGES: [(u32, u32, u32, u32, u32); 6] = [
    (3904, 3905, 4451, 6150, 23),
    (3926, 3927, 4536, 6157, 20),
    (3906, 3907, 4532, 6151, 1700),
    (3908, 3909, 4533, 6152, 1114),
    (3910, 3911, 4534, 6153, 1184),
    (3912, 3913, 4535, 6155, 1082),
];

/// Returns the conversion of a type without structure. Unknown types are texts.
pub(crate) fn scalar(oid: u32) -> Scalar {
    let found = SCALARS.iter().find(|(known, _)| *known == oid);
    found.map_or(Scalar::Text, |(_, scalar)| *scalar)
}

/// Returns the structure of a built-in array type. Without custom types, arrays of `box` are split
/// at commas, within the boxes: the PowerSync service does so, and devices expect it.
pub(crate) fn array(oid: u32, custom_types: bool) -> Option<TypeShape<'static>> {
    if oid == BOX_ARRAY {
        let delimiter = if custom_types { b';' } else { b',' };
        return Some(TypeShape::Array { element: BOX, delimiter });
    }
    let found = ARRAYS.iter().find(|(known, _)| *known == oid);
    found.map(|(_, element)| TypeShape::Array { element: *element, delimiter: b',' })
}

/// Returns the structure of a built-in range or multirange type, or of an array of one.
pub(crate) fn ranges(oid: u32) -> Option<TypeShape<'static>> {
    RANGES.iter().find_map(|&(range, ranges, multirange, multiranges, bound)| match oid {
        _ if oid == range => Some(TypeShape::Range(bound)),
        _ if oid == multirange => Some(TypeShape::Multirange(bound)),
        _ if oid == ranges => Some(TypeShape::Array { element: range, delimiter: b',' }),
        _ if oid == multiranges => Some(TypeShape::Array { element: multirange, delimiter: b',' }),
        _ => None,
    })
}
