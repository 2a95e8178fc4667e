//! Queries for the rows of a synced table.

use crate::apply::applier::SyncedTable;
use crate::source::quote::{quote_identifier, quote_literal};

/// Returns the query for the rows of a table after the key `after`, in the key's order. A table
/// without a key is read whole.
///
/// `ONLY` leaves out the rows of tables that inherit from it: the stream sends those under their
/// own table.
pub(crate) fn rows_query(table: &SyncedTable, after: Option<&[String]>, limit: usize) -> String {
    let columns = column_list(table, 0..table.table.schema.columns.len());
    let from = table.table.sql_name();
    if table.is_keyless() {
        return format!("SELECT {columns} FROM ONLY {from}");
    }

    let key = column_list(table, table.table.key.iter().copied());
    let condition = match after {
        Some(after) => format!(" WHERE ({key}) > ({})", key_literals(table, after)),
        None => String::new(),
    };
    format!("SELECT {columns} FROM ONLY {from}{condition} ORDER BY {key} LIMIT {limit}")
}

/// Returns the query for those of some keys that the table has.
pub(crate) fn keys_query(table: &SyncedTable, keys: &[Vec<String>]) -> String {
    let from = table.table.sql_name();
    let columns = column_list(table, table.table.key.iter().copied());
    let literals: Vec<_> =
        keys.iter().map(|key| format!("({})", key_literals(table, key))).collect();
    // As a table of values, so that each of them is looked up by the key's index.
    format!(
        "SELECT {columns} FROM ONLY {from} WHERE ({columns}) IN (VALUES {})",
        literals.join(", ")
    )
}

/// Returns the query for all rows of a table, in any order.
pub(crate) fn all_rows_query(table: &SyncedTable) -> String {
    let columns = column_list(table, 0..table.table.schema.columns.len());
    format!("SELECT {columns} FROM ONLY {}", table.table.sql_name())
}

/// Returns the query for the rows that have one of some keys.
pub(crate) fn rows_with_keys_query(table: &SyncedTable, keys: &[Vec<String>]) -> String {
    let rows = all_rows_query(table);
    let key = column_list(table, table.table.key.iter().copied());
    let literals: Vec<_> =
        keys.iter().map(|key| format!("({})", key_literals(table, key))).collect();
    format!("{rows} WHERE ({key}) IN (VALUES {})", literals.join(", "))
}

/// Returns the query for the row with a key.
pub(crate) fn row_query(table: &SyncedTable, key: &[String]) -> String {
    let columns = column_list(table, 0..table.table.schema.columns.len());
    let from = table.table.sql_name();
    let key_columns = column_list(table, table.table.key.iter().copied());
    let literals = key_literals(table, key);
    format!("SELECT {columns} FROM ONLY {from} WHERE ({key_columns}) = ({literals})")
}

fn column_list(table: &SyncedTable, columns: impl Iterator<Item = usize>) -> String {
    let all = &table.table.schema.columns;
    let names: Vec<_> = columns.map(|column| quote_identifier(&all[column].name)).collect();
    names.join(", ")
}

/// Returns the values of a key as literals of the columns' types, so that they are compared as
/// those types and by their index.
fn key_literals(table: &SyncedTable, key: &[String]) -> String {
    let types = table.table.key.iter().map(|&column| &table.table.column_types[column]);
    let literals: Vec<_> = key
        .iter()
        .zip(types)
        .map(|(value, type_name)| format!("{}::{type_name}", quote_literal(value)))
        .collect();
    literals.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::catalog::SourceTable;
    use crate::test_support::{NOTES, TODOS, synced_tables};
    use std::sync::Arc;

    /// Tables of which the first has a key of two columns with different types.
    fn with_two_key_columns() -> Arc<[SyncedTable]> {
        changed(|table| {
            table.key = vec![1, 0];
            table.column_types[1] = "pg_catalog.int4".into();
        })
    }

    /// Tables of which the first was changed.
    fn changed(change: impl FnOnce(&mut SourceTable)) -> Arc<[SyncedTable]> {
        let mut tables = synced_tables();
        change(&mut Arc::get_mut(&mut tables).unwrap()[TODOS].table);
        tables
    }

    fn key(values: &[&str]) -> Vec<String> {
        values.iter().map(|&value| value.to_owned()).collect()
    }

    #[test]
    fn the_first_chunk_of_a_table_has_no_condition() {
        assert_eq!(
            rows_query(&synced_tables()[TODOS], None, 10),
            r#"SELECT "id", "body" FROM ONLY "public"."todos" ORDER BY "id" LIMIT 10"#
        );
    }

    #[test]
    fn a_later_chunk_begins_after_the_key_in_the_order_of_the_key() {
        assert_eq!(
            rows_query(&with_two_key_columns()[TODOS], Some(&key(&["7", "a"])), 10),
            r#"SELECT "id", "body" FROM ONLY "public"."todos" "#.to_owned()
                + r#"WHERE ("body", "id") > ('7'::pg_catalog.int4, 'a'::text) "#
                + r#"ORDER BY "body", "id" LIMIT 10"#
        );
    }

    #[test]
    fn a_table_without_a_key_is_read_whole() {
        let notes = &synced_tables()[NOTES];
        let query = r#"SELECT "id", "body" FROM ONLY "public"."notes""#;
        assert_eq!(rows_query(notes, None, 10), query);
        assert_eq!(rows_query(notes, Some(&[]), 10), query, "there is no key to go on after");
    }

    #[test]
    fn one_row_is_found_by_all_columns_of_its_key() {
        assert_eq!(
            row_query(&with_two_key_columns()[TODOS], &key(&["7", "a"])),
            r#"SELECT "id", "body" FROM ONLY "public"."todos" "#.to_owned()
                + r#"WHERE ("body", "id") = ('7'::pg_catalog.int4, 'a'::text)"#
        );
    }

    #[test]
    fn many_rows_are_looked_for_by_their_keys() {
        let keys = [key(&["7", "a"]), key(&["8", "it's"])];
        assert_eq!(
            keys_query(&with_two_key_columns()[TODOS], &keys),
            r#"SELECT "body", "id" FROM ONLY "public"."todos" WHERE ("body", "id") IN "#.to_owned()
                + "(VALUES ('7'::pg_catalog.int4, 'a'::text), ('8'::pg_catalog.int4, 'it''s'::text))"
        );
    }

    #[test]
    fn whole_rows_are_found_by_their_keys() {
        let keys = [key(&["7", "a"]), key(&["8", "b"])];
        assert_eq!(
            rows_with_keys_query(&with_two_key_columns()[TODOS], &keys),
            r#"SELECT "id", "body" FROM ONLY "public"."todos" WHERE ("body", "id") IN "#.to_owned()
                + "(VALUES ('7'::pg_catalog.int4, 'a'::text), ('8'::pg_catalog.int4, 'b'::text))"
        );
    }

    #[test]
    fn names_and_values_are_quoted() {
        let tables = changed(|table| {
            table.schema.name = "a\"b".into();
            table.schema.columns[0].name = "x\" OR 1=1".into();
        });
        let query = row_query(&tables[TODOS], &key(&["it's"]));
        assert_eq!(
            query,
            r#"SELECT "x"" OR 1=1", "body" FROM ONLY "public"."a""b" "#.to_owned()
                + r#"WHERE ("x"" OR 1=1") = ('it''s'::text)"#
        );
    }
}
