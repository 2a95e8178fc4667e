//! A model of the source database: its transactions in commit order, and the rows after each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};
use tidewater_ingest_worker::simulation::encode::{self, OldTuple};
use tidewater_ingest_worker::simulation::{
    Datum, Event, MESSAGE_PREFIX, PgSnapshot, Relation, RelationColumn,
};
use tidewater_storage::Lsn;
use tidewater_tests::Rows;

/// Bytes of WAL for each transaction.
///
/// The WAL begins at this LSN, since LSN 0 is no position. The transaction with index `i` occupies the
/// bytes from `(i + 1) * STEP` to `(i + 2) * STEP`. Its commit record begins 4 bytes before its end.
const STEP: u64 = 16;

/// Bytes of a commit record.
const COMMIT_RECORD: u64 = 4;

/// The xid of the first transaction.
const FIRST_XID: u32 = 700;

/// The OID of PostgreSQL's type `text`.
pub(crate) const TEXT_OID: u32 = 25;

pub(crate) const USERS: [&str; 3] = ["u1", "u2", "u3"];

pub(crate) const TODOS: usize = 0;
pub(crate) const MEMBERS: usize = 1;
pub(crate) const NOTES: usize = 2;

/// Sync configs that give every user the same rows by different buckets; `rows_for` is the model of all.
/// Each shares a definition with each other one.
pub(crate) const CONFIGS: [&str; 3] = [
    "config: {edition: 3}
streams:
  everything: {auto_subscribe: true, query: 'SELECT id, body FROM todos AS everything'}
  mine: {auto_subscribe: true, priority: 1, query: SELECT * FROM todos WHERE owner = auth.user_id()}
  shared:
    auto_subscribe: true
    query: SELECT * FROM todos WHERE list IN (SELECT list FROM members WHERE usr = auth.user_id())
  notes: {auto_subscribe: true, query: SELECT * FROM notes WHERE owner = auth.user_id()}
",
    "config: {edition: 3}
streams:
  visible:
    auto_subscribe: true
    queries:
      - SELECT id, body FROM todos AS everything
  own:
    auto_subscribe: true
    query: SELECT * FROM todos WHERE owner = auth.user_id() OR list IN (SELECT list FROM members WHERE usr = auth.user_id())
  notes: {auto_subscribe: true, query: SELECT * FROM notes WHERE owner = auth.user_id()}
",
    "config: {edition: 3}
streams:
  own:
    auto_subscribe: true
    query: SELECT * FROM todos WHERE owner = auth.user_id() OR list IN (SELECT list FROM members WHERE usr = auth.user_id())
  everything: {auto_subscribe: true, query: 'SELECT id, body FROM todos AS everything'}
  my_notes: {auto_subscribe: true, query: SELECT * FROM notes WHERE owner = auth.user_id()}
",
];

/// Names and columns of the tables. The first column is the key, except of the notes, which have none.
pub(crate) const TABLES: [(&str, &[&str]); 3] = [
    ("todos", &["id", "owner", "list", "body"]),
    ("members", &["id", "usr", "list"]),
    ("notes", &["id", "owner"]),
];

pub(crate) type Row = Vec<String>;

/// A change of one row or table.
#[derive(Clone, Debug)]
pub(crate) enum RowChange {
    Insert(usize, Row),
    Update { table: usize, old: Row, new: Row },
    Delete(usize, Row),
    Truncate(usize),
}

#[derive(Clone, Debug)]
enum Transaction {
    Changes(Vec<RowChange>),
    /// A logical message of a worker, with its content.
    Message(String),
}

/// The rows of each table at one commit. Equal notes may exist several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceState {
    pub(crate) tables: [Vec<Row>; 3],
}

/// An event of the stream.
pub(crate) struct StreamedEvent {
    pub(crate) event: Event,
    /// The change that an [`Event::Data`] brings, in short. Descriptions of tables have none.
    pub(crate) change: Option<String>,
}

/// A snapshot of PostgreSQL and the rows that it sees.
pub(crate) struct SourceSnapshot {
    pub(crate) state: SourceState,
    pub(crate) snapshot: PgSnapshot,
}

