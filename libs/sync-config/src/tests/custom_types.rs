//! Types from the catalog: domains, composites, and arrays and ranges of any type.

use expect_test::{Expect, expect};

use super::values::{QUERY, convert};
use super::{compile, definition, format_findings, stream};
use crate::{Attribute, Column, PgType, PgTypes, SyncConfig, TableSchema};

const RATING: u32 = 100_001; // A domain over int4.
const RATINGS: u32 = 100_002; // An array of RATING.
const RATING_LIST: u32 = 100_003; // A domain over RATINGS.
const RATING_LISTS: u32 = 100_004; // An array of RATING_LIST.
const MOOD: u32 = 100_005; // An enum.
const MOODS: u32 = 100_006;
const PAIR: u32 = 100_007; // A composite: (a bool, "b c" text, d text[]).
const PAIRS: u32 = 100_008;
const PAIR_DOMAIN: u32 = 100_009;
const NESTED: u32 = 100_010; // A composite: (pair, pairs, rating_list).
const SINGLE: u32 = 100_011; // A composite: (a text).
const NONE: u32 = 100_012; // A composite without attributes.
const SCALARS: u32 = 100_013; // A composite with one attribute for each kind of scalar.
const SPAN: u32 = 100_014; // A range of ratings.
const SPANS: u32 = 100_015; // An array of SPAN.
const MULTISPAN: u32 = 100_016; // The multirange of SPAN.
const MULTISPANS: u32 = 100_017; // An array of MULTISPAN.
const COLONS: u32 = 100_018; // An array whose delimiter is a colon.
const BYTES_DOMAIN: u32 = 100_019;
const JSON_DOMAIN: u32 = 100_020;
const BYTES_RANGE: u32 = 100_021;
const CIRCLE: u32 = 100_022; // A domain over itself, which PostgreSQL never creates.
const SPAN_DOMAIN: u32 = 100_023;
const CHAIN: u32 = 200_000; // First of a chain of composites, each with the next one as its attribute.

fn composite(attributes: &[(&str, u32)]) -> PgType {
    PgType::Composite(
        attributes
            .iter()
            .map(|&(name, type_oid)| Attribute { name: name.to_owned(), type_oid })
            .collect(),
    )
}

fn array(element: u32) -> PgType {
    PgType::Array { element, delimiter: b',' }
}

pub(super) fn types() -> PgTypes {
    let scalars = [
        ("bool", 16),
        ("int8", 20),
        ("float8", 701),
        ("numeric", 1700),
        ("text", 25),
        ("json", 114),
        ("bytea", 17),
        ("date", 1082),
        ("time", 1083),
        ("timestamp", 1114),
        ("timestamptz", 1184),
        ("pg_lsn", 3220),
        ("mood", MOOD),
        ("int4range", 3904),
        ("boxes", 1020),
    ];

    let types = [
        (RATING, PgType::Domain(23)),
        (RATINGS, array(RATING)),
        (RATING_LIST, PgType::Domain(RATINGS)),
        (RATING_LISTS, array(RATING_LIST)),
        (MOODS, array(MOOD)),
        (PAIR, composite(&[("a", 16), ("b c", 25), ("d\"", 1009)])),
        (PAIRS, array(PAIR)),
        (PAIR_DOMAIN, PgType::Domain(PAIR)),
        (NESTED, composite(&[("p", PAIR_DOMAIN), ("ps", PAIRS), ("r", RATING_LIST)])),
        (SINGLE, composite(&[("a", 25)])),
        (NONE, composite(&[])),
        (SCALARS, composite(&scalars)),
        (SPAN, PgType::Range(RATING)),
        (SPANS, array(SPAN)),
        (MULTISPAN, PgType::Multirange(RATING)),
        (MULTISPANS, array(MULTISPAN)),
        (COLONS, PgType::Array { element: MOOD, delimiter: b':' }),
        (BYTES_DOMAIN, PgType::Domain(17)),
        (JSON_DOMAIN, PgType::Domain(3802)),
        (BYTES_RANGE, PgType::Range(17)),
        (CIRCLE, PgType::Domain(CIRCLE)),
        (SPAN_DOMAIN, PgType::Domain(SPAN)),
    ];

    let chain = (CHAIN..CHAIN + 15).map(|oid| (oid, composite(&[("x", oid + 1)])));
    types.into_iter().chain(chain).collect()
}

