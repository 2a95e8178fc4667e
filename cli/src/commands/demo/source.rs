//! The demo's database: `pgbench`'s accounts and a small to-do app.

use anyhow::{Context, bail};
use tokio_postgres::Client;

use super::postgres::Postgres;

/// The users of the to-do app.
pub(crate) const USERS: [&str; 2] = ["ada", "bob"];
/// Number of to-dos that a user adds on a device.
const DEVICE_INSERTS: u32 = 20;
/// Start of the descriptions of these to-dos.
const DEVICE_MARK: &str = "noted on the device";
/// Number of to-dos that each user has at the start.
const TODOS_PER_USER: u32 = 200;

/// A table on the client, and a query that returns the same rows from PostgreSQL.
pub(crate) struct SyncedTable {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [&'static str],
    /// Query for these columns of the user's rows, in the order of the id's bytes.
    pub(crate) query: String,
}

/// Returns the tables of a user.
pub(crate) fn synced_tables(user: &str) -> [SyncedTable; 3] {
    [
        SyncedTable {
            name: "pgbench_accounts",
            columns: &["id", "bid", "abalance", "filler"],
            query: "SELECT aid::text, bid, abalance, filler FROM pgbench_accounts
                ORDER BY aid::text COLLATE \"C\""
                .to_owned(),
        },
        SyncedTable {
            name: "lists",
            columns: &["id", "owner_id", "name"],
            query: format!(
                "SELECT id::text, owner_id, name FROM lists WHERE owner_id = '{user}'
                 ORDER BY id::text COLLATE \"C\""
            ),
        },
        SyncedTable {
            name: "todos",
            columns: &["id", "list_id", "owner_id", "description", "completed"],
            query: format!(
                "SELECT id::text, list_id, owner_id, description, completed::int FROM todos
                 WHERE owner_id = '{user}' ORDER BY id::text COLLATE \"C\""
            ),
        },
    ]
}

/// Sync config of the demo. `pgbench`'s tables have no `id`, so the query names one.
pub(crate) const SYNC_CONFIG: &str = "\
config:
  edition: 3
streams:
  accounts:
    auto_subscribe: true
    query: SELECT aid AS id, bid, abalance, filler FROM pgbench_accounts
  todos:
    auto_subscribe: true
    queries:
      - SELECT id, owner_id, name FROM lists WHERE owner_id = auth.user_id()
      - SELECT id, list_id, owner_id, description, completed FROM todos WHERE owner_id = auth.user_id()
";

/// Schema of the devices.
pub(crate) const CLIENT_SCHEMA: &str = "\
CREATE TABLE pgbench_accounts (id TEXT PRIMARY KEY, bid INTEGER, abalance INTEGER, filler TEXT);
CREATE TABLE lists (id TEXT PRIMARY KEY, owner_id TEXT, name TEXT);
CREATE TABLE todos (
    id TEXT PRIMARY KEY, list_id TEXT, owner_id TEXT, description TEXT, completed INTEGER
);
CREATE INDEX todos_by_list ON todos (list_id);
";

/// Tables that devices may write to.
pub(crate) const WRITABLE: [&str; 2] = ["lists", "todos"];

/// Schema of the to-do app in PostgreSQL.
const SCHEMA: &str = "\
CREATE TABLE lists (
    id uuid PRIMARY KEY,
    owner_id text NOT NULL,
    name text NOT NULL
);
CREATE TABLE todos (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    list_id uuid NOT NULL REFERENCES lists,
    owner_id text NOT NULL,
    description text NOT NULL,
    completed boolean NOT NULL DEFAULT false
);
CREATE PUBLICATION powersync FOR TABLE pgbench_accounts, lists, todos;
";