#[derive(Default)]
pub(crate) struct SourceModel {
    log: Vec<Transaction>,
    states: Vec<SourceState>,
    /// Number of transactions that new snapshots see.
    ///
    /// The stream sends the others, too: they are committed, but with synchronous replication it
    /// can take minutes until they are visible.
    seen_by_snapshots: usize,
}

/// Returns the OID of a table.
pub(crate) fn oid(table: usize) -> u32 {
    100 + u32::try_from(table).unwrap()
}

/// Returns the xid of the transaction with this index.
fn xid(index: usize) -> u32 {
    FIRST_XID + u32::try_from(index).unwrap()
}

/// Returns the index of a transaction.
fn index_of(xid: u32) -> usize {
    (xid - FIRST_XID) as usize
}

/// Returns the LSN at which the transaction with this index begins.
fn start_of(index: usize) -> Lsn {
    Lsn((index as u64 + 1) * STEP)
}

/// Returns the LSN at which the transaction with this index ends.
fn end_of(index: usize) -> Lsn {
    start_of(index + 1)
}

/// Returns the index of the first transaction that ends after an LSN, which is the number of those
/// that do not.
fn index_after(lsn: Lsn) -> usize {
    usize::try_from(lsn.0.max(STEP) / STEP - 1).unwrap()
}

impl SourceModel {
    /// Returns the end of the last transaction.
    pub(crate) fn end_lsn(&self) -> Lsn {
        start_of(self.log.len())
    }

    /// Returns the stream's events for the first transaction that ends after an LSN, and its end.
    pub(crate) fn stream(&self, after: Lsn, rng: &mut StdRng) -> Option<(Vec<StreamedEvent>, Lsn)> {
        let index = index_after(after);
        let transaction = self.log.get(index)?;
        let end = end_of(index);

        let mut events = vec![StreamedEvent::new(Event::Begin {
            xid: xid(index),
            commit_lsn: Lsn(end.0 - COMMIT_RECORD),
            commit_time: i64::try_from(end.0).unwrap(),
        })];
        match transaction {
            Transaction::Message(content) => {
                events.push(StreamedEvent::new(Event::LogicalMessage {
                    is_transactional: true,
                    prefix: MESSAGE_PREFIX.to_owned(),
                    content: content.clone().into(),
                }));
            }
            Transaction::Changes(changes) => {
                for change in changes {
                    // PostgreSQL describes a table once. More often does no harm.
                    let description = relation(change.table()).into();
                    events.push(StreamedEvent::new(Event::Data(description)));

                    let event = Event::Data(change.message(rng).into());
                    events.push(StreamedEvent { event, change: Some(change.summary()) });
                }
            }
        }
        events.push(StreamedEvent::new(Event::Commit { end_lsn: end }));
        Some((events, end))
    }

    /// Takes a snapshot that sees these transactions. Later snapshots never see less.
    pub(crate) fn snapshot(&mut self, must_see: &[u32], rng: &mut StdRng) -> SourceSnapshot {
        let needed = must_see.iter().map(|xid| index_of(*xid) + 1).max();
        let earliest = self.seen_by_snapshots.max(needed.unwrap_or_default());
        self.seen_by_snapshots = rng.random_range(earliest..=self.log.len());

        let state = match self.seen_by_snapshots {
            0 => SourceState::default(),
            seen => self.states[seen - 1].clone(),
        };
        let xmax = xid(self.seen_by_snapshots);
        let snapshot = PgSnapshot::parse(&format!("{xmax}:{xmax}:")).unwrap();
        SourceSnapshot { state, snapshot }
    }

    /// Makes all transactions visible: a slot is created only after they have ended.
    pub(crate) fn end_all(&mut self) {
        self.seen_by_snapshots = self.log.len();
    }

    /// Returns the transactions that new snapshots may not see.
    pub(crate) fn in_progress(&self) -> Vec<u32> {
        (self.seen_by_snapshots..self.log.len()).map(xid).collect()
    }

    pub(crate) fn now(&self) -> SourceState {
        self.states.last().cloned().unwrap_or_default()
    }

    /// Returns the rows after the last transaction that ends at an LSN or before it.
    pub(crate) fn at(&self, lsn: Lsn) -> SourceState {
        let commits = index_after(lsn);
        if commits == 0 { SourceState::default() } else { self.states[commits - 1].clone() }
    }

