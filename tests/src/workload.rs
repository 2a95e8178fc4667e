//! Random transactions on the source, announced to the [`History`](crate::History).

use std::time::Duration;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::history::{Effect, Pending, Row, rows_of};
use crate::postgres::connect;
use crate::schema::Table;

/// Time until a writer must be able to reconnect after a crash of PostgreSQL.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Delay before the next attempt to connect.
const RETRY_DELAY: Duration = Duration::from_millis(20);

const USERS: [&str; 4] = ["u1", "u2", "u3", "u4"];
const LISTS: [&str; 6] = ["l1", "l2", "l3", "l4", "l5", "l6"];

/// Options of [`Writer::connect`].
#[derive(Clone)]
pub struct WriterOptions {
    /// Connection string of the database.
    pub url: String,
    /// Seed of its random numbers.
    pub seed: u64,
    /// Number of the writer. Some rows are written by one writer only.
    pub number: usize,
    /// The list in which the writer announces its transactions.
    pub pending: Pending,
}

/// A connection that runs random transactions.
///
/// There are few rows, and several writers change them often, so transactions often conflict.
pub struct Writer {
    client: Client,
    url: String,
    rng: StdRng,
    number: usize,
    pending: Pending,
}

/// A statement and the meaning of the rows that it returns.
struct Statement {
    sql: String,
    meaning: Meaning,
}

/// The meaning of the rows that a statement returns.
enum Meaning {
    /// The rows are new or have new values, and their keys are unchanged.
    Put(Table),
    /// The rows are deleted.
    Delete(Table),
    /// The row has a new key; the old one is given.
    Rekey(Table, Row),
    /// The statement returns nothing and deletes all rows of the table.
    Truncate(Table),
}

impl Writer {
    /// Connects to the database.
    ///
    /// # Errors
    /// Fails when PostgreSQL fails.
    pub async fn connect(options: WriterOptions) -> Result<Self> {
        let client = session(&options.url).await?;
        let rng = StdRng::seed_from_u64(options.seed);
        let WriterOptions { url, number, pending, .. } = options;
        Ok(Self { client, url, rng, number, pending })
    }

    /// Runs `transactions` transactions, one after another.
    ///
    /// The writer reconnects after a crash of PostgreSQL. It need not know whether its last transaction
    /// committed: the history reads that from its slot.
    ///
    /// # Errors
    /// Fails when PostgreSQL fails, except by a crash or a conflict with a concurrent transaction.
    pub async fn run(&mut self, transactions: usize) -> Result<()> {
        for _ in 0..transactions {
            let Err(error) = self.transaction().await else { continue };
            if is_collision(&error) && self.client.batch_execute("ROLLBACK").await.is_ok() {
                continue;
            }
            if !self.client.is_closed() && !is_collision(&error) && !is_shutdown(&error) {
                return Err(error);
            }
            let session = timeout(RECONNECT_TIMEOUT, reconnected(&self.url)).await;
            self.client = session.context("PostgreSQL does not accept connections again")?;
        }
        Ok(())
    }

    async fn transaction(&mut self) -> Result<()> {
        self.client.batch_execute("BEGIN").await?;
        let mut effects = Vec::new();
        let statements =
            if self.rng.random_ratio(1, 20) { 40 } else { self.rng.random_range(1..6) };
        for _ in 0..statements {
            let sort = self.rng.random_range(0..20);
            if sort > 1 {
                self.statement(&mut effects).await?;
                continue;
            }

            // Statements within a savepoint, which is rolled back or kept.
            self.client.batch_execute("SAVEPOINT s").await?;
            let before = effects.len();
            for _ in 0..self.rng.random_range(1..4) {
                self.statement(&mut effects).await?;
            }
            if sort == 0 {
                self.client.batch_execute("ROLLBACK TO SAVEPOINT s").await?;
                effects.truncate(before);
            }
        }

        if self.rng.random_ratio(1, 10) {
            self.client.batch_execute("ROLLBACK").await?;
            return Ok(());
        }

        let sql = "SELECT pg_current_xact_id_if_assigned()::text";
        let id = rows_of(&self.client.simple_query(sql).await?).pop().and_then(|mut row| row.pop());
        if let Some(id) = id.flatten() {
            let low_half = id.parse::<u64>()? & u64::from(u32::MAX);
            self.pending.announce(u32::try_from(low_half)?, effects);
        }

        self.client.batch_execute("COMMIT").await?;
        Ok(())
    }

