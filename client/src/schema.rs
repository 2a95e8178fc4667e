//! The app's schema: the typed tables of the synced rows.

use std::fmt;

use rusqlite::Connection;

use text::{Token, split, tokens};

mod text;

/// The prefix of all our names in the app's database.
pub(crate) const INTERNAL_PREFIX: &str = "_tw_";

/// The synced tables and their indexes, as SQLite statements.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub(crate) tables: Vec<Table>,
    pub(crate) indexes: Vec<Index>,
}

/// An error in a schema with its position. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError {
    /// The line of the text.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// The message.
    pub message: String,
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schema line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for SchemaError {}

/// A synced table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// The columns without `id` and without generated ones.
    pub(crate) columns: Vec<Column>,
    /// The parts between the parentheses.
    pub(crate) elements: Vec<Element>,
    /// The text after the parentheses in normal form (`strict , without rowid`).
    pub(crate) suffix: String,
    /// The statement as written.
    pub(crate) sql: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The default as an SQL expression. A row that lacks the column gets it.
    pub(crate) default: Option<String>,
}

/// A column definition or a table constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// The text as written.
    pub(crate) sql: String,
    /// The normal form: equal for elements that mean the same.
    pub(crate) normal: String,
    /// The column's name, for a column definition.
    pub(crate) column: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) name: String,
    pub(crate) normal: String,
    pub(crate) sql: String,
}

impl Schema {
    /// Parses `CREATE TABLE` and `CREATE INDEX` statements. SQLite itself validates them. Each
    /// table needs a column `id` of type text as its primary key.
    ///
    /// # Errors
    /// The first error with its position.
    pub fn parse(sql: &str) -> Result<Self, SchemaError> {
        Parser::new(sql)?.parse()
    }

    /// Returns the names of the tables, in the order of the text.
    pub fn table_names(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().map(|table| table.name.as_str())
    }
}

struct Parser<'a> {
    sql: &'a str,
    /// An empty database, in which SQLite validates the statements.
    scratch: Connection,
    schema: Schema,
}

impl<'a> Parser<'a> {
    fn new(sql: &'a str) -> Result<Self, SchemaError> {
        let scratch = Connection::open_in_memory().map_err(|error| SchemaError {
            line: 1,
            column: 1,
            message: format!("cannot start SQLite: {error}"),
        })?;
        Ok(Self { sql, scratch, schema: Schema::default() })
    }

    fn parse(mut self) -> Result<Schema, SchemaError> {
        let all = tokens(self.sql);
        for statement in split(&all, ";") {
            if !statement.is_empty() {
                self.statement(statement)?;
            }
        }
        Ok(self.schema)
    }

    fn error(&self, place: usize, message: impl Into<String>) -> SchemaError {
        let (line, column) = text::line_and_column(self.sql, place);
        SchemaError { line, column, message: message.into() }
    }

