//! `docs/getting-started.md` works as written: its blocks are run in their order on an empty PostgreSQL.
//!
//! What is replaced: the addresses of the database and of the sync API, since tests use free ports. What
//! is left out: the build of the program, the stream that `curl` shows for as long as it runs, and the
//! part about the app.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidewater_client::rusqlite::Connection;
use tidewater_tests::{Lodging, Postgres, Process, Scratch, Signal, Tidewater, eventually};

const GUIDE: &str = include_str!("../../docs/getting-started.md");

/// Timeout of a step: long enough for a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A fenced block of the guide.
struct Block<'a> {
    language: &'a str,
    text: &'a str,
}

/// Returns the fenced blocks of a Markdown text.
fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut parts = text.split("```");
    parts.next();

    let mut blocks = Vec::new();
    while let (Some(block), Some(_)) = (parts.next(), parts.next()) {
        let (language, text) = block.split_once('\n').unwrap_or((block, ""));
        blocks.push(Block { language, text });
    }
    blocks
}

/// A reader who follows the guide in a folder of his own.
struct Newcomer {
    postgres: Postgres,
    folder: Scratch,
    dev: Option<Process>,
    url: String,
    /// The output of the queries on the device's file.
    seen: Vec<String>,
}

impl Newcomer {
    async fn new() -> Result<Self> {
        let postgres = Postgres::start().await?;
        postgres.execute("CREATE DATABASE app").await?;
        let folder = Scratch::new()?;
        Ok(Self { postgres, folder, dev: None, url: String::new(), seen: Vec::new() })
    }

    /// Does what a block says.
    async fn follow(&mut self, block: &Block<'_>) -> Result<()> {
        let text = self.with_addresses(block.text);
        match block.language {
            "sql" => self.run_sql(&text).await,
            "yaml" => Ok(std::fs::write(self.folder.path().join("sync-config.yaml"), text)?),
            "sh" if text.contains("cargo build") || text.contains("curl -N") => Ok(()),
            "sh" if text.contains("tidewater dev") => self.start_dev(&text).await,
            "sh" if text.contains("sqlite3 ") => self.run_until_changed(&text).await,
            "sh" => self.run_commands(&text).await,
            // Output, and the app.
            "text" | "js" => Ok(()),
            other => {
                anyhow::bail!("a block has the language '{other}', which this test does not know")
            }
        }
    }

    fn with_addresses(&self, text: &str) -> String {
        let database = format!("@127.0.0.1:{}/app", self.postgres.port());
        text.replace("@localhost/app", &database).replace("http://127.0.0.1:8080", &self.url)
    }

    async fn run_sql(&self, text: &str) -> Result<()> {
        let (client, connection) =
            tokio_postgres::connect(&self.postgres.url("app"), tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        // One by one, as psql does: some statements cannot run in a transaction.
        let lines = text.lines().map(|line| line.split("--").next().unwrap_or_default());
        let statements = lines.collect::<Vec<_>>().join("\n");
        for statement in statements.split(';') {
            client.batch_execute(statement).await.with_context(|| statement.to_owned())?;
        }
        drop(client);
        connection.await??;
        Ok(())
    }

    fn shell(&self, script: &str) -> Result<Command> {
        let program = Tidewater::command()?;
        let folder = Path::new(program.get_program()).parent().context("no folder of programs")?;
        let script = format!("PATH={}:$PATH\n{script}", folder.display());

        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &script]).current_dir(self.folder.path());
        command.env("TIDEWATER_LISTEN", "127.0.0.1:0");
        command.env("TIDEWATER_METRICS_LISTEN", "127.0.0.1:0");
        Ok(command)
    }

    async fn start_dev(&mut self, script: &str) -> Result<()> {
        // The shell is replaced, so that the signal at the end reaches the program.
        let script = script.replace("tidewater dev", "exec tidewater dev");
        let mut command = self.shell(&script)?;
        let lodging = Lodging { name: "dev", logs: self.folder.path(), end: Signal::Kill };
        let mut dev = Process::spawn(&mut command, lodging)?;
        self.url = dev.listening(SOON).await?;
        dev.ready(&self.url, SOON).await?;
        self.dev = Some(dev);
        Ok(())
    }

    /// Runs commands, and queries of `sqlite3` without that program, which may be missing here.
    async fn run_commands(&mut self, script: &str) -> Result<()> {
        let is_query = |line: &&str| line.starts_with("sqlite3 ");
        let commands: String =
            script.lines().filter(|line| !is_query(line)).map(|line| format!("{line}\n")).collect();
        let output = Process::run(&mut self.shell(&commands)?, SOON).await?;
        output.assert_code(0);

        for query in script.lines().filter(is_query) {
            let sql = query.split('"').nth(1).context("a query without quotes")?;
            let device = Connection::open(self.folder.path().join("app.db"))?;
            self.seen.push(device.query_row(sql, [], |row| row.get(0))?);
        }
        Ok(())
    }

    /// Runs commands until their query shows something new: a change of the source takes a moment.
    async fn run_until_changed(&mut self, script: &str) -> Result<()> {
        let former = self.seen.clone();
        eventually("a change on the device", SOON, async || {
            self.seen.clone_from(&former);
            self.run_commands(script).await?;
            Ok((self.seen.last() != former.last() || former.is_empty()).then_some(()))
        })
        .await
    }
}

#[tokio::test]
async fn the_guide_works_as_written_on_an_empty_database() -> Result<()> {
    let mut newcomer = Newcomer::new().await?;
    let blocks = blocks(GUIDE);
    ensure!(blocks.len() > 10, "the guide has {} blocks", blocks.len());
    for block in &blocks {
        newcomer.follow(block).await.with_context(|| format!("in the block\n{}", block.text))?;
    }

    // The device has the to-do, and after the change of the source the new state of it.
    assert_eq!(newcomer.seen, ["buy milk: 0", "buy milk: 1"]);

    // The program says what to do next.
    let dev = newcomer.dev.as_ref().context("the guide starts no `tidewater dev`")?;
    let log = dev.stderr()?;
    for next in ["clients can sync", "tidewater token --user-id", "tidewater sync --endpoint"] {
        ensure!(log.contains(next), "the log does not say '{next}':\n{log}");
    }
    Ok(())
}