    /// Returns the xid, the end and the content of the last transaction.
    pub(crate) fn describe_last(&self) -> String {
        let Some(transaction) = self.log.last() else { return "no transaction".to_owned() };
        let index = self.log.len() - 1;
        format!("xid {} ends at LSN {}: {transaction}", xid(index), end_of(index))
    }

    pub(crate) fn message(&mut self, content: String) {
        self.log.push(Transaction::Message(content));
        self.states.push(self.now());
    }

    /// Commits a few random changes.
    pub(crate) fn commit_random(&mut self, rng: &mut StdRng) {
        let mut state = self.now();
        let mut changes = Vec::new();
        for _ in 0..rng.random_range(1..5) {
            changes.extend(state.random_change(rng));
        }
        self.log.push(Transaction::Changes(changes));
        self.states.push(state);
    }
}

impl StreamedEvent {
    /// Returns an event that is not a change.
    fn new(event: Event) -> Self {
        Self { event, change: None }
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(content) => write!(f, "message '{content}'"),
            Self::Changes(changes) if changes.is_empty() => f.write_str("no changes"),
            Self::Changes(changes) => {
                let texts: Vec<_> = changes.iter().map(RowChange::to_string).collect();
                f.write_str(&texts.join(", "))
            }
        }
    }
}

impl fmt::Display for RowChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = TABLES[self.table()].0;
        match self {
            Self::Insert(_, row) => write!(f, "INSERT {name} ({})", row.join(" ")),
            Self::Delete(_, row) => write!(f, "DELETE {name} ({})", row.join(" ")),
            Self::Truncate(_) => write!(f, "TRUNCATE {name}"),
            Self::Update { old, new, .. } => {
                write!(f, "UPDATE {name} ({}) to ({})", old.join(" "), new.join(" "))
            }
        }
    }
}

impl RowChange {
    /// Returns the operation, the table and the first column of the row, which is the key if the table
    /// has one.
    fn summary(&self) -> String {
        let name = TABLES[self.table()].0;
        match self {
            Self::Insert(_, row) => format!("INSERT {name} {}", row[0]),
            Self::Delete(_, row) => format!("DELETE {name} {}", row[0]),
            Self::Truncate(_) => format!("TRUNCATE {name}"),
            Self::Update { old, new, .. } if old[0] == new[0] => {
                format!("UPDATE {name} {}", new[0])
            }
            Self::Update { old, new, .. } => format!("UPDATE {name} {} to {}", old[0], new[0]),
        }
    }

    fn table(&self) -> usize {
        match self {
            Self::Insert(table, _) | Self::Delete(table, _) | Self::Truncate(table) => *table,
            Self::Update { table, .. } => *table,
        }
    }

    /// Returns the message of the stream.
    ///
    /// It leaves out some values that did not change, as PostgreSQL does with out-of-line values.
    fn message(&self, rng: &mut StdRng) -> Vec<u8> {
        match self {
            Self::Insert(table, row) => encode::insert(oid(*table), &texts(row)),
            Self::Delete(NOTES, row) => encode::delete(oid(NOTES), OldTuple::Row, &texts(row)),
            Self::Delete(table, row) => encode::delete(oid(*table), OldTuple::Key, &key(row)),
            Self::Truncate(table) => encode::truncate(&[oid(*table)]),
            Self::Update { table, old, new } => {
                let mut values = texts(new);
                if *table == NOTES {
                    let old = (OldTuple::Row, &texts(old)[..]);
                    return encode::update(oid(NOTES), Some(old), &values);
                }

                for column in 1..values.len() {
                    if old[column] == new[column] && rng.random_range(0..8) == 0 {
                        values[column] = Datum::Unchanged;
                    }
                }

                let old_key = key(old);
                let old = (old[0] != new[0]).then_some((OldTuple::Key, &old_key[..]));
                encode::update(oid(*table), old, &values)
            }
        }
    }
}

