//! `tidewater why` beside a running `tidewater dev`: each link that can fail, and what it says to do.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidewater_tests::{
    DevOptions, Lodging, Output, Postgres, Process, Signal, Tidewater, eventually,
};

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

const TOKEN: &str = "an-admin-token-for-tests";

const CONFIG: &str = "
config: { edition: 3 }
streams:
  own:
    auto_subscribe: true
    query: SELECT * FROM todos WHERE owner = auth.user_id() AND archived = false AND title != ''
  shared:
    auto_subscribe: true
    query: SELECT * FROM items WHERE list_id IN (SELECT list_id FROM members WHERE user_id = auth.user_id())
  asked: { query: SELECT * FROM notes }
";

const TABLES: &str = "
    CREATE TABLE todos (id int PRIMARY KEY, owner text, archived bool DEFAULT false, title text DEFAULT 'x');
    CREATE TABLE items (id text PRIMARY KEY, list_id text);
    CREATE TABLE members (list_id text, user_id text, id text, PRIMARY KEY (list_id, user_id));
    CREATE TABLE notes (id text PRIMARY KEY);
    CREATE TABLE other (id text PRIMARY KEY);
    CREATE PUBLICATION powersync FOR TABLE todos, items, members, notes;
    INSERT INTO todos (id, owner) VALUES (1, 'u1');
    INSERT INTO todos (id, owner, archived) VALUES (2, 'u1', true), (3, 'u1', NULL), (4, NULL, false);
    INSERT INTO items VALUES ('i1', 'l1');
    INSERT INTO members VALUES ('l1', 'u1', 'm1');
    INSERT INTO notes VALUES ('n1');
";

struct Setup {
    postgres: Postgres,
    tidewater: Tidewater,
}

impl Setup {
    async fn new() -> Result<Self> {
        let postgres = Postgres::start().await?;
        postgres.execute(TABLES).await?;
        let url = postgres.url("postgres");
        let options = DevOptions::new(&url, CONFIG).with(&[
            "--admin-token",
            TOKEN,
            "--wal-receiver-timeout",
            "4s",
        ]);
        Ok(Self { postgres, tidewater: Tidewater::dev_ready(options).await? })
    }

    /// Runs `tidewater why` on the store of the running server.
    async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Tidewater::command()?;
        let store = format!("embedded:{}", self.tidewater.data_dir().display());
        command.arg("why").args(["--store", &store]).args(arguments);
        let logs: &Path = self.tidewater.folder();
        let lodging = Lodging { name: "why", logs, end: Signal::Kill };
        Process::spawn(&mut command, lodging)?.wait(SOON).await
    }

    /// Follows a row to a user, with the source, and checks that the exit code says whether it arrives.
    async fn why(&self, user: &str, table: &str, id: &str, more: &[&str]) -> Result<Value> {
        let url = self.postgres.url("postgres");
        let row =
            ["--user-id", user, "--table", table, "--id", id, "--json", "--database-url", &url];
        let output = self.run(&[&row[..], more].concat()).await?;
        let report: Value = serde_json::from_str(&output.stdout)
            .with_context(|| format!("no report: {}", output.stderr))?;
        output.assert_code(i32::from(report["arrives"] != true));
        Ok(report)
    }

    /// Follows a row that does not arrive. Returns the first link that fails, its text and its fix.
    async fn failure(&self, user: &str, table: &str, id: &str) -> Result<[String; 3]> {
        let report = self.why(user, table, id, &[]).await?;
        let failure = &report["first_failure"];
        let text = |name: &str| failure[name].as_str().unwrap_or_default().to_owned();
        Ok([text("link"), text("text"), text("fix")])
    }
}

#[tokio::test]
async fn a_row_that_arrives_passes_each_link() -> Result<()> {
    let setup = Setup::new().await?;
    let report = setup.why("u1", "todos", "1", &[]).await?;
    let states: Vec<_> = report["links"]
        .as_array()
        .context("no links")?
        .iter()
        .map(|link| (link["link"].as_str().unwrap_or_default(), link["state"].clone()))
        .collect();
    let expected =
        ["publication", "config", "source", "copy", "definition", "store", "checkpoint", "user"];
    assert_eq!(states, expected.map(|name| (name, json!("holds"))), "{report}");
    let bucket = report["row_buckets"][0].as_str().context("no bucket")?;
    ensure!(bucket.starts_with("own|0.") && bucket.ends_with("[\"u1\"]"), "{bucket}");
    ensure!(report["user"]["buckets"].to_string().contains(&json!(bucket).to_string()), "{report}");

    let text = setup.run(&["--user", "u1", "--table", "public.todos", "--id", "1"]).await?;
    text.assert_code(0);
    ensure!(text.stdout.contains("result      no link fails, and some are not known"), "{text:?}");
    ensure!(text.stdout.contains("give --database-url") || text.stdout.contains("was not asked"));
    Ok(())
}

#[tokio::test]
async fn a_condition_that_fails_is_named_with_its_values() -> Result<()> {
    let setup = Setup::new().await?;
    let report = setup.why("u1", "todos", "2", &[]).await?;
    assert_eq!(report["first_failure"]["link"], "definition", "{report}");
    let text = report["first_failure"]["text"].to_string();
    ensure!(
        text.contains("own|0") && text.contains("archived") && text.contains("false"),
        "{text}"
    );
    let conditions = report["definitions"][0]["conditions"].as_array().context("no conditions")?;
    let holding: Vec<_> = conditions.iter().map(|one| (&one["holds"], &one["columns"])).collect();
    let expected = (json!(false), json!([["archived", "1"]]));
    ensure!(holding.contains(&(&expected.0, &expected.1)), "{report}");
    assert_eq!(conditions.len(), 2, "each part of AND is a condition: {report}");

    let null = setup.failure("u1", "todos", "3").await?;
    ensure!(null[0] == "definition" && null[1].contains("null"), "{null:?}");
    let no_owner = setup.failure("u1", "todos", "4").await?;
    ensure!(no_owner[0] == "definition" && no_owner[1].contains("owner is NULL"), "{no_owner:?}");
    Ok(())
}

