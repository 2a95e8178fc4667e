//! The database and the sync config of the random tests.
//!
//! The tables have every kind of replica identity, out-of-line values, keys that change, and output
//! ids that are not the key. The sync config has each kind of query.

use serde_json::Value;

/// SQL that creates the tables and a publication of all of them.
///
/// PostgreSQL stores long values of the `body` columns out of line and uncompressed, so an UPDATE
/// that does not change them does not send them. Apps write through a backend that cannot announce
/// its transactions to the model, so a trigger stores their effects in the table `announced`.
pub const CREATE_SQL: &str = "
    CREATE TABLE settings (key text PRIMARY KEY, visibility text, value text);
    CREATE TABLE lists (id text PRIMARY KEY, owner_id text, name text, archived boolean);
    CREATE TABLE memberships (id bigint PRIMARY KEY, list_id text, user_id text);
    CREATE TABLE todos (
        id uuid PRIMARY KEY, list_id text, owner_id text, title text, done boolean,
        amount numeric, score float8, due timestamptz, body text);
    ALTER TABLE todos ALTER COLUMN body SET STORAGE EXTERNAL;
    CREATE TABLE stock (
        site text, item int, code text NOT NULL UNIQUE, qty bigint, PRIMARY KEY (site, item));
    CREATE TABLE notes (code text NOT NULL, owner_id text, body text);
    CREATE UNIQUE INDEX notes_code ON notes (code);
    ALTER TABLE notes REPLICA IDENTITY USING INDEX notes_code;
    ALTER TABLE notes ALTER COLUMN body SET STORAGE EXTERNAL;
    CREATE TABLE documents (id int PRIMARY KEY, owner_id text, deleted_at date, body text);
    ALTER TABLE documents REPLICA IDENTITY FULL;
    ALTER TABLE documents ALTER COLUMN body SET STORAGE EXTERNAL;
    CREATE TABLE events (code text, level int, message text);
    ALTER TABLE events REPLICA IDENTITY FULL;
    CREATE TABLE audit (id int PRIMARY KEY, actor text, action text);
    CREATE TABLE comments (id bigint PRIMARY KEY, list_id text, details jsonb);
    CREATE TABLE drafts (id text PRIMARY KEY, owner_id text, body text);
    CREATE TABLE unused (n int);
    CREATE PUBLICATION powersync FOR TABLE
        settings, lists, memberships, todos, stock, notes, documents, events, audit, comments,
        drafts;
    CREATE TABLE announced (
        number bigint GENERATED ALWAYS AS IDENTITY, transaction_id text,
        gone boolean, id text, owner_id text, body text);
    CREATE FUNCTION announce() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE draft drafts := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
        BEGIN
            INSERT INTO announced (transaction_id, gone, id, owner_id, body)
                VALUES (pg_current_xact_id()::text, TG_OP = 'DELETE', draft.*);
            RETURN NULL;
        END $$;
    CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON drafts
        FOR EACH ROW EXECUTE FUNCTION announce();
";

/// The sync config. `model.rs` is its hand-written counterpart.
pub const SYNC_CONFIG: &str = "
config:
  edition: 3
streams:
  everyone:
    auto_subscribe: true
    priority: 0
    queries:
      - SELECT key AS id, value FROM settings WHERE visibility = 'public'
      - SELECT code AS id, site, item, qty FROM stock
      - SELECT code AS id, level, message FROM events WHERE level >= 3
  own:
    auto_subscribe: true
    priority: 1
    queries:
      - SELECT * FROM todos WHERE owner_id = auth.user_id()
      - SELECT code AS id, body FROM notes WHERE owner_id = auth.user_id()
      - SELECT * FROM documents WHERE owner_id = auth.user_id() AND deleted_at IS NULL
      - SELECT * FROM memberships WHERE user_id = auth.user_id()
      - SELECT * FROM drafts WHERE owner_id = auth.user_id()
  lists:
    auto_subscribe: true
    query: >
      SELECT * FROM lists WHERE archived = 0 AND (owner_id = auth.user_id() OR
      id IN (SELECT list_id FROM memberships WHERE user_id = auth.user_id()))
  shared:
    auto_subscribe: true
    query: >
      SELECT * FROM todos WHERE
      list_id IN (SELECT list_id FROM memberships WHERE user_id = auth.user_id())
  audit:
    auto_subscribe: true
    query: SELECT id, actor, action FROM audit WHERE auth.parameter('role') = 'admin'
  comments:
    query: >
      SELECT * FROM comments WHERE list_id = subscription.parameter('list') AND
      list_id IN (SELECT list_id FROM memberships WHERE user_id = auth.user_id())
";

