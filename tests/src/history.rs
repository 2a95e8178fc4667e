//! The contents of the source database after each commit.
//!
//! A writer announces the effects of a transaction *before* it commits: the new values of a row, or
//! the key of a deleted one. [`History`] reads a replication slot of its own to learn which of the
//! announced transactions committed, and in which order. So rollbacks and commits whose reply was
//! lost in a crash need no special case. The backend does not announce its transactions; a trigger
//! stores their effects in a table, within the transaction.

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

/// A transaction's change of one row or one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The new values of a row, which its key columns identify.
    Put(Table, Vec<Option<String>>),
    /// The key of a deleted row.
    Delete(Table, Vec<Option<String>>),
    /// The removal of all rows.
    Truncate(Table),
}

impl Effect {
    /// Returns whether the effect is on rows of `table` that have `text` in any column.
    fn concerns(&self, table: Table, text: &str) -> bool {
        match self {
            Self::Put(of, values) | Self::Delete(of, values) => {
                *of == table && values.iter().flatten().any(|value| value == text)
            }
            Self::Truncate(of) => *of == table,
        }
    }
}

/// The tables after one commit. Unchanged tables are shared with the previous commit.
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

/// Announced transactions by their 32-bit xid, which is what `pgoutput` sends.
#[derive(Clone, Debug, Default)]
pub struct Pending(Arc<Mutex<HashMap<u32, Vec<Effect>>>>);

impl Pending {
    /// Stores the effects that a transaction has if it commits.
    pub fn announce(&self, xid: u32, effects: Vec<Effect>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(xid, effects);
    }

    fn take(&self, xid: u32) -> Option<Vec<Effect>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&xid)
    }
}

/// Every version of the source since its slot was created. The first version is empty.
pub struct History {
    versions: Vec<Version>,
    /// The xid and the effects of the commit behind each version, except the first.
    commits: Vec<(u32, Vec<Effect>)>,
    pending: Pending,
    /// The last number of the table `announced` that was read.
    announced: i64,
}

/// Name of the slot that only the history reads.
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
    /// Creates the slot in a database whose tables are empty.
    ///
    /// # Errors
    /// Fails when PostgreSQL fails.
    pub async fn begin(client: &Client) -> Result<Self> {
        let sql = format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')");
        client.batch_execute(&sql).await.context("cannot create the model's slot")?;
        Ok(Self::default())
    }

    /// Returns the list in which writers announce their transactions.
    #[must_use]
    pub fn pending(&self) -> Pending {
        self.pending.clone()
    }

    /// Adds the transactions that have committed since the last call.
    ///
    /// # Errors
    /// Fails when PostgreSQL fails.
    pub async fn catch_up(&mut self, client: &Client) -> Result<()> {
        // A Begin message of pgoutput is 'B', two 64-bit numbers and the xid. A transaction that
        // PostgreSQL sends again after a crash is no longer pending, and so it is skipped.
        let sql = format!(
            "SELECT substring(data FROM 18 FOR 4) FROM
             pg_logical_slot_get_binary_changes('{SLOT}', NULL, NULL,
                 'proto_version', '1', 'publication_names', 'powersync')
             WHERE get_byte(data, 0) = ascii('B')"
        );
        let begun = client.query(&sql, &[]).await?;

        // Read after the slot, so that the table contains the effects of all these transactions.
        self.read_announced(client).await?;
        for row in begun {
            let xid: [u8; 4] = row.get::<_, &[u8]>(0).try_into().context("a transaction's id")?;
            let xid = u32::from_be_bytes(xid);
            if let Some(effects) = self.pending.take(xid) {
                self.commit(xid, effects);
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

        for (xid, effects) in by_transaction {
            self.pending.announce(xid, effects);
        }
        Ok(())
    }

    /// Appends the version that a commit produces.
    pub(crate) fn commit(&mut self, xid: u32, effects: Vec<Effect>) {
        let mut version = self.latest().clone();
        effects.iter().for_each(|effect| version.apply(effect));
        self.versions.push(version);
        self.commits.push((xid, effects));
    }

    /// Lists the effects on a table's rows that have `text` in any column, one per line.
    ///
    /// The list is part of the report of a failed comparison.
    #[must_use]
    pub fn effects_on(&self, table: Table, text: &str) -> String {
        let mut list = String::new();
        for (number, (xid, effects)) in self.commits.iter().enumerate() {
            for effect in effects.iter().filter(|effect| effect.concerns(table, text)) {
                let effect: String = format!("{effect:?}").chars().take(200).collect();
                let commit = number + 1;
                list.push_str(&format!("commit {commit}, transaction {xid}: {effect}\n"));
            }
        }
        list
    }

    /// Returns the number of versions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.versions.len()
    }

    /// Returns false: the first version always exists.
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

    /// Compares the latest version with the tables in PostgreSQL.
    ///
    /// This verifies the model and the announcements, and nothing that is under test.
    ///
    /// # Errors
    /// Fails when they differ.
    pub async fn verify(&self, client: &Client) -> Result<()> {
        for table in Table::ALL {
            let mut actual: Vec<Row> = select_all(client, table).await?;
            let mut expected: Vec<Row> = self.latest().rows(table).cloned().collect();
            actual.sort();
            expected.sort();
            let name = table.name();
            ensure!(
                actual == expected,
                "the test itself is wrong: its model of {name} differs from the table"
            );
        }
        Ok(())
    }
}

async fn select_all(client: &Client, table: Table) -> Result<Vec<Row>> {
    let messages = client.simple_query(&format!("SELECT * FROM {}", table.name())).await?;
    Ok(rows_of(&messages))
}

/// Returns the rows of a reply, as text.
pub(crate) fn rows_of(messages: &[SimpleQueryMessage]) -> Vec<Row> {
    let mut rows = Vec::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
        }
    }
    rows
}
