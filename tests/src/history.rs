//! The source as it was after each commit.
//!
//! Writers say what each of their transactions did, in absolute terms (this row now has these
//! values, that row is gone), *before* they commit. Which of them committed, and in which order,
//! PostgreSQL itself says: through a replication slot that only this reads. So concurrent writers,
//! rollbacks and commits whose outcome a crash hid are all told apart by the one who knows. For what
//! comes through the backend a trigger says it, within the transaction.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::schema::Table;

/// A row's columns as PostgreSQL prints them.
pub(crate) type Row = Vec<Option<String>>;

/// The first columns of a row.
type Key = Vec<Option<String>>;

/// The rows of one table.
type TableRows = BTreeMap<Key, Row>;

/// What a transaction did to one row, or to one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The row now has these values; the table's key columns say which row.
    Put(Table, Vec<Option<String>>),
    /// The row with this key is gone.
    Delete(Table, Vec<Option<String>>),
    /// All rows are gone.
    Truncate(Table),
}

/// The tables after one commit; unchanged tables are shared with the commit before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Version {
    tables: BTreeMap<Table, Arc<TableRows>>,
}

impl Version {
    pub(crate) fn rows(&self, table: Table) -> impl Iterator<Item = &Row> {
        self.tables.get(&table).into_iter().flat_map(|rows| rows.values())
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Put(table, row) => {
                let key = row[..table.key_columns()].to_vec();
                self.rows_mut(*table).insert(key, row.clone());
            }
            Effect::Delete(table, key) => {
                self.rows_mut(*table).remove(key);
            }
            Effect::Truncate(table) => self.rows_mut(*table).clear(),
        }
    }

    fn rows_mut(&mut self, table: Table) -> &mut TableRows {
        Arc::make_mut(self.tables.entry(table).or_default())
    }
}

/// Transactions that are about to commit, or have: by the low half of their id, which is what
/// PostgreSQL puts on the wire.
#[derive(Clone, Debug, Default)]
pub struct Pending(Arc<Mutex<HashMap<u32, Vec<Effect>>>>);

impl Pending {
    /// Says what a transaction will have done once it commits.
    pub fn announce(&self, transaction: u32, effects: Vec<Effect>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(transaction, effects);
    }

    fn take(&self, transaction: u32) -> Option<Vec<Effect>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&transaction)
    }
}

/// Every version of the source since the slot was made; the first is the empty one.
pub struct History {
    versions: Vec<Version>,
    /// What led to each version but the first, and by which transaction.
    commits: Vec<(u32, Vec<Effect>)>,
    pending: Pending,
    /// The announcements of the database up to this number are pending, or were.
    announced: i64,
}

const SLOT: &str = "reference_model";

impl Default for History {
    fn default() -> Self {
        Self {
            versions: vec![Version::default()],
            commits: Vec::new(),
            pending: Pending::default(),
            announced: 0,
        }
    }
}

impl History {
    /// Begins to follow a database whose tables are empty.
    ///
    /// # Errors
    /// Of PostgreSQL.
    pub async fn begin(client: &Client) -> Result<Self> {
        let sql = format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')");
        client.batch_execute(&sql).await.context("cannot make the model's slot")?;
        Ok(Self::default())
    }

    /// Where writers announce their transactions.
    #[must_use]
    pub fn pending(&self) -> Pending {
        self.pending.clone()
    }

    /// Reads what has committed since the last call.
    ///
    /// # Errors
    /// Of PostgreSQL.
    pub async fn catch_up(&mut self, client: &Client) -> Result<()> {
        // In pgoutput's protocol a Begin is 'B', two 64-bit numbers and the transaction's id. What
        // a crash makes PostgreSQL send again is not announced any more, and so skipped.
        let sql = format!(
            "SELECT substring(data FROM 18 FOR 4) FROM
             pg_logical_slot_get_binary_changes('{SLOT}', NULL, NULL,
                 'proto_version', '1', 'publication_names', 'powersync')
             WHERE get_byte(data, 0) = ascii('B')"
        );
        let begun = client.query(&sql, &[]).await?;
        // Later, so that it holds what these transactions announced.
        self.read_announced(client).await?;
        for row in begun {
            let id: [u8; 4] = row.get::<_, &[u8]>(0).try_into().context("a transaction's id")?;
            let id = u32::from_be_bytes(id);
            if let Some(effects) = self.pending.take(id) {
                self.commit(id, effects);
            }
        }
        Ok(())
    }

