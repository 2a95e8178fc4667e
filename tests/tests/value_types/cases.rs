//! Types, values of them as SQL, and the values on devices in edition 3 and in edition 1.

use super::Edition;

/// SQL that creates the types of the table's columns.
pub(super) const CREATE: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'very happy', 'NULL');
CREATE DOMAIN score AS int4 CHECK (VALUE >= 0);
CREATE DOMAIN best_score AS score;
CREATE DOMAIN scores AS score[];
CREATE DOMAIN document AS jsonb;
CREATE TYPE address AS (street text, "no" int4, tags text[]);
CREATE DOMAIN home AS address;
CREATE TYPE person AS (name text, born timestamptz, home home, all_homes address[], scores scores, photo bytea);
CREATE DOMAIN people AS person[];
CREATE TYPE nothing AS ();
CREATE TYPE pair AS (x int4, y int4);
CREATE TYPE float_range AS RANGE (subtype = float8, multirange_type_name = float_ranges);
CREATE TYPE text_range AS RANGE (subtype = text);
CREATE TYPE pair_range AS RANGE (subtype = pair);
CREATE TYPE score_range AS RANGE (subtype = best_score);
CREATE TABLE part (a int4, dropped int4, b text);
ALTER TABLE part DROP COLUMN dropped;
-- As PostGIS has it: arrays of it have colons between their elements.
CREATE TYPE shape;
CREATE FUNCTION shape_in(cstring) RETURNS shape LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION shape_out(shape) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE shape (INPUT = shape_in, OUTPUT = shape_out, DELIMITER = ':', LIKE = text);
"#;

/// A value as SQL and its values on devices, in which a text is in single quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    pub(super) sql: &'static str,
    /// The value in edition 3, which has all fixes and custom types.
    edition_3: &'static str,
    /// The value in edition 1; `=` is the same as in edition 3.
    edition_1: &'static str,
}

pub(super) const fn value(
    sql: &'static str,
    edition_3: &'static str,
    edition_1: &'static str,
) -> Value {
    Value { sql, edition_3, edition_1 }
}

impl Value {
    /// Returns the value on devices with a sync config of an edition.
    pub(super) fn expected(&self, edition: Edition) -> &'static str {
        match edition {
            Edition::One if self.edition_1 != "=" => self.edition_1,
            Edition::One | Edition::Three => self.edition_3,
        }
    }
}

