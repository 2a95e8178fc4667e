//! The rights of the deployment's roles, compared with the calls of a full run in both directions: each call
//! is allowed, and each right is used or has a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tidewater_storage::{ControlStore, Generation};
use tidewater_tests::{
    AUDIENCE, Device, Lodging, Postgres, Process, Scratch, Signal, SigningKey, SyncReader,
    eventually,
};

use crate::aws::{Aws, Recorded};

/// A bound for whatever must happen: long, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(60);

const STORE: &str = include_str!("../../infra/template/20-store.yaml");
const FUNCTIONS: &str = include_str!("../../infra/template/30-functions.yaml");
const WORKER: &str = include_str!("../../infra/template/40-worker.yaml");

/// The access keys of the three roles, with the resource of the template that has their rights.
const ROLES: [(&str, &str); 3] =
    [("api", "SyncApiRole"), ("builder", "SnapshotBuilderRole"), ("worker", "WorkerPolicy")];

/// Rights that the run below does not use.
const UNUSED: &[(&str, &str, &str, &str)] = &[
    ("api", "dynamodb:GetItem", "buckets", REPLACED),
    ("api", "dynamodb:GetItem", "lookups", REPLACED),
    ("api", "s3:ListBucket", "objects", DELETED),
    ("builder", "dynamodb:GetItem", "buckets", REPLACED),
    ("builder", "s3:AbortMultipartUpload", "objects/*", BROKEN_OFF),
    ("builder", "s3:ListBucket", "objects", DELETED),
    ("worker", "s3:AbortMultipartUpload", "objects/*", BROKEN_OFF),
    ("worker", "s3:ListBucket", "objects", DELETED),
];

const REPLACED: &str = "a record of more than 300 kB that is replaced while it is read";
const DELETED: &str = "an object that is deleted while it is read";
const BROKEN_OFF: &str = "an upload of more than 16 MB that fails";

const TABLES: &str = "
    CREATE TABLE lists (id text PRIMARY KEY, owner_id text);
    CREATE TABLE todos (id text PRIMARY KEY, list_id text, title text);
    CREATE PUBLICATION powersync FOR TABLE lists, todos;
    INSERT INTO lists SELECT 'l' || n, 'u' || n % 3 FROM generate_series(1, 9) n;
    INSERT INTO todos SELECT n::text, 'l' || 1 + n % 9, 'title ' || n FROM generate_series(1, 300) n";

/// Title that does not compress, so that a segment of many is an object.
const LARGE: &str = "
    UPDATE todos SET title =
        (SELECT string_agg(md5(random()::text || todos.id || n), '') FROM generate_series(1, 30) n)";

const FIRST: &str = "
config: { edition: 3 }
streams:
  mine:
    auto_subscribe: true
    query: SELECT * FROM todos WHERE list_id IN (SELECT id FROM lists WHERE owner_id = auth.user_id())
";

const SECOND: &str = "
config: { edition: 3 }
streams:
  all: { auto_subscribe: true, query: SELECT * FROM todos }
";

const SCHEMA: &str = "CREATE TABLE todos (id TEXT PRIMARY KEY, list_id TEXT, title TEXT);";

/// A right: of a role, to an action, on a resource.
type Right = (String, String, String);

/// A deployment whose processes each have an access key of their own.
struct Setup {
    aws: Aws,
    postgres: Postgres,
    folder: Scratch,
    key: SigningKey,
}

impl Setup {
    async fn new() -> Result<Self> {
        let postgres = Postgres::start().await?;
        postgres.execute(TABLES).await?;
        let key = SigningKey::random("k");
        Ok(Self { aws: Aws::start().await?, postgres, folder: Scratch::new()?, key })
    }

    fn spawn(&self, name: &str, mut command: Command) -> Result<Process> {
        let lodging = Lodging { name, logs: self.folder.path(), end: Signal::Term };
        Process::spawn(&mut command, lodging)
    }

    fn worker(&self, name: &str, config: &str) -> Result<Process> {
        let file = self.folder.path().join(format!("{name}.yaml"));
        std::fs::write(&file, config)?;
        let mut command = self.aws.command("worker", "ingest")?;
        command
            .args(["--rollback-grace", "0s", "--snapshot-threshold", "1"])
            .args(["--metrics-listen", "off"])
            .env("TIDEWATER_DATABASE_URL", self.postgres.url("postgres"))
            .env("TIDEWATER_SYNC_CONFIG", file);
        self.spawn(name, command)
    }