    async fn statement(&mut self, effects: &mut Vec<Effect>) -> Result<()> {
        let Statement { sql, meaning } = self.next_statement();
        let messages = self.client.simple_query(&sql).await;
        let rows = rows_of(&messages.map_err(anyhow::Error::from).with_context(|| {
            let start: String = sql.chars().take(200).collect();
            format!("cannot run {start}")
        })?);

        match meaning {
            Meaning::Put(table) => {
                effects.extend(rows.into_iter().map(|row| Effect::Put(table, row)));
            }
            Meaning::Delete(table) => {
                let keys = rows.iter().map(|row| row[..table.key_columns()].to_vec());
                effects.extend(keys.map(|key| Effect::Delete(table, key)));
            }
            Meaning::Rekey(table, key) => {
                for row in rows {
                    effects.push(Effect::Delete(table, key.clone()));
                    effects.push(Effect::Put(table, row));
                }
            }
            Meaning::Truncate(table) => effects.push(Effect::Truncate(table)),
        }
        Ok(())
    }

    fn next_statement(&mut self) -> Statement {
        match self.rng.random_range(0..100) {
            0..26 => self.todo(),
            26..36 => self.membership(),
            36..44 => self.list(),
            44..54 => self.stock(),
            54..62 => self.note(),
            62..72 => self.document(),
            72..80 => self.event(),
            80..86 => self.setting(),
            86..92 => self.comment(),
            92..95 => self.audit(),
            95..99 => self.many_rows(),
            _ => self.truncate(),
        }
    }

    fn todo(&mut self) -> Statement {
        let id = self.uuid();
        let key = format!("id = {id}");

        match self.rng.random_range(0..10) {
            0..3 => {
                let list = self.list_id();
                let owner = self.user();
                let title = self.text(20);
                let amount = self.amount();
                let score = self.score();
                let due = self.due();
                let body = self.body();
                let values = format!(
                    "{id}, {list}, {owner}, {title}, {}, {amount}, {score}, {due}, {body}",
                    self.boolean()
                );
                upsert(Table::Todos, &values)
            }
            3..5 => update(Table::Todos, &format!("title = {}", self.text(20)), &key),
            5 => update(Table::Todos, &format!("body = {}", self.body()), &key),
            6 => update(Table::Todos, &format!("owner_id = {}", self.user()), &key),
            7 => update(Table::Todos, &format!("list_id = {}", self.list_id()), &key),
            8 => self.rekey(Table::Todos, Self::uuid),
            _ => delete(Table::Todos, &key),
        }
    }

    fn membership(&mut self) -> Statement {
        let id = self.number(15);
        let key = format!("id = {id}");
        match self.rng.random_range(0..10) {
            0..4 => {
                let values = format!("{id}, {}, {}", self.list_id(), self.user());
                upsert(Table::Memberships, &values)
            }
            4 => update(Table::Memberships, &format!("user_id = {}", self.user()), &key),
            5 => update(Table::Memberships, &format!("list_id = {}", self.list_id()), &key),
            6 => self.rekey(Table::Memberships, |writer| writer.number(15)),
            _ => delete(Table::Memberships, &key),
        }
    }

    fn list(&mut self) -> Statement {
        let id = self.list_id();
        let key = format!("id = {id}");
        match self.rng.random_range(0..8) {
            0..4 => {
                let owner = self.user();
                let name = self.text(12);
                upsert(Table::Lists, &format!("{id}, {owner}, {name}, {}", self.boolean()))
            }
            4..6 => update(Table::Lists, &format!("archived = {}", self.boolean()), &key),
            6 => self.rekey(Table::Lists, Self::list_id),
            _ => delete(Table::Lists, &key),
        }
    }

    fn stock(&mut self) -> Statement {
        let site = *["'a'", "'b'"].choose(&mut self.rng).unwrap_or(&"'a'");
        let item = self.number(8);
        let key = format!("site = {site} AND item = {item}");

        match self.rng.random_range(0..8) {
            0..3 => {
                let code = self.code();
                let quantity = self.rng.random::<i64>();
                let values = format!("{site}, {item}, {code}, {quantity}");
                let keep = "ON CONFLICT DO NOTHING";
                let sql = format!("INSERT INTO stock VALUES ({values}) {keep} RETURNING *");
                Statement { sql, meaning: Meaning::Put(Table::Stock) }
            }
            3 => update(Table::Stock, &format!("qty = {}", self.number(1000)), &key),
            // The output id changes and the key does not. A code that exists already is a conflict.
            4 => update(Table::Stock, &format!("code = {}", self.code()), &key),
            5 => {
                let new = self.number(8);
                let sql = format!("UPDATE stock SET item = {new} WHERE {key} RETURNING *");
                let old = vec![Some(site.trim_matches('\'').to_owned()), Some(item)];
                Statement { sql, meaning: Meaning::Rekey(Table::Stock, old) }
            }
            _ => delete(Table::Stock, &key),
        }
    }