/// A table of the random tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// A global table with a filter, and with an id of another name.
    Settings,
    /// A table whose rows the owner and the members of a list see.
    Lists,
    /// The table by which lists and to-dos are shared.
    Memberships,
    /// A table with many types, out-of-line values and the default replica identity.
    Todos,
    /// A table with a composite key, whose output id is another column.
    Stock,
    /// A table with a replica identity by index and without a primary key.
    Notes,
    /// A table with out-of-line values and full replica identity.
    Documents,
    /// A table without a key, with full replica identity.
    Events,
    /// A table whose rows only users with a claim see.
    Audit,
    /// A table that needs an explicit subscription.
    Comments,
    /// The table that apps write to.
    Drafts,
}

/// The conversion from a column's text to a value of SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Real,
    Boolean,
    /// A `timestamptz`, which the sessions of the tests print in UTC.
    Timestamptz,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 11] = [
        Self::Settings,
        Self::Lists,
        Self::Memberships,
        Self::Todos,
        Self::Stock,
        Self::Notes,
        Self::Documents,
        Self::Events,
        Self::Audit,
        Self::Comments,
        Self::Drafts,
    ];

    /// Returns the name in PostgreSQL and on devices.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Lists => "lists",
            Self::Memberships => "memberships",
            Self::Todos => "todos",
            Self::Stock => "stock",
            Self::Notes => "notes",
            Self::Documents => "documents",
            Self::Events => "events",
            Self::Audit => "audit",
            Self::Comments => "comments",
            Self::Drafts => "drafts",
        }
    }

    /// Returns the columns, in order.
    pub(crate) const fn columns(self) -> &'static [(&'static str, Kind)] {
        use Kind::{Boolean, Integer, Real, Text, Timestamptz};
        match self {
            Self::Settings => &[("key", Text), ("visibility", Text), ("value", Text)],
            Self::Lists => {
                &[("id", Text), ("owner_id", Text), ("name", Text), ("archived", Boolean)]
            }
            Self::Memberships => &[("id", Integer), ("list_id", Text), ("user_id", Text)],
            Self::Todos => &[
                ("id", Text),
                ("list_id", Text),
                ("owner_id", Text),
                ("title", Text),
                ("done", Boolean),
                ("amount", Text),
                ("score", Real),
                ("due", Timestamptz),
                ("body", Text),
            ],
            Self::Stock => &[("site", Text), ("item", Integer), ("code", Text), ("qty", Integer)],
            Self::Notes => &[("code", Text), ("owner_id", Text), ("body", Text)],
            Self::Documents => {
                &[("id", Integer), ("owner_id", Text), ("deleted_at", Text), ("body", Text)]
            }
            Self::Events => &[("code", Text), ("level", Integer), ("message", Text)],
            Self::Audit => &[("id", Integer), ("actor", Text), ("action", Text)],
            Self::Comments => &[("id", Integer), ("list_id", Text), ("details", Text)],
            Self::Drafts => &[("id", Text), ("owner_id", Text), ("body", Text)],
        }
    }

    /// Returns the columns that devices have, without an `id` that comes from another column.
    pub(crate) fn synced_columns(self) -> Vec<(&'static str, Kind)> {
        let hidden: &[&str] = match self {
            Self::Settings => &["key", "visibility"],
            Self::Stock | Self::Events => &["code"],
            Self::Notes => &["code", "owner_id"],
            Self::Lists
            | Self::Memberships
            | Self::Todos
            | Self::Documents
            | Self::Audit
            | Self::Comments
            | Self::Drafts => &[],
        };

        let columns = self.columns().iter().copied();
        columns.filter(|(name, _)| !hidden.contains(name)).collect()
    }

    /// Returns the number of leading columns that identify a row.
    ///
    /// Writers keep the `code` of the keyless table unique.
    pub(crate) const fn key_columns(self) -> usize {
        if matches!(self, Self::Stock) { 2 } else { 1 }
    }
}

impl Kind {
    /// Converts a value that PostgreSQL has printed to the value that devices store.
    ///
    /// # Panics
    /// Panics when the tests never write such a value.
    pub(crate) fn value(self, text: Option<&str>) -> Value {
        let Some(text) = text else { return Value::Null };
        match self {
            Self::Text => text.into(),
            Self::Integer => text.parse::<i64>().expect("an integer column").into(),
            Self::Real => text.parse::<f64>().expect("a float column").into(),
            Self::Boolean => i64::from(text == "t").into(),
            Self::Timestamptz => {
                let (day, time) = text.split_once(' ').expect("a timestamp");
                let time = time.strip_suffix("+00").expect("the session's time zone is UTC");
                let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
                format!("{day}T{seconds}.{fraction:0<6}Z").into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_have_six_digits() {
        let value = Kind::Timestamptz.value(Some("2024-02-29 23:59:58.25+00"));
        assert_eq!(value, "2024-02-29T23:59:58.250000Z");
        let value = Kind::Timestamptz.value(Some("2024-02-29 23:59:58+00"));
        assert_eq!(value, "2024-02-29T23:59:58.000000Z");
    }
}
