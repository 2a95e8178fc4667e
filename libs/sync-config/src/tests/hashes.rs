//! Hashes of definitions and lookups are equal exactly when their contents are.

mod properties;

use expect_test::expect;

use super::{compile, definition, stream};

fn definition_hashes(yaml: &str) -> Vec<String> {
    compile(yaml).definitions().iter().map(|definition| definition.hash.clone()).collect()
}

fn lookup_hashes(yaml: &str) -> Vec<String> {
    compile(yaml).lookups().iter().map(|lookup| lookup.hash.clone()).collect()
}

const QUERY: &str = "SELECT id, a || 'x' AS b FROM t WHERE n > 1 AND a = auth.user_id()";

#[test]
fn hashes_do_not_depend_on_formatting() {
    let hashes = definition_hashes(&stream(QUERY));
    for same in [
        "SELECT  id,\n a||'x' AS \"b\" -- comment\nFROM public.T WHERE (n > 1) AND auth.user_id() = a;",
        "select Id, (a || 'x') b from t as t where n>1 and a=auth.user_id()",
    ] {
        assert_eq!(definition_hashes(&stream(same)), hashes, "{same}");
    }
    let flow = format!("streams: {{s: {{query: \"{QUERY}\"}}}}\nconfig: {{edition: 3}}\n");
    assert_eq!(definition_hashes(&flow), hashes);
}

fn stream_entry(name: &str) -> String {
    format!("  {name}:\n    query: SELECT * FROM {name}\n")
}

fn two_streams(names: [&str; 2]) -> String {
    format!(
        "config: {{edition: 3}}\nstreams:\n{}{}",
        stream_entry(names[0]),
        stream_entry(names[1])
    )
}

#[test]
fn hashes_do_not_depend_on_other_streams() {
    let (forth, back) =
        (definition_hashes(&two_streams(["a", "b"])), definition_hashes(&two_streams(["b", "a"])));
    assert_eq!(forth[0], back[1]);
    assert_eq!(forth[1], back[0]);
    assert_ne!(forth[0], forth[1]);
}

#[test]
fn hashes_do_not_depend_on_access() {
    let other = QUERY.replace("auth.user_id()", "connection.parameter('u')");
    assert_eq!(definition_hashes(&stream(QUERY)), definition_hashes(&stream(&other)));
    let prompt = format!("{}    priority: 0\n    auto_subscribe: true\n", stream(QUERY));
    assert_eq!(definition_hashes(&stream(QUERY)), definition_hashes(&prompt));
}

#[test]
fn hashes_change_with_the_contents() {
    let mut hashes = definition_hashes(&stream(QUERY));
    for other in [
        QUERY.replace("id,", "n AS id,"),
        QUERY.replace("'x'", "'y'"),
        QUERY.replace("AS b", "AS c"),
        QUERY.replace("FROM t", "FROM u"),
        QUERY.replace("FROM t", "FROM app.t"),
        QUERY.replace("FROM t", "FROM t AS u"),
        QUERY.replace("n > 1", "n > 2"),
        QUERY.replace("n > 1", "n > 1.0"),
        QUERY.replace("n > 1", "n >= 1"),
        QUERY.replace("a = auth", "b = auth"),
        QUERY.replace(" AND a = auth.user_id()", ""),
        QUERY.replace("id,", "*,"),
    ] {
        hashes.extend(definition_hashes(&stream(&other)));
    }

    hashes.extend(definition_hashes(&stream(QUERY).replace("  s:", "  renamed:")));

    for option in [
        "timestamps_iso8601: false",
        "timestamp_max_precision: seconds",
        "fixed_json_extract: false",
        "custom_postgres_types: false",
    ] {
        let yaml = stream(QUERY).replace("edition: 3", &format!("edition: 3\n  {option}"));
        hashes.extend(definition_hashes(&yaml));
    }

    let count = hashes.len();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), count);
}

fn inner_query_stream(inner: &str) -> String {
    stream(&format!("SELECT * FROM t WHERE a IN ({inner})"))
}

#[test]
fn lookup_hashes_depend_on_the_rows_they_index() {
    let hashes = lookup_hashes(&inner_query_stream("SELECT o FROM m WHERE u = auth.user_id()"));

    assert_eq!(
        lookup_hashes(&inner_query_stream("SELECT o FROM m x WHERE auth.parameter('y') = x.u")),
        hashes
    );

    for other in [
        "SELECT p FROM m WHERE u = auth.user_id()",
        "SELECT o FROM m WHERE v = auth.user_id()",
        "SELECT o FROM m WHERE u = auth.user_id() AND z",
        "SELECT o FROM n WHERE u = auth.user_id()",
        "SELECT o FROM m",
    ] {
        assert_ne!(lookup_hashes(&inner_query_stream(other)), hashes, "{other}");
    }
}

