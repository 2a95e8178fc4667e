//! PostGIS geometries in extended WKB.

use proptest::prelude::*;

use super::*;
use crate::tests::{compile, table};
use crate::{RowOutput, SyncConfig};

/// Returns a little-endian geometry as hex digits, with this type code (flags included) and body.
fn wkb(code: u32, body: &str) -> String {
    let hex: String = code.to_le_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
    format!("01{hex}{body}")
}

fn count(count: u32, body: &str) -> String {
    let hex: String = count.to_le_bytes().iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{hex}{body}")
}

fn reals(reals: &[f64]) -> String {
    let bytes = reals.iter().flat_map(|real| real.to_le_bytes());
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

const Z: u32 = 0x8000_0000;
const M: u32 = 0x4000_0000;
const SRID: u32 = 0x2000_0000;

fn check_shape(hex: &str, text: &str, geojson: &str) {
    check(&[
        (&format!("ST_AsText('{hex}')"), &format!("\"{text}\"")),
        (&format!("ST_AsGeoJSON('{hex}')"), &format!("\"{}\"", geojson.replace('"', "\\\""))),
    ]);
}

fn json(name: &str, coordinates: &str) -> String {
    format!(r#"{{"type":"{name}","coordinates":{coordinates}}}"#)
}

#[test]
fn points_have_coordinates() {
    let point = "0101000000029a081b9ede4340d7a3703d0a3f5ac0";
    check_shape(point, "POINT(39.7392 -104.985)", &json("Point", "[39.7392,-104.985]"));

    check(&[
        (&format!("ST_X('{point}')"), "39.7392"),
        (&format!("st_y('{point}')"), "-104.985"),
        (&format!("ST_X('{}')", wkb(1, &reals(&[1.0, 2.0]))), "1.0"),
        // The output of PostGIS for SRID 4326, then the same in big endian.
        (&format!("ST_Y('{}')", wkb(SRID | 1, &count(4326, &reals(&[1.0, 2.5])))), "2.5"),
        ("ST_X('00000000013FF00000000000004000000000000000')", "1.0"),
        ("ST_Y('00000000013FF00000000000004000000000000000')", "2.0"),
        (&format!("ST_X('{}')", wkb(1, &reals(&[f64::NAN, f64::NAN]))), "null"),
        (&format!("ST_X('{}')", wkb(2, &count(0, ""))), "null"),
        ("ST_X(n)", "null"),
        ("ST_X(i)", "null"),
        ("ST_AsText(r)", "null"),
        ("ST_AsGeoJSON(n)", "null"),
    ]);
}

#[test]
fn bytes_and_hex_digits_are_equivalent() {
    let yaml = stream("SELECT id, ST_AsText(g) AS v FROM t");
    let found = row(&yaml, "t(id text, g bytea)", &format!("1|\\x{}", wkb(1, &reals(&[1.0, 2.0]))));
    assert_eq!(found, "s|0[] t/1 {\"id\":\"1\",\"v\":\"POINT(1 2)\"}\n");
}

#[test]
fn dimensions_come_from_flags_or_from_the_type_code() {
    let z = reals(&[1.0, 2.0, 3.0]);
    let m = reals(&[1.0, 2.0, 4.0]);
    let zm = reals(&[1.0, 2.0, 3.0, 4.0]);
    for (code, body, text, coordinates) in [
        (Z | 1, &z, "POINT Z (1 2 3)", "[1.0,2.0,3.0]"),
        (1001, &z, "POINT Z (1 2 3)", "[1.0,2.0,3.0]"),
        (M | 1, &m, "POINT M (1 2 4)", "[1.0,2.0]"),
        (2001, &m, "POINT M (1 2 4)", "[1.0,2.0]"),
        (Z | M | 1, &zm, "POINT ZM (1 2 3 4)", "[1.0,2.0,3.0]"),
        (3001, &zm, "POINT ZM (1 2 3 4)", "[1.0,2.0,3.0]"),
    ] {
        check_shape(&wkb(code, body), text, &json("Point", coordinates));
    }
}

fn point(x: f64, y: f64) -> String {
    wkb(1, &reals(&[x, y]))
}

#[test]
fn shapes_convert_to_wkt_and_geojson() {
    let line = count(2, &reals(&[0.0, 0.0, 1.5, 1.0]));

    check_shape(
        &wkb(2, &line),
        "LINESTRING(0 0,1.5 1)",
        &json("LineString", "[[0.0,0.0],[1.5,1.0]]"),
    );

    let ring = count(4, &reals(&[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]));
    let polygon = wkb(3, &count(1, &ring));
    let text = "((0 0,0 1,1 1,0 0))";
    let rings = "[[[0.0,0.0],[0.0,1.0],[1.0,1.0],[0.0,0.0]]]";
    check_shape(&polygon, &format!("POLYGON{text}"), &json("Polygon", rings));

    check_shape(
        &wkb(4, &count(2, &(point(1.0, 2.0) + &point(3.0, 4.0)))),
        "MULTIPOINT(1 2,3 4)",
        &json("MultiPoint", "[[1.0,2.0],[3.0,4.0]]"),
    );

    check_shape(
        &wkb(5, &count(1, &wkb(2, &line))),
        "MULTILINESTRING((0 0,1.5 1))",
        &json("MultiLineString", "[[[0.0,0.0],[1.5,1.0]]]"),
    );

    check_shape(
        &wkb(SRID | 6, &count(4326, &count(1, &polygon))),
        &format!("MULTIPOLYGON({text})"),
        &json("MultiPolygon", &format!("[{rings}]")),
    );

    check_shape(
        &wkb(7, &count(2, &(point(1.0, 2.0) + &wkb(2, &line)))),
        "GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1.5 1))",
        r#"{"type":"GeometryCollection","geometries":[{"type":"Point","coordinates":[1.0,2.0]},{"type":"LineString","coordinates":[[0.0,0.0],[1.5,1.0]]}]}"#,
    );
}

#[test]
fn empty_shapes_are_supported() {
    for (code, name, geojson) in [
        (2, "LINESTRING", "LineString"),
        (3, "POLYGON", "Polygon"),
        (4, "MULTIPOINT", "MultiPoint"),
        (5, "MULTILINESTRING", "MultiLineString"),
        (6, "MULTIPOLYGON", "MultiPolygon"),
    ] {
        let hex = wkb(code, &count(0, ""));
        check_shape(&hex, &format!("{name} EMPTY"), &json(geojson, "[]"));
    }

    let nowhere = wkb(1, &reals(&[f64::NAN, f64::NAN]));
    check_shape(&nowhere, "POINT EMPTY", &json("Point", "[]"));

    check_shape(
        &wkb(Z | 7, &count(0, "")),
        "GEOMETRYCOLLECTION Z EMPTY",
        r#"{"type":"GeometryCollection","geometries":[]}"#,
    );
}

#[test]
fn malformed_geometries_are_row_errors() {
    let point = wkb(1, &reals(&[1.0, 2.0]));
    let mut nested = point.clone();
    for _ in 0..31 {
        nested = wkb(7, &count(1, &nested));
    }

    assert!(value(JAVASCRIPT, &format!("ST_AsText('{nested}')")).contains("POINT(1 2)"));

    let too_deep = wkb(7, &count(1, &nested));
    for hex in [
        "",
        "zz",
        "0",
        "01",
        &point[..point.len() - 2],
        &format!("{point}00"),
        &wkb(1, ""),
        &wkb(0, ""),
        &wkb(8, &count(0, "")),
        &wkb(4001, &reals(&[1.0; 4])),
        // A count beyond the end of the input must not reserve memory.
        &wkb(2, &count(u32::MAX, "")),
        &wkb(3, &count(u32::MAX, "")),
        &wkb(7, &count(u32::MAX, "")),
        // A part must be of the kind that its collection requires.
        &wkb(4, &count(1, &wkb(2, &count(0, "")))),
        &format!("02{}", &point[2..]),
        &too_deep,
    ] {
        let found = value(JAVASCRIPT, &format!("ST_AsText('{hex}')"));
        assert_eq!(found, "a value is not a geometry as PostGIS prints it", "{hex}");
    }
}

/// Returns the errors of the row, or the data of each query.
fn read(config: &SyncConfig, bytes: &[u8]) -> Vec<String> {
    let evaluator = config.bind(&table("t(id text, g bytea)")).unwrap().unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut out = RowOutput::default();
    evaluator.evaluate(&[Some("1"), Some(&format!("\\x{hex}"))], &mut out);
    let errors = out.errors().iter().cloned();
    errors.chain(out.buckets().map(|bucket| bucket.data.to_owned())).collect()
}

proptest! {
    #[test]
    fn random_bytes_are_a_geometry_or_an_error(
        kind in 0..9_u8,
        flags in prop::sample::select(vec![0, 0x20, 0x40, 0x80, 0xE0_u8]),
        counts in prop::collection::vec(0..4_u8, 0..3),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let config = compile(&stream("SELECT id, ST_AsGeoJSON(g) AS v, ST_AsText(g) AS w FROM t"));
        let mut bytes = vec![1, kind, 0, 0, flags];
        for count in counts {
            bytes.extend([count, 0, 0, 0, 1, kind.saturating_sub(3), 0, 0, flags]);
        }

        bytes.extend(rest);

        let found = read(&config, &bytes);
        prop_assert_eq!(found.len(), 1);

        if let Some(data) = found.first().filter(|data| data.starts_with('{')) {
            let row: serde_json::Value = serde_json::from_str(data).unwrap();
            let geometry = row["v"].as_str().unwrap();
            prop_assert!(geometry.contains("9e999") || serde_json::from_str::<serde_json::Value>(geometry).is_ok());
        }
    }
}
