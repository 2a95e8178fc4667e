//! The database and the sync config of the random tests.
//!
//! Small in tables and large in cases: every kind of replica identity, values that are kept out of
//! line, keys that change, output ids that are not the key, and each kind of query.

use serde_json::Value;

/// The tables, and a publication of all of them.
///
/// `body` columns are stored out of line and uncompressed once they are long, so that an UPDATE
/// which leaves them alone does not send them. What apps write comes through a backend that knows
/// nothing of these tests, so PostgreSQL itself announces it, in a table of its own.
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

/// Its sync config, the hand-written counterpart of `model.rs`.
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
    /// Global, with a filter; its id is not named so.
    Settings,
    /// Of the owner and of members.
    Lists,
    /// What `Lists` and `Todos` are shared by.
    Memberships,
    /// Replica identity default, many types, out-of-line values.
    Todos,
    /// Composite key; the output id is another column.
    Stock,
    /// Replica identity by index, no primary key.
    Notes,
    /// Replica identity full, out-of-line values.
    Documents,
    /// Replica identity full, no key.
    Events,
    /// Of those with a claim.
    Audit,
    /// Of an explicit subscription.
    Comments,
    /// What apps write.
    Drafts,
}

/// How a column's text becomes a value of SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Real,
    Boolean,
    /// Printed by PostgreSQL in UTC.
    Timestamptz,
}

impl Table {
    /// All of them.
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

    /// Its name.
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

    /// Its columns, in order.
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

    /// Those that devices see, `id` apart where another column gives it.
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

    /// How many columns, the first ones, identify a row. The test keeps `code` of the keyless
    /// table unique.
    pub(crate) const fn key_columns(self) -> usize {
        if matches!(self, Self::Stock) { 2 } else { 1 }
    }
}

impl Kind {
    /// What PostgreSQL prints, as SQLite holds it.
    ///
    /// # Panics
    /// When PostgreSQL prints what the tests never write.
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