pub(super) const SCALARS: &[(&str, &[Value])] = &[
    ("bool", &[value("true", "1", "="), value("false", "0", "=")]),
    ("int2", &[value("-32768", "-32768", "="), value("32767", "32767", "=")]),
    ("int4", &[value("'-2147483648'", "-2147483648", "=")]),
    (
        "int8",
        &[
            value("'-9223372036854775808'", "-9223372036854775808", "="),
            value("9223372036854775807", "9223372036854775807", "="),
        ],
    ),
    ("oid", &[value("4294967295", "4294967295", "=")]),
    (
        "float4",
        &[
            value("0.1", "0.1", "="),
            value("16777216", "16777216.0", "="),
            value("'1e-45'", "1e-45", "="),
            value("'NaN'", "null", "="),
            value("'Infinity'", "9e999", "="),
        ],
    ),
    (
        "float8",
        &[
            value("1e20", "100000000000000000000.0", "="),
            value("1e21", "1e+21", "="),
            value("0.0000001", "1e-7", "="),
            value("'5e-324'", "5e-324", "="),
            value("'1.7976931348623157e308'", "1.7976931348623157e+308", "="),
            value("'NaN'", "null", "="),
            value("'-Infinity'", "-9e999", "="),
        ],
    ),
    (
        "numeric",
        &[
            value("1.10", "'1.10'", "="),
            value("12345678901234567890.0987654321", "'12345678901234567890.0987654321'", "="),
            value("'NaN'", "'NaN'", "="),
            value("'-Infinity'", "'-Infinity'", "="),
        ],
    ),
    ("money", &[value("'1000.5'", "'$1,000.50'", "=")]),
    (
        "text",
        &[
            value("''", "''", "="),
            value("'NULL'", "'NULL'", "="),
            value(r"'\N'", r"'\N'", "="),
            value(r#"E'a\tb\n\r\\\u0001"é😀'"#, "'a\tb\n\r\\\u{1}\"é😀'", "="),
        ],
    ),
    ("varchar(5)", &[value("'abc'", "'abc'", "=")]),
    ("char(5)", &[value("'ab'", "'ab   '", "=")]),
    ("name", &[value("'n'", "'n'", "=")]),
    ("\"char\"", &[value("'x'", "'x'", "=")]),
    (
        "uuid",
        &[value(
            "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "=",
        )],
    ),
    ("xml", &[value("'<a b=\"c\"/>'", "'<a b=\"c\"/>'", "=")]),
    ("inet", &[value("'::1/128'", "'::1'", "="), value("'10.1.2.3/8'", "'10.1.2.3/8'", "=")]),
    ("cidr", &[value("'10.0.0.0/8'", "'10.0.0.0/8'", "=")]),
    ("macaddr", &[value("'08-00-2b-01-02-03'", "'08:00:2b:01:02:03'", "=")]),
    (
        "interval",
        &[
            value("'1 mon -3 days 04:05:06.7'", "'1 mon -3 days +04:05:06.7'", "="),
            value("'1 hour'", "'01:00:00'", "="),
        ],
    ),
    ("bit(3)", &[value("B'101'", "'101'", "=")]),
    ("varbit", &[value("B''", "''", "=")]),
    ("point", &[value("'(1.5,-2)'", "'(1.5,-2)'", "=")]),
    ("box", &[value("'(0,0),(1,1)'", "'(1,1),(0,0)'", "=")]),
    ("path", &[value("'[(0,0),(1,1)]'", "'[(0,0),(1,1)]'", "=")]),
    ("line", &[value("'{1,2,3}'", "'{1,2,3}'", "=")]),
    ("tsvector", &[value("'b a:1'", "''a':1 'b''", "=")]),
    ("timetz", &[value("'04:05:06.7-08'", "'04:05:06.7-08'", "=")]),
    ("int2vector", &[value("'1 2'", "'1 2'", "=")]),
    ("regclass", &[value("'pg_class'", "'pg_class'", "=")]),
    (
        "pg_lsn",
        &[
            value("'16/B374D848'", "'00000016/B374D848'", "="),
            value("'0/0'", "'00000000/00000000'", "="),
        ],
    ),
    (
        "json",
        &[
            value(r#"'{ "b" : 1.0,"a":2, "a":3 }'"#, r#"'{ "b" : 1.0,"a":2, "a":3 }'"#, "="),
            value("'null'", "'null'", "="),
        ],
    ),
    ("jsonb", &[value(r#"'{"b":1.0,"a":[]}'"#, r#"'{"a": [], "b": 1.0}'"#, "=")]),
    ("shape", &[value("'0101'", "'0101'", "=")]),
    (
        "date",
        &[
            value("'1999-12-31'", "'1999-12-31'", "="),
            value("'infinity'", "'9999-12-31'", "="),
            value("'-infinity'", "'0000-01-01'", "="),
            value("'0044-03-15 BC'", "'0044-03-15 BC'", "="),
            value("'5874897-12-31'", "'5874897-12-31'", "="),
        ],
    ),
    (
        "time",
        &[
            value("'17:42:01.12'", "'17:42:01.120000'", "'17:42:01.12'"),
            value("'24:00'", "'24:00:00.000000'", "'24:00:00'"),
        ],
    ),
    (
        "timestamp",
        &[
            value(
                "'2023-03-06 15:47:12.4'",
                "'2023-03-06T15:47:12.400000'",
                "'2023-03-06 15:47:12.4'",
            ),
            value("'infinity'", "'9999-12-31T23:59:59.000000'", "'9999-12-31 23:59:59'"),
            value("'-infinity'", "'0000-01-01T00:00:00.000000'", "'0000-01-01 00:00:00'"),
            value(
                "'10000-01-02 03:04:05'",
                "'10000-01-02T03:04:05.000000'",
                "'10000-01-02 03:04:05'",
            ),
            value("'0044-03-15 12:00 BC'", "null", "="),
        ],
    ),
    (
        "timestamptz",
        &[
            value(
                "'2023-03-06 15:47+02'",
                "'2023-03-06T13:47:00.000000Z'",
                "'2023-03-06 13:47:00Z'",
            ),
            value(
                "'2023-03-06 15:47:00.12345+05:45'",
                "'2023-03-06T10:02:00.123450Z'",
                "'2023-03-06 10:02:00.12345Z'",
            ),
            value("'infinity'", "'9999-12-31T23:59:59.000000Z'", "'9999-12-31 23:59:59Z'"),
            value("'-infinity'", "'0000-01-01T00:00:00.000000Z'", "'0000-01-01 00:00:00Z'"),
            value("'10000-01-01 00:00+00'", "null", "="),
            value("'0044-03-15 12:00+00 BC'", "null", "="),
        ],
    ),
    ("mood", &[value("'very happy'", "'very happy'", "=")]),
    ("score", &[value("5", "5", "'5'")]),
    ("best_score", &[value("5", "5", "'5'")]),
    ("document", &[value("'[1]'", "'[1]'", "=")]),
];

/// Extensions, and a type of each. They are tested where the extension is available.
pub(super) const OF_EXTENSIONS: &[(&str, &str, &[Value])] = &[
    ("hstore", "hstore", &[value(r#"'a=>1,"b c"=>NULL'"#, r#"'"a"=>"1", "b c"=>NULL'"#, "=")]),
    (
        "hstore",
        "hstore[]",
        &[value("ARRAY['a=>1'::hstore]", r#"'["\"a\"=>\"1\""]'"#, r#"'{"\"a\"=>\"1\""}'"#)],
    ),
    ("citext", "citext", &[value("'Ab'", "'Ab'", "=")]),
    ("citext", "citext[]", &[value("'{Ab,NULL}'", r#"'["Ab",null]'"#, "'{Ab,NULL}'")]),
];

pub(super) const ARRAYS: &[(&str, &[Value])] = &[
    ("bool[]", &[value("'{t,f,NULL}'", "'[1,0,null]'", "="), value("'{}'", "'[]'", "=")]),
    (
        "int4[]",
        &[
            value("'{{1,2},{3,4}}'", "'[[1,2],[3,4]]'", "="),
            value("'[2:3]={5,6}'", "'[5,6]'", "="),
            value("'[0:0][-1:0]={{5,6}}'", "'[[5,6]]'", "="),
        ],
    ),
    ("int8[]", &[value("'{9223372036854775807}'", "'[9223372036854775807]'", "=")]),
    ("float8[]", &[value("'{1,0.5,NaN,Infinity}'", "'[1.0,0.5,null,9e999]'", "=")]),
    ("numeric[]", &[value("'{1.10,NaN}'", r#"'["1.10","NaN"]'"#, "=")]),
    (
        "text[]",
        &[
            value(
                r#"ARRAY['a,b', '{"', '', ' ', NULL, 'NULL', 'null', '\']"#,
                r#"'["a,b","{\"",""," ",null,"NULL","null","\\"]'"#,
                "=",
            ),
            value("ARRAY[['a', NULL], ['b', 'c']]", r#"'[["a",null],["b","c"]]'"#, "="),
        ],
    ),
    (
        "json[]",
        &[value(r#"ARRAY['{ "a": 1}', 'null', NULL]::json[]"#, r#"'[{ "a": 1},null,null]'"#, "=")],
    ),
    ("bytea[]", &[value(r"ARRAY['\x00'::bytea, NULL]", "'[null,null]'", "=")]),
    ("date[]", &[value("'{infinity,1999-12-31}'", r#"'["9999-12-31","1999-12-31"]'"#, "=")]),
    ("time[]", &[value("'{15:47}'", r#"'["15:47:00.000000"]'"#, r#"'["15:47:00"]'"#)]),
    (
        "timestamp[]",
        &[value(
            "'{2023-03-06 15:47}'",
            r#"'["2023-03-06T15:47:00.000000"]'"#,
            r#"'["2023-03-06 15:47:00"]'"#,
        )],
    ),
    (
        "timestamptz[]",
        &[value(
            "'{2023-03-06 15:47+02,10000-01-01 00:00+00}'",
            r#"'["2023-03-06T13:47:00.000000Z",null]'"#,
            r#"'["2023-03-06 13:47:00Z",null]'"#,
        )],
    ),
    ("pg_lsn[]", &[value("'{0/A}'", r#"'["00000000/0000000A"]'"#, "=")]),
    ("point[]", &[value(r#"'{"(1,2)"}'"#, r#"'["(1,2)"]'"#, "=")]),
    (
        "box[]",
        &[value(
            "ARRAY[box '(1,2),(3,4)', box '(5,6),(7,8)']",
            r#"'["(3,4),(1,2)","(7,8),(5,6)"]'"#,
            r#"'["(3","4)","(1","2);(7","8)","(5","6)"]'"#,
        )],
    ),
    ("regclass[]", &[value("'{pg_class}'", r#"'["pg_class"]'"#, "=")]),
    (
        "pg_snapshot[]",
        &[value(r#"'{"10:20:10,14"}'"#, r#"'["10:20:10,14"]'"#, r#"'{"10:20:10,14"}'"#)],
    ),
    (
        "mood[]",
        &[value(
            r#"'{sad,"very happy",NULL,"NULL"}'"#,
            r#"'["sad","very happy",null,"NULL"]'"#,
            r#"'{sad,"very happy",NULL,"NULL"}'"#,
        )],
    ),
    ("score[]", &[value("'{1,NULL}'", "'[1,null]'", "'{1,NULL}'")]),
    (
        "scores",
        &[
            value("'{1,2}'", "'[1,2]'", "'{1,2}'"),
            value("'{{1},{2}}'", "'[[1],[2]]'", "'{{1},{2}}'"),
        ],
    ),
    ("scores[]", &[value(r#"'{"{1,2}","{}"}'"#, "'[[1,2],[]]'", r#"'{"{1,2}","{}"}'"#)]),
    (
        "shape[]",
        &[value(r#"ARRAY['a,b', 'c:d']::shape[]"#, r#"'["a,b","c:d"]'"#, r#"'{a,b:"c:d"}'"#)],
    ),
];

pub(super) const COMPOSITES: &[(&str, &[Value])] = &[
    (
        "address",
        &[
            value("(NULL, NULL, NULL)", r#"'{"street":null,"no":null,"tags":null}'"#, "'(,,)'"),
            value(
                r#"('a "b", \c', 1, ARRAY['x', 'y z', '"'])"#,
                r#"'{"street":"a \"b\", \\c","no":1,"tags":["x","y z","\""]}'"#,
                r#"'("a ""b"", \\c",1,"{x,""y z"",""\\""""}")'"#,
            ),
            value("('', 0, '{}')", r#"'{"street":"","no":0,"tags":[]}'"#, r#"'("",0,{})'"#),
            value(
                "('NULL', 0, '{NULL}')",
                r#"'{"street":"NULL","no":0,"tags":[null]}'"#,
                "'(NULL,0,{NULL})'",
            ),
        ],
    ),
    ("home", &[value("('s', 1, NULL)", r#"'{"street":"s","no":1,"tags":null}'"#, "'(s,1,)'")]),
    (
        "address[]",
        &[value(
            r#"ARRAY[('a b', 1, NULL), NULL, ('"', NULL, '{x}')]::address[]"#,
            r#"'[{"street":"a b","no":1,"tags":null},null,{"street":"\"","no":null,"tags":["x"]}]'"#,
            r#"'{"(\"a b\",1,)",NULL,"(\"\"\"\",,{x})"}'"#,
        )],
    ),
    (
        "people",
        &[value(
            r"ARRAY[ROW('A', '2023-03-06 15:47+02', ROW('s', 1, NULL), ARRAY[ROW('t', 2, '{u}')::address], '{3}', '\x00')]::person[]",
            r#"'[{"name":"A","born":"2023-03-06T13:47:00.000000Z","home":{"street":"s","no":1,"tags":null},"all_homes":[{"street":"t","no":2,"tags":["u"]}],"scores":[3]}]'"#,
            r#"'{"(A,\"2023-03-06 13:47:00+00\",\"(s,1,)\",\"{\"\"(t,2,{u})\"\"}\",{3},\"\\\\x00\")"}'"#,
        )],
    ),
    ("nothing", &[value("ROW()", "'{}'", "'()'")]),
    ("part", &[value("ROW(1, 'x')", r#"'{"a":1,"b":"x"}'"#, "'(1,x)'")]),
];

pub(super) const RANGES: &[(&str, &[Value])] = &[
    (
        "int4range",
        &[
            value(
                "'[1,4]'",
                r#"'{"lower":1,"upper":5,"lower_exclusive":0,"upper_exclusive":1}'"#,
                "'[1,5)'",
            ),
            value("'empty'", "'empty'", "="),
            value(
                "'(,)'",
                r#"'{"lower":null,"upper":null,"lower_exclusive":1,"upper_exclusive":1}'"#,
                "'(,)'",
            ),
        ],
    ),
    (
        "numrange",
        &[value(
            "'(1.50,2]'",
            r#"'{"lower":"1.50","upper":"2","lower_exclusive":1,"upper_exclusive":0}'"#,
            "'(1.50,2]'",
        )],
    ),
    (
        "daterange",
        &[value(
            "'[2024-01-01,infinity)'",
            r#"'{"lower":"2024-01-01","upper":"9999-12-31","lower_exclusive":0,"upper_exclusive":1}'"#,
            "'[2024-01-01,infinity)'",
        )],
    ),
    (
        "tstzrange",
        &[value(
            "'[2023-03-06 15:47+02,)'",
            r#"'{"lower":"2023-03-06T13:47:00.000000Z","upper":null,"lower_exclusive":0,"upper_exclusive":1}'"#,
            r#"'["2023-03-06 13:47:00+00",)'"#,
        )],
    ),
    (
        "int4range[]",
        &[value(
            r#"'{"[1,5)",empty}'"#,
            r#"'[{"lower":1,"upper":5,"lower_exclusive":0,"upper_exclusive":1},"empty"]'"#,
            r#"'{"[1,5)",empty}'"#,
        )],
    ),
    (
        "int8multirange",
        &[
            value("'{}'", "'[]'", "'{}'"),
            value(
                "'{[1,3),[5,)}'",
                r#"'[{"lower":1,"upper":3,"lower_exclusive":0,"upper_exclusive":1},{"lower":5,"upper":null,"lower_exclusive":0,"upper_exclusive":1}]'"#,
                "'{[1,3),[5,)}'",
            ),
        ],
    ),
    (
        "int4multirange[]",
        &[value(
            "ARRAY['{[1,3)}'::int4multirange, '{}']",
            r#"'[[{"lower":1,"upper":3,"lower_exclusive":0,"upper_exclusive":1}],[]]'"#,
            r#"'{"{[1,3)}","{}"}'"#,
        )],
    ),
    (
        "float_range",
        &[value(
            "'[1.5,2]'",
            r#"'{"lower":1.5,"upper":2.0,"lower_exclusive":0,"upper_exclusive":0}'"#,
            "'[1.5,2]'",
        )],
    ),
    (
        "float_ranges",
        &[value(
            "'{[1.5,2]}'",
            r#"'[{"lower":1.5,"upper":2.0,"lower_exclusive":0,"upper_exclusive":0}]'"#,
            "'{[1.5,2]}'",
        )],
    ),
    (
        "text_range",
        &[value(
            r#"text_range('a "b', 'c\')"#,
            r#"'{"lower":"a \"b","upper":"c\\","lower_exclusive":0,"upper_exclusive":1}'"#,
            r#"'["a ""b","c\\")'"#,
        )],
    ),
    (
        "pair_range",
        &[value(
            "pair_range((1, 2)::pair, (1, NULL)::pair)",
            r#"'{"lower":{"x":1,"y":2},"upper":{"x":1,"y":null},"lower_exclusive":0,"upper_exclusive":1}'"#,
            r#"'["(1,2)","(1,)")'"#,
        )],
    ),
    (
        "score_range",
        &[value(
            "'[1,5)'",
            r#"'{"lower":1,"upper":5,"lower_exclusive":0,"upper_exclusive":1}'"#,
            "'[1,5)'",
        )],
    ),
];
