//! Schema changes: which are applied, and which are refused by name.

use tempfile::TempDir;

use super::*;

const FIRST: &str = "CREATE TABLE a (id TEXT PRIMARY KEY, n INTEGER, CHECK (n > 0));
    CREATE INDEX a_n ON a (n);";

/// Migrates a new file to one schema and then to another.
fn change(from: &str, to: &str) -> Result<Connection, ClientError> {
    let mut connection = Connection::open_in_memory().unwrap();
    assert_eq!(migrate(&mut connection, &Schema::parse(from).unwrap()).unwrap(), 1);
    migrate(&mut connection, &Schema::parse(to).unwrap()).map(|_| connection)
}

fn error(to: &str) -> String {
    change(FIRST, to).unwrap_err().to_string()
}

fn generation(connection: &Connection) -> i64 {
    connection.query_row("SELECT schema_generation FROM _tw_state", [], |row| row.get(0)).unwrap()
}

#[test]
fn the_same_schema_written_differently_is_no_change() {
    let same = "-- as before\ncreate table if not exists A_ (id TEXT PRIMARY KEY);";
    assert!(error(same).contains("table 'a' is missing"));
    let same = "CREATE  TABLE a (\n id TEXT primary key /* key */, n integer, check(n>0) );
        CREATE INDEX a_n ON a(n)";
    assert_eq!(generation(&change(FIRST, same).unwrap()), 1);
}

#[test]
fn tables_columns_and_indexes_can_be_added() {
    let more = "CREATE TABLE a (
            id TEXT PRIMARY KEY, added TEXT NOT NULL DEFAULT 'x' COLLATE NOCASE, n INTEGER,
            CHECK (n > 0));
        CREATE INDEX a_added ON a (added);
        CREATE TABLE b (id TEXT PRIMARY KEY, a_id TEXT REFERENCES a (id));";
    let connection = change(FIRST, more).unwrap();
    assert_eq!(generation(&connection), 2);

    connection.execute_batch("INSERT INTO a (id, n) VALUES ('1', 2)").unwrap();
    let captured: String =
        connection.query_row("SELECT data FROM _tw_queue", [], |row| row.get(0)).unwrap();

    assert_eq!(captured, r#"{"added":"x","n":2}"#, "the triggers know the new column");
    let indexes = "SELECT group_concat(name) FROM sqlite_schema \
                   WHERE type = 'index' AND name LIKE 'a%'";
    let indexes: String = connection.query_row(indexes, [], |row| row.get(0)).unwrap();

    assert_eq!(indexes, "a_added", "and the one that the schema dropped is gone");
}

#[test]
fn other_schema_changes_are_refused_by_name() {
    for (definition, expected) in [
        (None, "table 'a' is missing"),
        (Some("n TEXT, CHECK (n > 0))"), "in table 'a', 'n INTEGER' was changed or removed"),
        (Some("n INTEGER)"), "in table 'a', 'CHECK (n > 0)' was changed or removed"),
        (
            Some("n INTEGER, CHECK (n > 0), UNIQUE (n))"),
            "in table 'a', the constraint 'UNIQUE (n)' cannot be added",
        ),
        (
            Some("n INTEGER, CHECK (n > 0)) WITHOUT ROWID"),
            "in table 'a', the end is 'without rowid' instead of ''",
        ),
        (
            Some("n INTEGER, u TEXT UNIQUE, CHECK (n > 0))"),
            "in table 'a', the column 'u TEXT UNIQUE' cannot be added",
        ),
    ] {
        let to = definition.map_or(String::new(), |definition| {
            format!("CREATE TABLE a (id TEXT PRIMARY KEY, {definition}")
        });

        let error = error(&to);
        let expected = format!("the schema cannot be changed: {expected}");
        assert!(error.starts_with(&expected), "{to}: {error}");
    }
}