/// A failure here means that every device downloads everything again. Raise `EVALUATOR_VERSION`
/// if rows may now evaluate differently, or the version of JSON if only rows that read JSON may, else keep
/// the hashed form.
#[test]
fn hashes_are_stable_across_releases() {
    expect!["f9205d26b5c6cb25eda4334e88268a867956a2a0d093974e5524ed1b5d8d0032"]
        .assert_eq(&definition_hashes(&stream(QUERY)).join("\n"));
    let yaml = definition(
        &["SELECT a, b FROM m WHERE c = request.user_id() AND d"],
        &["SELECT * FROM t WHERE a = bucket.a AND bucket.b IN e AND lower(f) IN ('x', 1.5)"],
    );
    expect!["73bb28dee2790edfd604936e22c00ee005b68a2ed6d753aefa97bfac1484610c"]
        .assert_eq(&definition_hashes(&yaml).join("\n"));
    expect!["a2e33a14c7794d92cb609e3c50c85ff11d4341587c325be38459f22981634b51"]
        .assert_eq(&lookup_hashes(&yaml).join("\n"));
}

/// Each query uses other forms of the language, so that a rename of a hashed type or variant shows.
#[test]
fn every_hashed_form_keeps_its_hash() {
    let mut text = String::new();

    for query in [
        "SELECT * FROM t WHERE a = 1 OR b <> 2 OR c < 3 OR d <= 4 OR e > 5 OR f >= 6.5",
        "SELECT id, a + b - c * d / e % f AS x, (a & b) | (c << 2) | (d >> 1) AS y FROM t",
        "SELECT id, a || 'x' AS x, a -> 'm' AS y, a ->> '$.m.n' AS z FROM t WHERE NOT (a AND b)",
        "SELECT id, CASE a WHEN 1 THEN 'x' ELSE NULL END AS x, -a AS y, +CAST(b AS text) AS z FROM t",
        "SELECT id FROM t WHERE a IS NULL AND b IS NOT NULL AND c IS TRUE AND d IS NOT DISTINCT FROM e",
        "SELECT id FROM t WHERE a BETWEEN 1 AND 2 AND b LIKE 'x%_\\%' ESCAPE '\\' AND c NOT LIKE 'y'",
        "SELECT id, a::integer AS i, b::real AS r, c::numeric AS n, d::blob AS b FROM t",
        "SELECT id FROM t WHERE a IN (1, 'x', 2.5) AND b IN c AND d NOT IN e AND f && g",
        "SELECT t.id FROM t, json_each(t.tags) AS e WHERE e.value = auth.user_id() AND e.key > 0",
        "SELECT id, t.schema() AS s, t.table_name() AS n, t.table_suffix() AS x FROM \"a%\".\"b%\" AS t",
        "SELECT *, a AS b FROM t WHERE owner IN (SELECT o FROM m WHERE u = auth.user_id())",
        "SELECT id, upper(a) AS a1, lower(a) AS a2, length(a) AS a3, hex(a) AS a4, base64(a) AS a5, \
         typeof(a) AS a6, ifnull(a, b) AS a7, iif(a, b, c) AS a8, instr(a, b) AS a9, \
         substring(a, 1) AS b1, json_extract(a, '$.x') AS b2, json_array_length(a) AS b3, \
         json_valid(a) AS b4, json_keys(a) AS b5, unixepoch(a) AS b6, datetime(a, 'unixepoch') AS b7 \
         FROM t",
        "SELECT id, uuid_blob(a) AS a1, st_asgeojson(a) AS a2, st_astext(a) AS a3, st_x(a) AS a4, \
         st_y(a) AS a5, coalesce(a, b) AS a6, nullif(a, b) AS a7, abs(a) AS a8, round(a, 1) AS a9, \
         trim(a) AS b1, ltrim(a) AS b2, rtrim(a) AS b3, replace(a, b, c) AS b4 FROM t",
    ] {
        for option in
            ["", "\n  fixed_json_extract: true\n  unstable_sqlite_expression_engine: true"]
        {
            let yaml = stream(query).replace("edition: 3", &format!("edition: 3{option}"));
            let config = compile(&yaml);
            let definitions = config.definitions().iter().map(|definition| &definition.hash);
            let lookups = config.lookups().iter().map(|lookup| &lookup.hash);
            let hashes: Vec<&str> = definitions.chain(lookups).map(|hash| &hash[..16]).collect();
            text.push_str(&format!("{}\n", hashes.join(" ")));
        }
    }

    let early =
        definition(&[], &["SELECT a || '!' AS id, * FROM t WHERE a != 'x' AND b -> 'c' = 1"]);
    text.push_str(&definition_hashes(&early)[0][..16]);

    expect![[r#"
        900aec4bf7f1b143
        f686ac7c8b6c7eef
        b575646401e48062
        ca2a90d992f985c5
        285241deb971e696
        e9bad4b8a973f577
        5c54123a3f398b02
        7713f2c8a2f5aef1
        846e85d7617709be
        219c51d7adcb0601
        727c0f6f3212d242
        8463918db39b802c
        443b0629cfe6ed0b
        b32cf3b31305e91a
        a5075ab0722fbdbc
        d590320aa79ffb46
        d4151ae6df36ef2f
        65aa6dd8f183961c
        f80461a0c36ad952
        dcb8d5c667466bfc
        61388f64406eddf4 3b6c522875573c69
        532257ebc0a139da 656b3fbaf477bdcd
        d323754c3b67e761
        2e99193d089caadb
        cf3db5b0b664f7f2
        e92888fe9763a51d
        6d8952b320869672"#]]
    .assert_eq(&text);
}