/// Returns the message that describes a table.
fn relation(table: usize) -> Vec<u8> {
    let (name, column_names) = TABLES[table];
    let mut columns = Vec::new();
    for (at, name) in column_names.iter().enumerate() {
        columns.push(RelationColumn {
            in_identity: table == NOTES || at == 0,
            name: (*name).to_owned(),
            type_oid: TEXT_OID,
        });
    }

    encode::relation(&Relation {
        oid: oid(table),
        schema: "public".to_owned(),
        name: name.to_owned(),
        replica_identity: if table == NOTES { b'f' } else { b'd' },
        columns,
    })
}

fn texts(row: &Row) -> Vec<Datum<'_>> {
    row.iter().map(|value| Datum::Text(value)).collect()
}

/// Returns a row of which only the key is set.
fn key(row: &Row) -> Vec<Datum<'_>> {
    let mut values = vec![Datum::Null; row.len()];
    values[0] = Datum::Text(&row[0]);
    values
}

fn pick<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    from[rng.random_range(0..from.len())]
}

fn random_row(rng: &mut StdRng, table: usize) -> Row {
    let lists = ["l1", "l2", "l3"];
    match table {
        TODOS => {
            let id = format!("t{}", rng.random_range(0..8));
            let body = format!("b{}", rng.random_range(0..3));
            vec![id, pick(rng, &USERS).into(), pick(rng, &lists).into(), body]
        }
        MEMBERS => {
            let id = format!("m{}", rng.random_range(0..5));
            vec![id, pick(rng, &USERS).into(), pick(rng, &lists).into()]
        }
        _ => vec![format!("n{}", rng.random_range(0..3)), pick(rng, &USERS).into()],
    }
}

/// Returns whether the table has a row with the key of `row`. Notes have no key.
fn has_key(table: usize, rows: &[Row], row: &Row) -> bool {
    table != NOTES && rows.iter().any(|other| other[0] == row[0])
}

impl SourceState {
    fn random_change(&mut self, rng: &mut StdRng) -> Option<RowChange> {
        let table = [TODOS, TODOS, TODOS, MEMBERS, NOTES][rng.random_range(0..5)];
        let rows = &mut self.tables[table];

        match rng.random_range(0..20) {
            0 => {
                rows.clear();
                Some(RowChange::Truncate(table))
            }
            1..6 if !rows.is_empty() => {
                let row = rows.swap_remove(rng.random_range(0..rows.len()));
                Some(RowChange::Delete(table, row))
            }
            6..12 if !rows.is_empty() => {
                let old = rows.swap_remove(rng.random_range(0..rows.len()));
                let mut new = random_row(rng, table);
                // A quarter of the updates change the key, unless another row has the new key.
                if rng.random_range(0..4) > 0 || has_key(table, rows, &new) {
                    new[0].clone_from(&old[0]);
                }
                rows.push(new.clone());
                Some(RowChange::Update { table, old, new })
            }
            _ => {
                let row = random_row(rng, table);
                if has_key(table, rows, &row) {
                    return None;
                }
                rows.push(row.clone());
                Some(RowChange::Insert(table, row))
            }
        }
    }

    /// Returns the rows that a user must see, by a scan of all rows.
    pub(crate) fn rows_for(&self, user: &str) -> Rows {
        let lists: BTreeSet<&String> = self.tables[MEMBERS]
            .iter()
            .filter(|member| member[1] == user)
            .map(|member| &member[2])
            .collect();

        let mut rows = BTreeMap::new();
        for todo in &self.tables[TODOS] {
            let mut short = object(TODOS, todo);
            short.retain(|column, _| column == "id" || column == "body");
            rows.insert(("everything".to_owned(), todo[0].clone()), short);
            if todo[1] == user || lists.contains(&todo[2]) {
                rows.insert(("todos".to_owned(), todo[0].clone()), object(TODOS, todo));
            }
        }

        for note in self.tables[NOTES].iter().filter(|note| note[1] == user) {
            rows.insert(("notes".to_owned(), note[0].clone()), object(NOTES, note));
        }
        rows
    }
}

/// Returns a row with the names of its columns.
fn object(table: usize, row: &Row) -> Map<String, Value> {
    let columns = TABLES[table].1.iter().map(|&column| column.to_owned());
    columns.zip(row.iter().map(|value| json!(value))).collect()
}