#[test]
fn a_table_that_is_not_synced_is_never_taken_over() {
    let dir = TempDir::new().unwrap();
    let mut connection = Connection::open(dir.path().join("app.db")).unwrap();
    connection.execute_batch("CREATE TABLE A (x)").unwrap();
    let error = migrate(&mut connection, &Schema::parse(FIRST).unwrap()).unwrap_err();
    let expected = "the schema cannot be changed: 'a' exists already and is not a synced table";
    assert_eq!(error.to_string(), expected);
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_tw%' ESCAPE '\\'";
    let left: i64 = connection.query_row(tables, [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0, "a refused schema leaves the file as it was");
}

#[test]
fn a_newer_format_is_refused_and_older_formats_are_upgraded() {
    let dir = TempDir::new().unwrap();
    let mut connection = Connection::open(dir.path().join("app.db")).unwrap();
    let schema = Schema::parse(FIRST).unwrap();
    migrate(&mut connection, &schema).unwrap();
    let set = "UPDATE _tw_state SET format = ?1";
    connection.execute(set, [FORMAT + 1]).unwrap();
    let error = migrate(&mut connection, &schema).unwrap_err();

    assert!(matches!(error, ClientError::NewerFormat(5)), "{error}");

    // A file of an older version is upgraded.
    for (older, added) in [(1, "_tw_snapshots"), (2, "_tw_packs"), (3, "_tw_replaced")] {
        let undo = format!(
            "DROP TABLE {added}; ALTER TABLE _tw_state DROP COLUMN user_id;
             ALTER TABLE _tw_state DROP COLUMN is_unit; ALTER TABLE _tw_rejected DROP COLUMN user_id;"
        );
        let triggers = triggers::drop(&TablePlan::new(&schema.tables[0]));
        connection.execute_batch(&triggers).unwrap();
        connection.execute("DELETE FROM _tw_schema WHERE kind = 'triggers'", []).unwrap();
        connection.execute_batch(&undo).unwrap();
        connection.execute_batch("ALTER TABLE _tw_queue DROP COLUMN is_unit").unwrap();
        connection.execute(set, [older]).unwrap();
        migrate(&mut connection, &schema).unwrap();
        let count = format!("SELECT count(*) FROM {added}");
        assert_eq!(connection.query_row(&count, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        let format = "SELECT format FROM _tw_state";
        assert_eq!(connection.query_row(format, [], |row| row.get::<_, i64>(0)).unwrap(), FORMAT);
    }
}

#[test]
fn a_new_column_resets_the_buckets_of_its_table() {
    let dir = TempDir::new().unwrap();
    let mut connection = Connection::open(dir.path().join("app.db")).unwrap();
    migrate(&mut connection, &Schema::parse(FIRST).unwrap()).unwrap();
    connection
        .execute_batch(
            "INSERT INTO _tw_buckets (id, name, position, sum, has_rows) VALUES
                 (1, 'with', 9, 9, 1), (2, 'without', 9, 9, 1), (3, 'packed', 9, 9, 1);
             INSERT INTO _tw_rows VALUES (1, 'r', 1, '', 5, NULL);
             INSERT INTO _tw_packs VALUES (1, 1, 's', 't', 3, x'');",
        )
        .unwrap();
    let more = FIRST.replace("n INTEGER,", "n INTEGER, added TEXT,");
    migrate(&mut connection, &Schema::parse(&more).unwrap()).unwrap();
    let positions = "SELECT group_concat(name || position || sum || is_cleared) FROM _tw_buckets";
    let positions: String = connection.query_row(positions, [], |row| row.get(0)).unwrap();

    assert_eq!(positions, "with001,without990,packed001");
}

#[test]
fn triggers_of_an_older_version_are_replaced() {
    let mut connection = Connection::open_in_memory().unwrap();
    let schema = Schema::parse(FIRST).unwrap();
    migrate(&mut connection, &schema).unwrap();
    connection
        .execute_batch(
            "DROP TRIGGER _tw_insert_a;
             UPDATE _tw_schema SET sql = 'older' WHERE kind = 'triggers';",
        )
        .unwrap();

    assert_eq!(migrate(&mut connection, &schema).unwrap(), 1);
    connection.execute_batch("INSERT INTO a (id, n) VALUES ('1', 2)").unwrap();
    let captured: i64 =
        connection.query_row("SELECT count(*) FROM _tw_queue", [], |row| row.get(0)).unwrap();

    assert_eq!(captured, 1);
}

#[test]
fn client_ids_are_random_uuids() {
    let first = new_client_id();
    let second = new_client_id();
    assert_ne!(first, second);
    let shape: Vec<_> = first.split('-').map(str::len).collect();
    assert_eq!((shape, &first[14..15]), (vec![8, 4, 4, 4, 12], "4"));
}