    async fn api(&self) -> Result<(Process, String)> {
        let mut command = self.aws.command("api", "serve")?;
        command
            .args(["--listen", "127.0.0.1:0", "--metrics-listen", "off"])
            .args(["--audience", AUDIENCE, "--jwks"])
            .arg(self.key.write_jwk_set(self.folder.path())?);
        let mut process = self.spawn("serve", command)?;
        let url = process.listening(SOON).await?;
        Ok((process, url))
    }

    /// Runs one pass of the builder, which deletes at once what is replaced.
    async fn build(&self) -> Result<()> {
        let mut command = self.aws.command("builder", "compact")?;
        command.args(["--once", "--snapshot-threshold", "1"]).args([
            "--log-horizon",
            "0s",
            "--delete-grace",
            "0s",
        ]);
        Process::run(&mut command, SOON).await?.assert_code(0);
        Ok(())
    }

    /// Makes the newest generation one of another version, whose rows this version cannot continue.
    async fn age_generation(&self) -> Result<()> {
        let store = self.aws.store();
        let control = store.control().await?.context("no control record")?;
        let generation = store.generation(control.generation).await?.context("no generation")?;
        let identity = "of another version".to_owned();
        store.put_generation(&Generation { identity, ..generation }).await?;
        Ok(())
    }

    /// Changes each kind of record, and waits until a user has what follows.
    async fn change(&self, url: &str, round: u32) -> Result<()> {
        for sql in [
            LARGE,
            "UPDATE todos SET list_id = 'l1' WHERE id::int % 10 = 0",
            "UPDATE lists SET owner_id = 'u' || (substr(id, 2)::int + 1) % 3",
            "DELETE FROM todos WHERE id::int % 50 = 7",
        ] {
            self.postgres.execute(sql).await?;
        }
        let insert = format!("INSERT INTO todos VALUES ('100{round}', 'l1', 'round {round}')");
        self.postgres.execute(&insert).await?;

        let mut reader = SyncReader::new();
        let token = self.key.token("u1").sign()?;
        let number = reader.write_checkpoint(url, &token).await?;
        eventually("the write to be acknowledged", SOON, async || {
            Ok(reader.sync_once(url, &token).await?.acknowledges(number).then_some(()))
        })
        .await
    }
}

/// Runs everything that a deployment does: a copy, changes, write checkpoints, snapshots, a device that takes
/// one, another sync config, and the removal of what the former one had.
async fn full_run(setup: &Setup) -> Result<()> {
    let (_api, url) = setup.api().await?;
    let mut worker = setup.worker("first", FIRST)?;
    worker.ready(&url, SOON).await?;
    setup.build().await?;
    for round in 0..3 {
        setup.change(&url, round).await?;
        setup.build().await?;
    }
    let mut device = Device::new(SCHEMA)?;
    device.sync_once(&url, &setup.key.token("u1").sign()?, &[], SOON).await?.assert_code(0);

    worker.signal(Signal::Term)?;
    worker.wait(SOON).await?.assert_code(0);
    let mut second = setup.worker("second", SECOND)?;
    eventually("the second sync config to be in use", SOON, async || {
        let mut reader = SyncReader::new();
        let rows = reader.sync_once(&url, &setup.key.token("u9").sign()?).await?.rows;
        Ok((!rows.is_empty()).then_some(()))
    })
    .await?;
    setup.change(&url, 3).await?;
    setup.build().await?;
    setup.postgres.execute("TRUNCATE todos").await?;

    // Without its slot, the worker copies all tables again over their rows.
    second.signal(Signal::Term)?;
    second.wait(SOON).await?.assert_code(0);
    let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots";
    setup.postgres.execute(drop).await?;
    let mut third = setup.worker("third", SECOND)?;
    setup.change(&url, 4).await?;

    // After an upgrade that evaluates configs otherwise, it copies them into a new generation. The first pass
    // of the builder notes that the former ones are replaced, and the next one removes them.
    third.signal(Signal::Term)?;
    third.wait(SOON).await?.assert_code(0);
    setup.age_generation().await?;
    let _fourth = setup.worker("fourth", SECOND)?;
    setup.change(&url, 5).await?;
    eventually("the former generations to be removed", SOON, async || {
        setup.build().await?;
        let calls = setup.aws.recorded();
        let is_removal = |call: &Recorded| {
            call.access_key == "builder"
                && call.resource == "control"
                && call.action == "dynamodb:BatchWriteItem"
        };
        Ok(calls.iter().any(is_removal).then_some(()))
    })
    .await
}