    fn note(&mut self) -> Statement {
        let code = self.code();
        let key = format!("code = {code}");
        match self.rng.random_range(0..8) {
            0..3 => {
                let owner = self.user();
                let body = self.body();
                upsert(Table::Notes, &format!("{code}, {owner}, {body}"))
            }
            3..5 => update(Table::Notes, &format!("owner_id = {}", self.user()), &key),
            5 => update(Table::Notes, &format!("body = {}", self.body()), &key),
            6 => self.rekey(Table::Notes, Self::code),
            _ => delete(Table::Notes, &key),
        }
    }

    fn document(&mut self) -> Statement {
        let id = self.number(10);
        let key = format!("id = {id}");
        let day = *["NULL", "'2024-02-29'"].choose(&mut self.rng).unwrap_or(&"NULL");

        match self.rng.random_range(0..8) {
            0..3 => {
                let owner = self.user();
                let body = self.body();
                upsert(Table::Documents, &format!("{id}, {owner}, {day}, {body}"))
            }
            3 => update(Table::Documents, &format!("owner_id = {}", self.user()), &key),
            4 => update(Table::Documents, &format!("deleted_at = {day}"), &key),
            5 => update(Table::Documents, &format!("body = {}", self.body()), &key),
            6 => self.rekey(Table::Documents, |writer| writer.number(10)),
            _ => delete(Table::Documents, &key),
        }
    }

    /// Returns a statement on the table without a key. Each writer has its own codes, so they are
    /// unique.
    fn event(&mut self) -> Statement {
        let code = format!("'e{}-{}'", self.number, self.rng.random_range(0..6));
        let key = format!("code = {code}");

        match self.rng.random_range(0..8) {
            0..4 => {
                let level = self.number(6);
                let message = self.text(30);
                let absent = "WHERE NOT EXISTS (SELECT FROM events WHERE";
                let sql = format!(
                    "INSERT INTO events SELECT {code}, {level}, {message} {absent} {key}) RETURNING *"
                );
                Statement { sql, meaning: Meaning::Put(Table::Events) }
            }
            4..6 => update(Table::Events, &format!("level = {}", self.number(6)), &key),
            _ => delete(Table::Events, &key),
        }
    }

    fn setting(&mut self) -> Statement {
        let name = format!("'s{}'", self.number(8));
        let visibility = *["'public'", "'secret'", "NULL"].choose(&mut self.rng).unwrap_or(&"NULL");
        match self.rng.random_range(0..5) {
            0..3 => upsert(Table::Settings, &format!("{name}, {visibility}, {}", self.text(20))),
            3 => update(
                Table::Settings,
                &format!("visibility = {visibility}"),
                &format!("key = {name}"),
            ),
            _ => delete(Table::Settings, &format!("key = {name}")),
        }
    }

    fn comment(&mut self) -> Statement {
        let id = self.number(20);
        let list = self.list_id();
        let details = format!("'{{\"n\": {}, \"text\": \"tide\"}}'", self.number(100));
        match self.rng.random_range(0..4) {
            0..2 => upsert(Table::Comments, &format!("{id}, {list}, {details}")),
            2 => update(Table::Comments, &format!("list_id = {list}"), &format!("id = {id}")),
            _ => delete(Table::Comments, &format!("id = {id}")),
        }
    }

    fn audit(&mut self) -> Statement {
        let values = format!("{}, {}, {}", self.number(8), self.user(), self.text(8));
        upsert(Table::Audit, &values)
    }

    fn many_rows(&mut self) -> Statement {
        match self.rng.random_range(0..6) {
            0 => update(Table::Todos, "done = NOT done", &format!("list_id = {}", self.list_id())),
            1 => update(Table::Todos, "title = title || '.'", "true"),
            2 => update(Table::Events, "level = (level + 1) % 6", "true"),
            3 => update(
                Table::Documents,
                &format!("owner_id = {}", self.user()),
                &format!("owner_id = {}", self.user()),
            ),
            4 => delete(Table::Notes, &format!("owner_id = {}", self.user())),
            _ => delete(Table::Todos, &format!("list_id = {}", self.list_id())),
        }
    }

    fn truncate(&mut self) -> Statement {
        let table = *Table::ALL.choose(&mut self.rng).unwrap_or(&Table::Todos);
        let sql = format!("TRUNCATE {}", table.name());
        Statement { sql, meaning: Meaning::Truncate(table) }
    }

    /// Returns an update of the key of a row of a table whose key is one column.
    fn rekey(&mut self, table: Table, key: impl Fn(&mut Self) -> String) -> Statement {
        let old = key(self);
        let new = key(self);
        let column = table.columns()[0].0;
        let name = table.name();
        let sql = format!("UPDATE {name} SET {column} = {new} WHERE {column} = {old} RETURNING *");
        let old = vec![Some(old.trim_matches('\'').to_owned())];
        Statement { sql, meaning: Meaning::Rekey(table, old) }
    }