#[tokio::test]
async fn a_user_without_the_bucket_sees_the_lookups_that_gave_others() -> Result<()> {
    let setup = Setup::new().await?;
    let report = setup.why("u2", "items", "i1", &[]).await?;
    assert_eq!(report["first_failure"]["link"], "user", "{report}");
    let lookup = &report["user"]["lookups"][0];
    assert_eq!((&lookup["table"], &lookup["outputs"]), (&json!("members"), &json!([])));
    assert_eq!(lookup["key"], "[\"u2\"]");
    let allowed = setup.why("u1", "items", "i1", &[]).await?;
    assert_eq!(
        (&allowed["arrives"], &allowed["user"]["lookups"][0]["outputs"]),
        (&json!(true), &json!(["[\"l1\"]"]))
    );

    let other = setup.failure("u2", "todos", "1").await?;
    ensure!(
        other[0] == "user" && other[1].contains("[\"u1\"]") && other[1].contains("[\"u2\"]"),
        "{other:?}"
    );
    let unsubscribed = setup.failure("u1", "notes", "n1").await?;
    ensure!(
        unsubscribed[0] == "user" && unsubscribed[2].contains("auto_subscribe: true"),
        "{unsubscribed:?}"
    );
    let subscribed = setup.why("u1", "notes", "n1", &["--stream", "asked"]).await?;
    assert_eq!(subscribed["arrives"], true, "{subscribed}");
    Ok(())
}

#[tokio::test]
async fn what_is_missing_before_the_definitions_is_named_with_its_fix() -> Result<()> {
    let setup = Setup::new().await?;
    let unpublished = setup.failure("u1", "other", "1").await?;
    ensure!(
        unpublished[0] == "publication" && unpublished[2].contains("ALTER PUBLICATION"),
        "{unpublished:?}"
    );
    let no_table = setup.failure("u1", "todo", "1").await?;
    ensure!(
        no_table[0] == "publication" && no_table[1].contains("no table 'todo'"),
        "{no_table:?}"
    );
    let no_row = setup.failure("u1", "todos", "99").await?;
    ensure!(no_row[0] == "source" && no_row[1].contains("no row with id = 99"), "{no_row:?}");
    setup.postgres.execute("ALTER PUBLICATION powersync ADD TABLE other").await?;
    let unread = setup.failure("u1", "other", "1").await?;
    ensure!(unread[0] == "config" && unread[2].contains("add a query"), "{unread:?}");

    let no_number = setup.why("u1", "todos", "abc", &[]).await?;
    ensure!(no_number["links"].to_string().contains("invalid input syntax"), "{no_number}");
    let key = setup.why("u1", "members", "[\"l1\", \"u1\"]", &[]).await?;
    assert_eq!(key["links"][2]["state"], "holds", "{key}");
    Ok(())
}

#[tokio::test]
async fn a_row_that_the_worker_has_not_applied_fails_at_the_store() -> Result<()> {
    let mut setup = Setup::new().await?;
    setup.tidewater.terminate().await?;
    setup.postgres.execute("INSERT INTO todos (id, owner) VALUES (5, 'u1')").await?;
    let late = setup.failure("u1", "todos", "5").await?;
    ensure!(late[0] == "store" && late[2].contains("tidewater status"), "{late:?}");
    Ok(())
}

#[tokio::test]
async fn the_admin_api_answers_the_same_behind_its_token() -> Result<()> {
    let setup = Setup::new().await?;
    let ask = async |token: &str, body: &Value| -> Result<(u16, Value)> {
        let url = format!("{}/api/admin/v1/why", setup.tidewater.url());
        let request = reqwest::Client::new().post(url).json(body);
        let reply = request.header("authorization", format!("Token {token}")).send().await?;
        Ok((reply.status().as_u16(), reply.json().await?))
    };
    let body = json!({ "table": "todos", "id": 2, "user_id": "u1" });
    let (status, reply) = ask(TOKEN, &body).await?;
    assert_eq!(
        (status, &reply["data"]["first_failure"]["link"]),
        (200, &json!("definition")),
        "{reply}"
    );
    let command = setup.why("u1", "todos", "2", &[]).await?;
    assert_eq!(reply["data"]["links"], command["links"]);
    assert_eq!(ask("a-token-that-is-wrong-here", &body).await?.0, 401);
    assert_eq!(ask(TOKEN, &json!({ "table": "todos" })).await?.0, 400);
    Ok(())
}

#[tokio::test]
async fn a_write_checkpoint_that_is_not_acknowledged_keeps_the_client_back() -> Result<()> {
    let mut setup = Setup::new().await?;
    let token = setup.tidewater.token("u1")?;
    let url = format!("{}/write-checkpoint2.json?client_id=c1", setup.tidewater.url());
    let request = reqwest::Client::new().get(url).bearer_auth(&token);
    ensure!(request.send().await?.status().is_success(), "no write checkpoint");
    eventually("an acknowledged write checkpoint", SOON, async || {
        let report = setup.why("u1", "todos", "1", &["--client-id", "c1"]).await?;
        Ok((report["links"][8]["state"] == "holds").then_some(()))
    })
    .await?;
    let other = setup.why("u1", "todos", "1", &["--client", "c2"]).await?;
    assert_eq!(other["links"][8]["state"], "unknown", "{other}");
    setup.tidewater.terminate().await?;
    Ok(())
}
