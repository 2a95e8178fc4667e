//! The schema of a client in the language of an app, as the official SDKs declare it.

use clap::ValueEnum;
use tidewater_sync_config::{ColumnType, OutputColumn, OutputTable};

/// The language of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ClientLanguage {
    /// TypeScript, for @powersync/web, node and react-native
    Ts,
    /// Dart, for the package powersync
    Dart,
    /// Kotlin, for com.powersync
    Kotlin,
    /// Swift, for PowerSync
    Swift,
    /// SQL of SQLite, for `tidewater sync` and the Rust client
    Sqlite,
}

/// Characters of names that official SDKs refuse, besides white space.
const REFUSED: [char; 8] = ['"', '\'', '%', ',', '.', '#', '[', ']'];

/// Takes out the tables and columns whose names the SDKs of a language refuse. Returns a warning for each.
pub(super) fn without_refused(
    tables: &mut Vec<OutputTable>,
    language: ClientLanguage,
) -> Vec<String> {
    if language == ClientLanguage::Sqlite {
        return Vec::new();
    }
    let is_refused =
        |name: &str| name.contains(|c: char| c.is_whitespace() || REFUSED.contains(&c));
    let fix = "official SDKs refuse such names; give it another one by AS in the sync config";

    let mut warnings = Vec::new();
    tables.retain_mut(|table| {
        if is_refused(&table.name) {
            warnings.push(format!("table {:?} is left out: {fix}", table.name));
            return false;
        }
        let name = &table.name;
        table.columns.retain(|column| {
            let is_kept = !is_refused(&column.name);
            if !is_kept {
                warnings.push(format!("column {:?} of {name} is left out: {fix}", column.name));
            }
            is_kept
        });
        true
    });
    warnings
}

/// Returns the schema as a source file. A column `id` is part of every table and declared in SQL only.
pub(super) fn render(tables: &[OutputTable], language: ClientLanguage) -> String {
    match language {
        ClientLanguage::Ts => typescript(tables),
        ClientLanguage::Dart => dart(tables),
        ClientLanguage::Kotlin => kotlin(tables),
        ClientLanguage::Swift => swift(tables),
        ClientLanguage::Sqlite => sqlite(tables),
    }
}

/// Returns the name of a type in the functions of the SDKs.
fn function(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Text => "text",
        ColumnType::Integer => "integer",
        ColumnType::Real => "real",
    }
}

/// Formats each column as a line.
fn lines(table: &OutputTable, line: impl Fn(&OutputColumn) -> String) -> String {
    table.columns.iter().map(line).collect()
}

fn typescript(tables: &[OutputTable]) -> String {
    let mut out = "import { column, Schema, Table } from '@powersync/common';\n\n\
                   // Each table has a column `id` of texts besides these.\n\
                   export const AppSchema = new Schema({\n"
        .to_owned();
    for table in tables {
        let columns = lines(table, |column| {
            format!("    {}: column.{},\n", json(&column.name), function(column.column_type))
        });
        out.push_str(&format!("  {}: new Table({{\n{columns}  }}),\n", json(&table.name)));
    }
    out.push_str("});\n\nexport type Database = (typeof AppSchema)['types'];\n");
    out
}

fn dart(tables: &[OutputTable]) -> String {
    let mut out = "import 'package:powersync/powersync.dart';\n\n\
                   // Each table has a column `id` of texts besides these.\n\
                   const schema = Schema([\n"
        .to_owned();
    for table in tables {
        let columns = lines(table, |column| {
            format!("    Column.{}({}),\n", function(column.column_type), dollar(&column.name))
        });
        out.push_str(&format!("  Table({}, [\n{columns}  ]),\n", dollar(&table.name)));
    }
    out.push_str("]);\n");
    out
}

fn kotlin(tables: &[OutputTable]) -> String {
    let mut out = "import com.powersync.db.schema.Column\n\
                   import com.powersync.db.schema.Schema\n\
                   import com.powersync.db.schema.Table\n\n\
                   // Each table has a column `id` of texts besides these.\n\
                   val AppSchema: Schema = Schema(\n"
        .to_owned();
    for table in tables {
        let columns = lines(table, |column| {
            let name = dollar(&column.name);
            format!("            Column.{}({name}),\n", function(column.column_type))
        });
        out.push_str(&format!(
            "    Table(\n        name = {},\n        columns = listOf(\n{columns}        ),\n    ),\n",
            dollar(&table.name)
        ));
    }
    out.push_str(")\n");
    out
}