/// Fills the database.
pub(crate) async fn fill(postgres: &Postgres, client: &Client, scale: u32) -> anyhow::Result<()> {
    pgbench(postgres, &["--initialize", "--quiet", "--scale", &scale.to_string()]).await?;
    client.batch_execute(SCHEMA).await.context("cannot create the to-do schema")?;
    for user in USERS {
        let statement = "WITH list AS (
                INSERT INTO lists VALUES (gen_random_uuid(), $1, 'groceries of ' || $1)
                RETURNING id, owner_id)
            INSERT INTO todos (list_id, owner_id, description, completed)
            SELECT id, owner_id, 'buy thing ' || n, n % 3 = 0
            FROM list, generate_series(1, $2::int) AS n";
        let count = i32::try_from(TODOS_PER_USER).context("too many to-dos")?;
        client.execute(statement, &[&user, &count]).await.context("cannot fill the to-dos")?;
    }
    Ok(())
}

/// Renames a user's list in a transaction of its own.
pub(crate) async fn rename_list(client: &Client, user: &str, name: &str) -> anyhow::Result<()> {
    let statement = "UPDATE lists SET name = $2 WHERE owner_id = $1";
    client.execute(statement, &[&user, &name]).await.context("cannot rename a list")?;
    Ok(())
}

/// Changes a user's to-dos on the server. Returns the number of changed rows.
pub(crate) async fn change_on_server(client: &Client, user: &str) -> anyhow::Result<u64> {
    let mut rows = 0;
    for statement in [
        "UPDATE todos SET description = description || ', cheaper' WHERE owner_id = $1
         AND description LIKE 'buy thing 1%'",
        "DELETE FROM todos WHERE owner_id = $1 AND description IN ('buy thing 20', 'buy thing 21')",
        "INSERT INTO todos (list_id, owner_id, description)
         SELECT id, owner_id, 'from the server ' || n FROM lists, generate_series(1, 50) AS n
         WHERE owner_id = $1",
    ] {
        rows += client.execute(statement, &[&user]).await.context("cannot change to-dos")?;
    }
    Ok(rows)
}

/// Returns the statements of a user on a device. Each is a transaction of its own.
pub(crate) fn changes_on_device(user: &str) -> Vec<String> {
    let mut statements: Vec<String> = (1..=DEVICE_INSERTS)
        .map(|number| {
            format!(
                "INSERT INTO todos (id, list_id, owner_id, description, completed)
                 SELECT '{}', id, owner_id, '{DEVICE_MARK} {number}', 0 FROM lists",
                device_todo(user, number)
            )
        })
        .collect();
    statements.push("UPDATE todos SET completed = 1 WHERE description LIKE 'buy thing 3%'".into());
    statements.push("DELETE FROM todos WHERE description = 'buy thing 40'".into());
    statements
}

/// Returns how many of the to-dos that were added on a device are in PostgreSQL, and how many were
/// added.
pub(crate) async fn arrived(client: &Client, user: &str) -> anyhow::Result<(u64, u64)> {
    let query = format!(
        "SELECT count(*) FROM todos WHERE owner_id = $1 AND description LIKE '{DEVICE_MARK} %'"
    );
    let count: i64 = client.query_one(&query, &[&user]).await?.get(0);
    Ok((count.unsigned_abs(), u64::from(DEVICE_INSERTS)))
}

/// Returns the id of a to-do, which the device assigns.
fn device_todo(user: &str, number: u32) -> String {
    let owner = USERS.iter().position(|one| *one == user).unwrap_or_default();
    format!("00000000-0000-4000-8000-{owner:04}{number:08}")
}

/// Runs `pgbench`. Its output is shown only if it fails.
pub(crate) async fn pgbench(postgres: &Postgres, args: &[&str]) -> anyhow::Result<()> {
    let output = postgres
        .client_program("pgbench")
        .args(args)
        .output()
        .await
        .context("cannot run pgbench")?;
    if !output.status.success() {
        bail!("pgbench failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Returns the number of rows that are synced to anybody.
pub(crate) async fn row_count(client: &Client) -> anyhow::Result<u64> {
    let query = "SELECT (SELECT count(*) FROM pgbench_accounts) + (SELECT count(*) FROM lists)
        + (SELECT count(*) FROM todos)";
    let count: i64 = client.query_one(query, &[]).await?.get(0);
    Ok(count.unsigned_abs())
}