    fn statement(&mut self, statement: &[Token<'_>]) -> Result<(), SchemaError> {
        let mut rest = statement;
        let start = statement[0];
        let kind = if take(&mut rest, &["CREATE", "TABLE"]) {
            StatementKind::Table
        } else if take(&mut rest, &["CREATE", "INDEX"])
            || take(&mut rest, &["CREATE", "UNIQUE", "INDEX"])
        {
            StatementKind::Index
        } else {
            let found: Vec<_> = statement.iter().take(2).map(|token| token.text).collect();
            let found = found.join(" ");
            let message =
                format!("only CREATE TABLE and CREATE INDEX are allowed here, not '{found}'");
            return Err(self.error(start.start, message));
        };

        take(&mut rest, &["IF", "NOT", "EXISTS"]);
        let name = self.new_name(rest.first().copied(), start)?;
        rest = &rest[1..];
        self.validate(statement)?;

        match kind {
            StatementKind::Table => self.table(statement, name, rest),
            StatementKind::Index => {
                let index = Index { name, normal: normal(statement), sql: self.text(statement) };
                self.schema.indexes.push(index);
                Ok(())
            }
        }
    }

    fn new_name(&self, token: Option<Token<'_>>, start: Token<'_>) -> Result<String, SchemaError> {
        let token = token
            .filter(|token| token.is_name())
            .ok_or_else(|| self.error(start.start, "a name is missing"))?;
        let name = token.name();
        if name.to_ascii_lowercase().starts_with(INTERNAL_PREFIX) {
            let message = format!("names that start with '{INTERNAL_PREFIX}' are reserved");
            return Err(self.error(token.start, message));
        }
        Ok(name)
    }

    /// Runs the statement in an empty database.
    fn validate(&self, statement: &[Token<'_>]) -> Result<(), SchemaError> {
        let start = statement[0].start;
        self.scratch.execute_batch(&self.text(statement)).map_err(|error| {
            if let rusqlite::Error::SqlInputError { msg, offset, .. } = error {
                let inside = usize::try_from(offset).unwrap_or(0);
                return self.error(start + inside, msg);
            }
            self.error(start, error.to_string())
        })
    }

    fn table(
        &mut self,
        statement: &[Token<'_>],
        name: String,
        rest: &[Token<'_>],
    ) -> Result<(), SchemaError> {
        let place = statement[0].start;
        if rest.first().is_none_or(|token| token.text != "(") {
            let message =
                format!("table '{name}' must list its columns: no database prefix, no 'AS SELECT'");
            return Err(self.error(rest.first().map_or(place, |token| token.start), message));
        }

        let close = closing(rest);
        let elements = split(&rest[1..close], ",");
        let (columns, names) = self.columns(&name, place)?;
        let elements: Vec<_> = elements
            .into_iter()
            .filter(|element| !element.is_empty())
            .map(|element| Element {
                sql: self.text(element),
                normal: normal(element),
                column: names
                    .iter()
                    .find(|column| {
                        element[0].name().eq_ignore_ascii_case(column) && !is_constraint(element)
                    })
                    .cloned(),
            })
            .collect();

        let suffix = normal(&rest[(close + 1).min(rest.len())..]);
        let sql = self.text(statement);
        self.schema.tables.push(Table { name, columns, elements, suffix, sql });
        Ok(())
    }

    /// Returns the synced columns, and the names of all columns.
    fn columns(
        &self,
        table: &str,
        place: usize,
    ) -> Result<(Vec<Column>, Vec<String>), SchemaError> {
        let mut select = self
            .scratch
            .prepare("SELECT name, type, dflt_value, pk, hidden FROM pragma_table_xinfo(?1)")
            .map_err(|error| self.error(place, error.to_string()))?;

        let found = select
            .query_map([table], |row| {
                let column = Column { name: row.get(0)?, default: row.get(2)? };
                Ok((column, row.get::<_, String>(1)?, row.get::<_, i64>(3)?, row.get::<_, i64>(4)?))
            })
            .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
            .map_err(|error| self.error(place, error.to_string()))?;

        let keys = found.iter().filter(|(_, _, key, _)| *key > 0).count();
        let id_is_key = found
            .iter()
            .any(|(column, declared, key, _)| column.name == "id" && *key > 0 && is_text(declared));
        if !id_is_key || keys != 1 {
            let message =
                format!("table '{table}' needs the column 'id TEXT PRIMARY KEY' as its only key");
            return Err(self.error(place, message));
        }

        let names = found.iter().map(|(column, ..)| column.name.clone()).collect();
        let synced = found
            .into_iter()
            .filter(|(column, _, _, hidden)| *hidden == 0 && column.name != "id")
            .map(|(column, ..)| column)
            .collect();
        Ok((synced, names))
    }

    fn text(&self, tokens: &[Token<'_>]) -> String {
        match (tokens.first(), tokens.last()) {
            (Some(first), Some(last)) => self.sql[first.start..last.end()].to_owned(),
            _ => String::new(),
        }
    }
}

#[derive(Clone, Copy)]
enum StatementKind {
    Table,
    Index,
}

/// Returns whether a declared type has text affinity, by SQLite's rule.
fn is_text(declared: &str) -> bool {
    let declared = declared.to_ascii_uppercase();
    !declared.contains("INT") && ["CHAR", "CLOB", "TEXT"].iter().any(|t| declared.contains(t))
}

fn is_constraint(element: &[Token<'_>]) -> bool {
    ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"].iter().any(|word| element[0].is(word))
}

fn normal(tokens: &[Token<'_>]) -> String {
    tokens.iter().map(|token| token.normal()).collect::<Vec<_>>().join(" ")
}

/// Consumes the words if they come next.
fn take(rest: &mut &[Token<'_>], words: &[&str]) -> bool {
    let found = rest.len() >= words.len() && rest.iter().zip(words).all(|(t, word)| t.is(word));
    if found {
        *rest = &rest[words.len()..];
    }
    found
}

/// Returns the index of the parenthesis that closes the first token.
fn closing(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests;