    fn uuid(&mut self) -> String {
        format!("'00000000-0000-4000-8000-0000000000{:02}'", self.rng.random_range(0..40))
    }

    fn number(&mut self, below: u32) -> String {
        self.rng.random_range(0..below).to_string()
    }

    fn code(&mut self) -> String {
        format!("'c{}'", self.rng.random_range(0..16))
    }

    fn list_id(&mut self) -> String {
        format!("'{}'", LISTS.choose(&mut self.rng).unwrap_or(&"l1"))
    }

    fn user(&mut self) -> String {
        if self.rng.random_ratio(1, 12) {
            return "NULL".to_owned();
        }
        format!("'{}'", USERS.choose(&mut self.rng).unwrap_or(&"u1"))
    }

    fn boolean(&mut self) -> &'static str {
        ["true", "false", "NULL"].choose(&mut self.rng).copied().unwrap_or("NULL")
    }

    fn amount(&mut self) -> String {
        let amounts = ["NULL", "0", "12.50", "-0.001", "123456789012345678901234567890", "'NaN'"];
        amounts.choose(&mut self.rng).copied().unwrap_or("0").to_owned()
    }

    /// Returns a multiple of an eighth, which is exact in binary and in decimal.
    fn score(&mut self) -> String {
        (f64::from(self.rng.random_range(-80..80)) / 8.0).to_string()
    }

    fn due(&mut self) -> String {
        let dues = [
            "NULL",
            "'2024-02-29 23:59:58.25+00'",
            "'2023-03-06 15:47:12+02'",
            "'1969-12-31 23:59:59.999999+00'",
        ];
        dues.choose(&mut self.rng).copied().unwrap_or("NULL").to_owned()
    }

    fn text(&mut self, length: usize) -> String {
        const LETTERS: [&str; 12] =
            ["a", "e", "o", "t", " ", "''", "\"", "\\", "ß", "漢", "🌊", "\n"];
        let letters = (0..self.rng.random_range(0..=length))
            .map(|_| *LETTERS.choose(&mut self.rng).unwrap_or(&"a"));
        format!("'{}'", letters.collect::<String>())
    }

    /// Returns a text that is short, above the 2 KB from which PostgreSQL stores values out of line,
    /// or longer than a page.
    fn body(&mut self) -> String {
        let length = match self.rng.random_range(0..20) {
            0 => return "NULL".to_owned(),
            1..12 => return self.text(40),
            12..18 => self.rng.random_range(2_100..4_000),
            _ => self.rng.random_range(8_200..12_000),
        };
        let start = self.rng.random::<u32>();
        format!("'{start:08x}{}'", "x".repeat(length))
    }
}

fn upsert(table: Table, values: &str) -> Statement {
    let columns = table.columns();
    let name = table.name();
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let (key, others) = names.split_at(table.key_columns());
    let key = key.join(", ");
    let assignments: Vec<String> =
        others.iter().map(|name| format!("{name} = excluded.{name}")).collect();

    let sql = format!(
        "INSERT INTO {name} VALUES ({values}) ON CONFLICT ({key}) DO UPDATE SET {} RETURNING *",
        assignments.join(", ")
    );
    Statement { sql, meaning: Meaning::Put(table) }
}

fn update(table: Table, assignment: &str, condition: &str) -> Statement {
    let sql = format!("UPDATE {} SET {assignment} WHERE {condition} RETURNING *", table.name());
    Statement { sql, meaning: Meaning::Put(table) }
}

fn delete(table: Table, condition: &str) -> Statement {
    let sql = format!("DELETE FROM {} WHERE {condition} RETURNING *", table.name());
    Statement { sql, meaning: Meaning::Delete(table) }
}

async fn session(url: &str) -> Result<Client> {
    let client = connect(url).await?;
    client.batch_execute("SET timezone = 'UTC'; SET deadlock_timeout = '50ms'").await?;
    Ok(client)
}

async fn reconnected(url: &str) -> Client {
    loop {
        match session(url).await {
            Ok(client) => return client,
            Err(_) => sleep(RETRY_DELAY).await,
        }
    }
}

/// Returns whether the error comes from a crash of PostgreSQL or a lost connection.
fn is_shutdown(error: &anyhow::Error) -> bool {
    let Some(error) = error.downcast_ref::<tokio_postgres::Error>() else { return false };
    error.is_closed() || error.code().is_none_or(|code| code.code().starts_with("57P"))
}

/// Returns whether the error is a conflict of transactions: a deadlock, or a key that exists already.
fn is_collision(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
    code.is_some_and(|code| {
        [SqlState::T_R_DEADLOCK_DETECTED, SqlState::UNIQUE_VIOLATION].contains(code)
    })
}