/// Returns the names of the tables by their logical ids.
fn tables() -> BTreeMap<&'static str, &'static str> {
    let mut tables = BTreeMap::new();
    let mut resource = "";
    for line in STORE.lines() {
        if let Some(name) = resource_of(line) {
            resource = name;
        }
        if let Some(name) = line.trim().strip_prefix("TableName: !Sub ${AWS::StackName}-") {
            tables.insert(resource, name);
        }
    }
    tables
}

/// Returns the logical id that a line begins.
fn resource_of(line: &str) -> Option<&str> {
    let name = line.strip_prefix("  ")?.strip_suffix(':')?;
    name.chars().all(char::is_alphanumeric).then_some(name)
}

/// Returns the rights of a resource of the template to DynamoDB and S3.
fn rights(role: &str, resource: &str) -> BTreeSet<Right> {
    let tables = tables();
    let lines = FUNCTIONS.lines().chain(WORKER.lines());
    let lines = lines.skip_while(|line| resource_of(line) != Some(resource)).skip(1);

    let mut rights = BTreeSet::new();
    let mut actions: Vec<&str> = Vec::new();
    for line in lines.take_while(|line| resource_of(line).is_none()) {
        let line = line.trim().trim_start_matches("- ");
        if line.starts_with("Effect:") {
            actions.clear();
        }
        let value =
            line.strip_prefix("Action: ").or(line.strip_prefix("Resource: ")).unwrap_or(line);
        if value.starts_with("dynamodb:") && !value.ends_with(']') || value.starts_with("s3:") {
            actions.push(value);
        }
        let target = match value {
            "!GetAtt Objects.Arn" => Some("objects"),
            "!Sub ${Objects.Arn}/*" => Some("objects/*"),
            other => other
                .strip_prefix("!GetAtt ")
                .and_then(|other| other.strip_suffix(".Arn"))
                .and_then(|id| tables.get(id).copied()),
        };
        for action in actions.iter().filter(|_| target.is_some()) {
            let target = target.unwrap_or_default().to_owned();
            rights.insert((role.to_owned(), (*action).to_owned(), target));
        }
    }
    rights
}

fn all_rights() -> BTreeSet<Right> {
    ROLES.into_iter().flat_map(|(role, resource)| rights(role, resource)).collect()
}

#[tokio::test]
async fn roles_have_the_rights_that_a_full_run_uses_and_no_others() -> Result<()> {
    let setup = Setup::new().await?;
    full_run(&setup).await?;

    let allowed = all_rights();
    let unused: BTreeSet<Right> = UNUSED
        .iter()
        .map(|(role, action, resource, _)| {
            ((*role).to_owned(), (*action).to_owned(), (*resource).to_owned())
        })
        .collect();
    // The test itself reads the store with an access key that is no role.
    let calls: Vec<_> =
        setup.aws.recorded().into_iter().filter(|call| call.access_key != "test").collect();

    let mut used = BTreeSet::new();
    for call in calls {
        let right = (call.access_key.clone(), call.action.clone(), call.resource.clone());
        assert!(allowed.contains(&right), "no right for {call:?}");
        used.insert(right);
        let is_write = call.action.contains("Put") || call.action.contains("Write");
        if call.access_key == "builder" && call.resource == "control" && is_write {
            // The condition `dynamodb:LeadingKeys` of its policy.
            let generations = BTreeSet::from(["generations".to_owned()]);
            assert_eq!(call.partitions, generations, "{call:?}");
        }
    }

    let listed: Vec<_> = unused.difference(&allowed).collect();
    assert!(listed.is_empty(), "UNUSED lists what no role has: {listed:#?}");
    let idle: Vec<_> = allowed.difference(&used).filter(|right| !unused.contains(*right)).collect();
    assert!(idle.is_empty(), "rights that nothing has used: {idle:#?}");
    Ok(())
}

#[test]
fn the_rights_of_the_template_are_found() {
    let rights = all_rights();
    for (role, action, resource) in [
        ("api", "dynamodb:Query", "lookups"),
        ("builder", "dynamodb:BatchWriteItem", "control"),
        ("worker", "dynamodb:PutItem", "control"),
        ("worker", "s3:ListBucket", "objects"),
    ] {
        let right = (role.to_owned(), action.to_owned(), resource.to_owned());
        assert!(rights.contains(&right), "{right:?} in {rights:#?}");
    }
    assert!(rights.iter().all(|(role, ..)| ROLES.iter().any(|(name, _)| name == role)));
}