/// Converts each value and prints it like `convert`, with strings in single quotes and unescaped.
fn convert_all(config: &SyncConfig, values: &[(u32, &str)]) -> String {
    let types = types();
    values
        .iter()
        .map(|&(oid, text)| {
            let json = convert(config, &types, oid, text);
            let json = serde_json::from_str(&json).map_or(json, |text: String| format!("'{text}'"));
            format!("{text} => {json}\n")
        })
        .collect()
}

/// Compares with custom types on. With custom types off, every value must stay its PostgreSQL text.
fn check(values: &[(u32, &str)], expected: Expect) {
    expected.assert_eq(&convert_all(&compile(&stream(QUERY)), values));
    let first = definition(&[], &[QUERY]).replace("edition: 2", "edition: 1");
    let printed: String = values.iter().map(|(_, text)| format!("{text} => '{text}'\n")).collect();
    assert_eq!(convert_all(&compile(&first), values), printed);
}

#[test]
fn a_domain_converts_like_its_base_type() {
    check(
        &[
            (RATING, "5"),
            (RATING_LIST, "{1,NULL,3}"),
            (PAIR_DOMAIN, "(t,x,)"),
            (JSON_DOMAIN, "{\"a\": 1}"),
            (SPAN_DOMAIN, "empty"),
            (CIRCLE, "5"),
        ],
        expect![[r#"
            5 => 5
            {1,NULL,3} => '[1,null,3]'
            (t,x,) => '{"a":1,"b c":"x","d\"":null}'
            {"a": 1} => '{"a": 1}'
            empty => 'empty'
            5 => '5'
        "#]],
    );

    let config = compile(&stream(QUERY));
    assert_eq!(convert(&config, &types(), BYTES_DOMAIN, "\\x00"), "left out");
}

#[test]
fn arrays_of_any_type_become_json() {
    check(
        &[
            (RATINGS, "{1,2,3}"),
            (RATINGS, "[-1:0][5:6]={{1,2},{3,NULL}}"),
            (RATING_LISTS, r#"{"{1,2}","{}",NULL}"#),
            (MOODS, r#"{sad,"very happy",NULL,"NULL","null"}"#),
            (MOODS, "{}"),
            (COLONS, r#"{a,b:"c:d":NULL}"#),
            (PAIRS, r#"{"(t,\"b \"\"c\",\"{d,\"\"e f\"\"}\")",NULL,"(,,)"}"#),
        ],
        expect![[r#"
            {1,2,3} => '[1,2,3]'
            [-1:0][5:6]={{1,2},{3,NULL}} => '[[1,2],[3,null]]'
            {"{1,2}","{}",NULL} => '[[1,2],[],null]'
            {sad,"very happy",NULL,"NULL","null"} => '["sad","very happy",null,"NULL","null"]'
            {} => '[]'
            {a,b:"c:d":NULL} => '["a,b","c:d",null]'
            {"(t,\"b \"\"c\",\"{d,\"\"e f\"\"}\")",NULL,"(,,)"} => '[{"a":1,"b c":"b \"c","d\"":["d","e f"]},null,{"a":null,"b c":null,"d\"":null}]'
        "#]],
    );
}

#[test]
fn composites_become_json_objects() {
    check(
        &[
            (PAIR, "(f,plain,{})"),
            (PAIR, "(,,)"),
            (PAIR, r#"(,"",)"#),
            (PAIR, r#"(,"a""b\\c",)"#),
            (PAIR, r#"(,"(x,y)","{""a,b"",""c\\""d""}")"#),
            (PAIR, "(,\" \n\",)"),
            (PAIR, "(,NULL,{NULL})"),
            (PAIR, r#"(,"é""😀",)"#),
            (SINGLE, "()"),
            (SINGLE, r#"("")"#),
            (SINGLE, r#"("""")"#),
            (NONE, "()"),
            (NESTED, r#"("(t,""x,y"",)","{""(f,\\""a b\\"",)"",NULL}","{1,2}")"#),
        ],
        expect![[r#"
            (f,plain,{}) => '{"a":0,"b c":"plain","d\"":[]}'
            (,,) => '{"a":null,"b c":null,"d\"":null}'
            (,"",) => '{"a":null,"b c":"","d\"":null}'
            (,"a""b\\c",) => '{"a":null,"b c":"a\"b\\c","d\"":null}'
            (,"(x,y)","{""a,b"",""c\\""d""}") => '{"a":null,"b c":"(x,y)","d\"":["a,b","c\"d"]}'
            (," 
            ",) => '{"a":null,"b c":" \n","d\"":null}'
            (,NULL,{NULL}) => '{"a":null,"b c":"NULL","d\"":[null]}'
            (,"é""😀",) => '{"a":null,"b c":"é\"😀","d\"":null}'
            () => '{"a":null}'
            ("") => '{"a":""}'
            ("""") => '{"a":"\""}'
            () => '{}'
            ("(t,""x,y"",)","{""(f,\\""a b\\"",)"",NULL}","{1,2}") => '{"p":{"a":1,"b c":"x,y","d\"":null},"ps":[{"a":0,"b c":"a b","d\"":null},null],"r":[1,2]}'
        "#]],
    );
}

const ALL: &str = r#"(t,-9223372036854775808,NaN,1.10,"a b","{""x"": 1.0}","\\x00",infinity,01:02:03.5,"1999-12-31 23:59:59","2024-03-01 01:30:00+02",0/A,ok,empty,"{(1,1),(0,0);(2,2),(1,1)}")"#;

#[test]
fn attributes_convert_like_columns_of_their_type() {
    check(
        &[(SCALARS, ALL)],
        expect![[r#"
            (t,-9223372036854775808,NaN,1.10,"a b","{""x"": 1.0}","\\x00",infinity,01:02:03.5,"1999-12-31 23:59:59","2024-03-01 01:30:00+02",0/A,ok,empty,"{(1,1),(0,0);(2,2),(1,1)}") => '{"bool":1,"int8":-9223372036854775808,"float8":null,"numeric":"1.10","text":"a b","json":{"x": 1.0},"date":"9999-12-31","time":"01:02:03.500000","timestamp":"1999-12-31T23:59:59.000000","timestamptz":"2024-02-29T23:30:00.000000Z","pg_lsn":"00000000/0000000A","mood":"ok","int4range":"empty","boxes":["(1,1),(0,0)","(2,2),(1,1)"]}'
        "#]],
    );
}

/// The options for times and for custom types are independent.
#[test]
fn times_in_composites_follow_the_time_options() {
    let options = "edition: 2\n  timestamps_iso8601: false";
    let yaml = definition(&[], &[QUERY]).replace("edition: 2", options);
    let json = convert_all(&compile(&yaml), &[(SCALARS, ALL)]);

    assert!(
        json.contains(
            r#""time":"01:02:03.5","timestamp":"1999-12-31 23:59:59","timestamptz":"2024-02-29 23:30:00Z""#
        ),
        "{json}"
    );

    let options = "edition: 1\n  custom_postgres_types: true\n  timestamps_iso8601: true\n  \
                   timestamp_max_precision: milliseconds";
    let yaml = definition(&[], &[QUERY]).replace("edition: 2", options);
    let json = convert_all(&compile(&yaml), &[(SCALARS, ALL)]);

    assert!(
        json.contains(
            r#""time":"01:02:03.500","timestamp":"1999-12-31T23:59:59.000","timestamptz":"2024-02-29T23:30:00.000Z""#
        ),
        "{json}"
    );

    let options = "edition: 3\n  custom_postgres_types: false";
    let yaml = stream(QUERY).replace("edition: 3", options);
    assert_eq!(convert_all(&compile(&yaml), &[(SCALARS, ALL)]), format!("{ALL} => '{ALL}'\n"));
}

#[test]
fn ranges_of_any_type_become_json_objects() {
    check(
        &[
            (SPAN, "[1,5)"),
            (SPAN, "(,)"),
            (SPAN, "empty"),
            (SPANS, r#"{"[1,5)",empty,NULL}"#),
            (MULTISPAN, "{[1,3),[5,)}"),
            (MULTISPAN, "{}"),
            (MULTISPANS, r#"{"{[1,3)}","{}"}"#),
            (BYTES_RANGE, r#"["\\x00","\\x01")"#),
        ],
        expect![[r#"
            [1,5) => '{"lower":1,"upper":5,"lower_exclusive":0,"upper_exclusive":1}'
            (,) => '{"lower":null,"upper":null,"lower_exclusive":1,"upper_exclusive":1}'
            empty => 'empty'
            {"[1,5)",empty,NULL} => '[{"lower":1,"upper":5,"lower_exclusive":0,"upper_exclusive":1},"empty",null]'
            {[1,3),[5,)} => '[{"lower":1,"upper":3,"lower_exclusive":0,"upper_exclusive":1},{"lower":5,"upper":null,"lower_exclusive":0,"upper_exclusive":1}]'
            {} => '[]'
            {"{[1,3)}","{}"} => '[[{"lower":1,"upper":3,"lower_exclusive":0,"upper_exclusive":1}],[]]'
            ["\\x00","\\x01") => '{"lower_exclusive":0,"upper_exclusive":1}'
        "#]],
    );
}

/// An attribute that the known type lacks is dropped. An attribute that the value lacks is NULL.
#[test]
fn a_composite_value_may_have_more_or_fewer_attributes_than_its_type() {
    let values = [(PAIR, "(t,x,{y},1)"), (PAIR, "(t,x)"), (PAIR, "()"), (NONE, "(1)")];
    check(
        &values,
        expect![[r#"
            (t,x,{y},1) => '{"a":1,"b c":"x","d\"":["y"]}'
            (t,x) => '{"a":1,"b c":"x","d\"":null}'
            () => '{"a":null,"b c":null,"d\"":null}'
            (1) => '{}'
        "#]],
    );
}

/// Prints a value of `depth` nested composites. Each level doubles the quotes.
fn composite_chain(depth: usize, inner: &str) -> String {
    (0..depth).fold(inner.to_owned(), |inner, _| match inner.as_str() {
        "" => "()".to_owned(),
        inner if inner.contains(['"', '(']) => format!("(\"{}\")", inner.replace('"', "\"\"")),
        inner => format!("({inner})"),
    })
}

fn nested_object(depth: usize) -> String {
    format!("{}{}{}", "{\\\"x\\\":".repeat(depth), "null", "}".repeat(depth))
}

#[test]
fn too_deep_nesting_is_a_row_error() {
    // A value of `depth` nested composites; each level doubles the quotes.
    let config = compile(&stream(QUERY));
    let deepest = convert(&config, &types(), CHAIN, &composite_chain(11, ""));
    assert_eq!(deepest, format!("\"{}\"", nested_object(11)));

    let too_deep = "s|0: a value is nested more than 10 levels deep";
    for inner in ["", "x"] {
        let text = composite_chain(12, inner);
        assert_eq!(convert(&config, &types(), CHAIN, &text), too_deep);
    }
}

#[test]
fn malformed_composites_and_ranges_are_row_errors() {
    let config = compile(&stream(QUERY));

    for (oid, text) in [
        (PAIR, ""),
        (PAIR, "("),
        (PAIR, "(,"),
        (PAIR, "t,x,"),
        (PAIR, "(t,x,{})x"),
        (PAIR, "(t,\"x,{})"),
        (PAIR, "(t,x,{)"),
        (PAIR, "(maybe,x,{})"),
        (PAIR, "(t,x\\"),
        (RATING, "five"),
        (SPAN, "[1,5"),
        (SPAN, "[1,5)x"),
        (SPAN, "[one,5)"),
        (SPAN, "EMPTY"),
        (MULTISPAN, "{[1,3)"),
        (MULTISPAN, "{[1,3),}"),
        (MULTISPAN, "{[1,3)[5,7)}"),
        (MULTISPAN, "[1,3)}"),
        (MULTISPAN, ""),
    ] {
        let error = "s|0: a value is not as PostgreSQL prints its type";
        assert_eq!(convert(&config, &types(), oid, text), error, "{oid} {text}");
    }
}

fn column(name: &str, type_oid: u32) -> Column {
    Column { name: name.to_owned(), type_oid }
}

/// With custom types on, a domain over numbers is a number on devices.
#[test]
fn comparison_warnings_use_the_base_type_of_a_domain() {
    let table = TableSchema {
        schema: "public".to_owned(),
        name: "t".to_owned(),
        columns: vec![column("id", 25), column("v", RATING), column("p", PAIR)],
        types: types(),
    };
    let query = "SELECT id FROM t WHERE v = '1' AND p = 1";

    expect![[r#"
        6:30 warning: `v` is a number on devices and is never equal to a text
          write `v::text`, or compare with a number; booleans are 1 and 0
        6:42 warning: `p` is a text on devices and is never equal to a number
          write `p::real` or `p::integer`, or compare with a text
    "#]]
    .assert_eq(&format_findings(&compile(&stream(query)).check(std::slice::from_ref(&table))));

    let first = definition(&[], &[query]).replace("edition: 2", "edition: 1");
    expect![[r#"
        7:44 warning: `p` is a text on devices and is never equal to a number
          write `p::real` or `p::integer`, or compare with a text
    "#]]
    .assert_eq(&format_findings(&compile(&first).check(&[table])));
}

#[test]
fn a_table_keeps_only_the_types_it_uses() {
    let used = types().used_by([RATING_LISTS, 25].into_iter());
    let oids: Vec<u32> = used.iter().map(|(oid, _)| oid).collect();
    assert_eq!(oids, [RATING, RATINGS, RATING_LIST, RATING_LISTS]);
    let used = types().used_by(std::iter::once(CIRCLE));
    assert_eq!(used.iter().count(), 1);
}
