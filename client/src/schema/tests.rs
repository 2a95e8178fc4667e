//! Schemas that are accepted, and errors with their positions.

use super::*;

fn error(sql: &str) -> String {
    Schema::parse(sql).unwrap_err().to_string()
}

#[test]
fn tables_and_indexes_are_parsed() {
    let schema = Schema::parse(
        "-- lists; of things\nCREATE TABLE lists (id TEXT PRIMARY KEY, name TEXT NOT NULL);\n\
         create table if not exists \"to dos\" (\n  id varchar(36) NOT NULL PRIMARY KEY,\n  \
         n INTEGER DEFAULT (1 + 2), /* , */ list_id TEXT REFERENCES lists(id),\n  \
         twice INTEGER GENERATED ALWAYS AS (n * 2) STORED,\n  CHECK (n > 0)\n) WITHOUT ROWID;\n\
         CREATE INDEX by_list ON \"to dos\" (list_id);",
    )
    .unwrap();
    assert_eq!(schema.table_names().collect::<Vec<_>>(), ["lists", "to dos"]);

    let todos = &schema.tables[1];
    let columns: Vec<_> = todos.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, ["n", "list_id"], "neither the key nor generated columns");
    assert_eq!(todos.columns[0].default.as_deref(), Some("1 + 2"));
    assert_eq!(todos.suffix, "without rowid");

    let columns: Vec<_> = todos.elements.iter().map(|e| e.column.as_deref()).collect();
    assert_eq!(columns, [Some("id"), Some("n"), Some("list_id"), Some("twice"), None]);
    assert_eq!(schema.indexes[0].name, "by_list");
}

#[test]
fn any_other_statement_is_refused_with_its_position() {
    assert_eq!(
        error("CREATE TABLE a (id TEXT PRIMARY KEY);\n  CREATE VIEW v AS SELECT 1"),
        "schema line 2, column 3: only CREATE TABLE and CREATE INDEX are allowed here, not 'CREATE VIEW'"
    );

    for (sql, found) in [
        ("CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END", "CREATE TRIGGER"),
        ("CREATE VIRTUAL TABLE f USING fts5(x)", "CREATE VIRTUAL"),
        ("CREATE TEMP TABLE a (id TEXT PRIMARY KEY)", "CREATE TEMP"),
        ("PRAGMA foreign_keys = ON", "PRAGMA foreign_keys"),
        ("DROP TABLE a", "DROP TABLE"),
    ] {
        assert!(error(sql).contains(&format!("not '{found}'")), "{sql}");
    }
}

#[test]
fn a_table_needs_a_text_id_as_its_only_key() {
    for sql in [
        "CREATE TABLE a (x TEXT)",
        "CREATE TABLE a (id TEXT)",
        "CREATE TABLE a (id INTEGER PRIMARY KEY)",
        "CREATE TABLE a (id TEXT, b TEXT, PRIMARY KEY (id, b))",
        "CREATE TABLE a (id TEXT, b TEXT PRIMARY KEY)",
    ] {
        let wanted = "table 'a' needs the column 'id TEXT PRIMARY KEY' as its only key";
        assert!(error(sql).ends_with(wanted), "{sql}");
    }
    Schema::parse("CREATE TABLE a (id TEXT, b TEXT, PRIMARY KEY (id))").unwrap();
}

#[test]
fn sqlites_errors_are_reported_with_their_position() {
    let sql = "CREATE TABLE a (\n  id TEXT PRIMARY KEY,\n  b TEXT TEXT NULL NULLS\n)";
    assert_eq!(error(sql), "schema line 3, column 20: near \"NULLS\": syntax error");
    assert!(error("CREATE TABLE a (id TEXT PRIMARY KEY").starts_with("schema line 1, column"));
    assert!(error("CREATE TABLE").ends_with("a name is missing"));
    let twice = "CREATE TABLE a (id TEXT PRIMARY KEY); CREATE TABLE A (id TEXT PRIMARY KEY)";
    assert_eq!(error(twice), "schema line 1, column 52: table A already exists");
    let index = "CREATE TABLE a (id TEXT PRIMARY KEY);\nCREATE INDEX i ON b (id)";
    assert_eq!(error(index), "schema line 2, column 1: no such table: main.b");
}

#[test]
fn reserved_names_and_database_prefixes_are_refused() {
    let message = error("CREATE TABLE _tw_rows (id TEXT PRIMARY KEY)");
    assert!(message.ends_with("names that start with '_tw_' are reserved"), "{message}");
    assert!(error("CREATE TABLE main.a (id TEXT PRIMARY KEY)").contains("no database prefix"));
    assert!(error("CREATE TABLE a AS SELECT 1 AS id").contains("must list its columns"));
}

#[test]
fn parsing_arbitrary_text_never_panics() {
    use proptest::prelude::*;
    proptest!(|(sql in "[A-Za-z('\"`\\[\\];,/*-é \n]{0,60}")| {
        let _ = Schema::parse(&sql);
        let _ = Schema::parse(&format!("CREATE TABLE {sql}"));
    });
}