fn swift(tables: &[OutputTable]) -> String {
    let declared: Vec<_> = tables
        .iter()
        .map(|table| {
            let columns: Vec<_> = table
                .columns
                .iter()
                .map(|column| {
                    format!(
                        "            .{}({})",
                        function(column.column_type),
                        swift_text(&column.name)
                    )
                })
                .collect();
            format!(
                "    Table(\n        name: {},\n        columns: [\n{}\n        ]\n    )",
                swift_text(&table.name),
                columns.join(",\n")
            )
        })
        .collect();
    format!(
        "import PowerSync\n\n// Each table has a column `id` of texts besides these.\nlet AppSchema = \
         Schema(\n{}\n)\n",
        declared.join(",\n")
    )
}

fn sqlite(tables: &[OutputTable]) -> String {
    let mut out = String::new();
    for table in tables {
        let columns = lines(table, |column| {
            let column_type = function(column.column_type).to_uppercase();
            format!(",\n  {} {column_type}", identifier(&column.name))
        });
        out.push_str(&format!(
            "CREATE TABLE {} (\n  id TEXT PRIMARY KEY{columns}\n);\n",
            identifier(&table.name)
        ));
    }
    out
}

/// Quotes a text as JSON does, which is a text of TypeScript.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Quotes a text of Dart and Kotlin, in which `$` begins an expression.
fn dollar(text: &str) -> String {
    json(text).replace('$', "\\$")
}

/// Quotes a text of Swift, which writes a character's number in braces.
fn swift_text(text: &str) -> String {
    let mut out = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if char.is_control() => out.push_str(&format!("\\u{{{:x}}}", u32::from(char))),
            char => out.push(char),
        }
    }
    out.push('"');
    out
}

/// Quotes a name of SQLite.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn tables() -> Vec<OutputTable> {
        let column = |name: &str, column_type| OutputColumn { name: name.to_owned(), column_type };
        let columns = vec![
            column("list_id", ColumnType::Text),
            column("done", ColumnType::Integer),
            column("a \"b\" $c", ColumnType::Real),
        ];
        vec![OutputTable { name: "todos".into(), columns }]
    }

    #[test]
    fn each_language_declares_tables_as_its_sdk_does() {
        expect![[r#"
            import 'package:powersync/powersync.dart';

            // Each table has a column `id` of texts besides these.
            const schema = Schema([
              Table("todos", [
                Column.text("list_id"),
                Column.integer("done"),
                Column.real("a \"b\" \$c"),
              ]),
            ]);
        "#]]
        .assert_eq(&render(&tables(), ClientLanguage::Dart));
        expect![[r#"
            import com.powersync.db.schema.Column
            import com.powersync.db.schema.Schema
            import com.powersync.db.schema.Table

            // Each table has a column `id` of texts besides these.
            val AppSchema: Schema = Schema(
                Table(
                    name = "todos",
                    columns = listOf(
                        Column.text("list_id"),
                        Column.integer("done"),
                        Column.real("a \"b\" \$c"),
                    ),
                ),
            )
        "#]]
        .assert_eq(&render(&tables(), ClientLanguage::Kotlin));
        expect![[r#"
            import PowerSync

            // Each table has a column `id` of texts besides these.
            let AppSchema = Schema(
                Table(
                    name: "todos",
                    columns: [
                        .text("list_id"),
                        .integer("done"),
                        .real("a \"b\" $c")
                    ]
                )
            )
        "#]]
        .assert_eq(&render(&tables(), ClientLanguage::Swift));
    }

    #[test]
    fn sqlite_executes_its_schema() {
        let sql = render(&tables(), ClientLanguage::Sqlite);
        let database = rusqlite::Connection::open_in_memory().unwrap();
        database.execute_batch(&sql).unwrap();
        let columns: Vec<String> = database
            .prepare("SELECT name || ' ' || type FROM pragma_table_info('todos')")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(columns, ["id TEXT", "list_id TEXT", "done INTEGER", "a \"b\" $c REAL"]);
    }
}