    async fn read_announced(&mut self, client: &Client) -> Result<()> {
        let sql = "SELECT number, transaction_id, gone, id, owner_id, body FROM announced
                   WHERE number > $1 ORDER BY number";
        let mut by_transaction: BTreeMap<u32, Vec<Effect>> = BTreeMap::new();
        for row in client.query(sql, &[&self.announced]).await? {
            self.announced = row.get(0);
            let id = row.get::<_, String>(1).parse::<u64>()? & u64::from(u32::MAX);
            let values: Row = (3..6).map(|column| row.get(column)).collect();
            let effect = if row.get(2) {
                Effect::Delete(Table::Drafts, values[..1].to_vec())
            } else {
                Effect::Put(Table::Drafts, values)
            };
            by_transaction.entry(u32::try_from(id)?).or_default().push(effect);
        }
        by_transaction.into_iter().for_each(|(id, effects)| self.pending.announce(id, effects));
        Ok(())
    }

    /// Adds the commit of a transaction.
    pub(crate) fn commit(&mut self, transaction: u32, effects: Vec<Effect>) {
        let mut version = self.latest().clone();
        effects.iter().for_each(|effect| version.apply(effect));
        self.versions.push(version);
        self.commits.push((transaction, effects));
    }

    /// All that was done to a table's rows that hold `text` in any column, one line each: for the
    /// report of a failure.
    #[must_use]
    pub fn story(&self, table: Table, text: &str) -> String {
        let mut story = String::new();
        for (number, (transaction, effects)) in self.commits.iter().enumerate() {
            let concerned = |effect: &&Effect| match effect {
                Effect::Put(of, values) | Effect::Delete(of, values) => {
                    *of == table && values.iter().flatten().any(|value| value == text)
                }
                Effect::Truncate(of) => *of == table,
            };
            for effect in effects.iter().filter(concerned) {
                let effect: String = format!("{effect:?}").chars().take(200).collect();
                let commit = number + 1;
                story.push_str(&format!("commit {commit}, transaction {transaction}: {effect}\n"));
            }
        }
        story
    }

    /// How many versions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.versions.len()
    }

    /// Never: there is always the first.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    pub(crate) fn version(&self, index: usize) -> &Version {
        &self.versions[index]
    }

    pub(crate) fn latest(&self) -> &Version {
        &self.versions[self.versions.len() - 1]
    }

    /// Compares the latest version with the tables themselves: a check of this model and of the
    /// writers' announcements, not of anything under test.
    ///
    /// # Errors
    /// When they differ.
    pub async fn verify(&self, client: &Client) -> Result<()> {
        for table in Table::ALL {
            let mut actual: Vec<Row> = select_all(client, table).await?;
            let mut expected: Vec<Row> = self.latest().rows(table).cloned().collect();
            actual.sort();
            expected.sort();
            let name = table.name();
            ensure!(actual == expected, "the model of {name} is wrong: a fault of the test");
        }
        Ok(())
    }
}

async fn select_all(client: &Client, table: Table) -> Result<Vec<Row>> {
    let messages = client.simple_query(&format!("SELECT * FROM {}", table.name())).await?;
    Ok(rows_of(&messages))
}

/// The rows of an answer, as text.
pub(crate) fn rows_of(messages: &[SimpleQueryMessage]) -> Vec<Row> {
    let mut rows = Vec::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
        }
    }
    rows
}
