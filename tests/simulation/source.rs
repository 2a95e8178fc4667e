//! A model of the source database: transactions in commit order, and the state after each.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};
use tidewater_tests::Rows;

/// Bytes of log per transaction: positions are multiples of it.
const STEP: u64 = 16;

pub(crate) const USERS: [&str; 3] = ["u1", "u2", "u3"];

pub(crate) const TODOS: usize = 0;
pub(crate) const MEMBERS: usize = 1;
pub(crate) const NOTES: usize = 2;

/// Two configs that differ: a change of one for the other copies everything anew.
pub(crate) const CONFIGS: [&str; 2] = [
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
];

/// Columns of each table; the first is the key, but for the notes, which have none.
pub(crate) const TABLES: [(&str, &[&str]); 3] = [
    ("todos", &["id", "owner", "list", "body"]),
    ("members", &["id", "usr", "list"]),
    ("notes", &["id", "owner"]),
];

pub(crate) type Row = Vec<String>;

/// What a transaction did.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Insert(usize, Row),
    Update { table: usize, old: Row, new: Row },
    Delete(usize, Row),
    Truncate(usize),
}

#[derive(Clone, Debug)]
pub(crate) enum Transaction {
    Changes(Vec<Change>),
    /// The worker's message, by which tickets are covered.
    Message(u64),
}

/// The rows of each table at one commit; notes may be there several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) tables: [Vec<Row>; 3],
}

#[derive(Default)]
pub(crate) struct Source {
    log: Vec<Transaction>,
    states: Vec<State>,
}

impl Source {
    /// End of the last transaction.
    pub(crate) fn position(&self) -> u64 {
        (self.log.len() as u64 + 1) * STEP
    }

    /// The transaction that begins at a position, and its end.
    pub(crate) fn next(&self, after: u64) -> Option<(Transaction, u64)> {
        let index = usize::try_from(after.max(STEP) / STEP - 1).unwrap();
        Some((self.log.get(index)?.clone(), (index as u64 + 2) * STEP))
    }

    pub(crate) fn now(&self) -> State {
        self.states.last().cloned().unwrap_or_default()
    }

    pub(crate) fn at(&self, position: u64) -> State {
        let commits = usize::try_from(position.max(STEP) / STEP - 1).unwrap();
        if commits == 0 { State::default() } else { self.states[commits - 1].clone() }
    }

    pub(crate) fn message(&mut self, ticket: u64) {
        self.log.push(Transaction::Message(ticket));
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

fn pick<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    from[rng.random_range(0..from.len())]
}

fn random_row(rng: &mut StdRng, table: usize) -> Row {
    let lists = ["l1", "l2", "l3"];
    let row: Vec<String> = match table {
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
    };
    row
}

impl State {
    fn random_change(&mut self, rng: &mut StdRng) -> Option<Change> {
        let table = [TODOS, TODOS, TODOS, MEMBERS, NOTES][rng.random_range(0..5)];
        let rows = &mut self.tables[table];
        let is_taken =
            |rows: &[Row], row: &Row| table != NOTES && rows.iter().any(|r| r[0] == row[0]);
        match rng.random_range(0..20) {
            0 => {
                rows.clear();
                Some(Change::Truncate(table))
            }
            1..6 if !rows.is_empty() => {
                let row = rows.swap_remove(rng.random_range(0..rows.len()));
                Some(Change::Delete(table, row))
            }
            6..12 if !rows.is_empty() => {
                let old = rows.swap_remove(rng.random_range(0..rows.len()));
                let mut new = random_row(rng, table);
                // Mostly the key stays; else it moves, if it can.
                if rng.random_range(0..4) > 0 || is_taken(rows, &new) {
                    new[0].clone_from(&old[0]);
                }
                rows.push(new.clone());
                Some(Change::Update { table, old, new })
            }
            _ => {
                let row = random_row(rng, table);
                if is_taken(rows, &row) {
                    return None;
                }
                rows.push(row.clone());
                Some(Change::Insert(table, row))
            }
        }
    }

    /// What a user must see: a plain scan.
    pub(crate) fn visible_to(&self, user: &str) -> Rows {
        let lists: BTreeSet<&String> = self.tables[MEMBERS]
            .iter()
            .filter(|member| member[1] == user)
            .map(|member| &member[2])
            .collect();
        let mut rows = BTreeMap::new();
        let object = |table: usize, row: &Row| -> Map<String, Value> {
            let columns = TABLES[table].1.iter().map(|&column| column.to_owned());
            columns.zip(row.iter().map(|value| json!(value))).collect()
        };
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
