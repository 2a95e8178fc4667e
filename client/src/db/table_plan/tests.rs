use super::*;
use crate::schema::Schema;

fn plan(sql: &str) -> TablePlan {
    TablePlan::new(&Schema::parse(sql).unwrap().tables[0])
}

fn stored(columns: &str, data: &str) -> String {
    let sql = format!("CREATE TABLE t (id TEXT PRIMARY KEY, {columns})");
    let plan = plan(&sql);
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(&sql).unwrap();
    plan.upsert(&connection, "1", &plan.read(data).unwrap()).unwrap();
    plan.image(&connection, "1").unwrap().unwrap()
}

#[test]
fn infinities_are_read() {
    let plan = plan("CREATE TABLE t (id TEXT PRIMARY KEY, a REAL, b REAL)");
    let values = plan.read(r#"{"a":9e999,"b":-9e999}"#).unwrap();
    let infinite = [f64::INFINITY, f64::NEG_INFINITY].map(|x| Some(ColumnValue::Real(x)));
    assert_eq!(values, infinite);
}

/// Stores a value in a column without a type, and returns the row's image.
fn stored_untyped(json: &str) -> String {
    stored("v", &format!(r#"{{"v":{json}}}"#))
}

#[test]
fn values_keep_their_type_as_far_as_the_columns_affinity_allows() {
    for same in [
        "null",
        "-9223372036854775808",
        "1.5",
        "2.0",
        "0.30000000000000004",
        "1e300",
        "5e-324",
        "2.2250738585072014e-308",
        "1.7976931348623157e308",
        r#""a\"\n\u00e9""#,
        r#""""#,
    ] {
        let back: serde_json::Value = serde_json::from_str(&stored_untyped(same)).unwrap();
        let value: serde_json::Value = serde_json::from_str(same).unwrap();
        assert_eq!(back["v"], value, "{same}");
    }

    for infinite in ["9e999", "-9e999"] {
        let image = stored_untyped(infinite);
        let plan = plan("CREATE TABLE t (id TEXT PRIMARY KEY, v)");
        let read = plan.read(&image).unwrap();
        assert_eq!(read, [Some(ColumnValue::Real(infinite.parse().unwrap()))], "{image}");
    }

    assert_eq!(stored_untyped("true"), r#"{"v":1}"#);
    assert_eq!(stored_untyped(r#"{"a":[1, 2]}"#), r#"{"v":"{\"a\":[1, 2]}"}"#);
    assert_eq!(stored_untyped("18446744073709551615"), r#"{"v":1.8446744073709552e+19}"#);
    assert_eq!(stored("v INTEGER", r#"{"v":"12"}"#), r#"{"v":12}"#);
    assert_eq!(stored("v TEXT", r#"{"v":12}"#), r#"{"v":"12"}"#);
    assert_eq!(stored("v REAL", r#"{"v":12}"#), r#"{"v":12.0}"#);
}

#[test]
fn members_without_a_column_are_ignored_and_columns_without_a_member_get_their_default() {
    assert_eq!(stored("a, b DEFAULT (1 + 1)", r#"{"x":1,"a":5}"#), r#"{"a":5,"b":2}"#);
}

#[test]
fn an_upsert_replaces_every_column() {
    let sql = "CREATE TABLE \"t\"\"x\" (id TEXT PRIMARY KEY, \"it's\" TEXT, b INT DEFAULT 7)";
    let plan = plan(sql);
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(sql).unwrap();

    for (data, expected) in [
        (r#"{"it's":"x","b":1}"#, r#"{"it's":"x","b":1}"#),
        (r#"{"it's":"y"}"#, r#"{"it's":"y","b":7}"#),
        ("{}", r#"{"it's":null,"b":7}"#),
    ] {
        plan.upsert(&connection, "1", &plan.read(data).unwrap()).unwrap();
        assert_eq!(plan.image(&connection, "1").unwrap().unwrap(), expected);
    }

    plan.delete(&connection, "1").unwrap();
    assert_eq!(plan.image(&connection, "1").unwrap(), None);
}

#[test]
fn a_table_without_synced_columns_works() {
    assert_eq!(stored("b GENERATED ALWAYS AS (1)", "{}"), "{}");
}

#[test]
fn anything_but_an_object_is_an_error() {
    let plan = plan("CREATE TABLE t (id TEXT PRIMARY KEY, a)");
    for bad in ["", "[]", "1", "{", r#"{"a":}"#, r#"{"a":1}x"#, r#"{"a":"\ud800"}"#] {
        assert!(plan.read(bad).is_err(), "{bad}");
    }
}
