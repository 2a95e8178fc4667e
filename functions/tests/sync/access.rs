//! Access: which client gets which buckets.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;
use tidewater_storage::Embedded;
use tidewater_sync_config::STAGES_MAX;

use crate::client::{Device, kinds};
use crate::server::{Next, Server, settings, token, token_with, unix_now};
use crate::worker::{Change, Worker, answer, put, remove};
use crate::{CONFIG, deployment, rows};

#[tokio::test]
async fn a_bucket_comes_and_goes_with_the_row_that_grants_it() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("org", r#"["o1"]"#, "d1", "one")]).await;
    let mut device = Device::default();
    let token = token("u1");
    let mut lines = device.connect(&server, &token).await;
    device.until_complete(&mut lines).await;
    let org = worker.name("org", r#"["o1"]"#);
    assert!(!device.buckets.contains_key(&org));

    worker.commit(&[answer(r#"["u1"]"#, "m1", Some(r#"["o1"]"#))]).await;
    let seen = device.until_complete(&mut lines).await;
    assert_eq!(kinds(&seen), ["checkpoint_diff", "data", "checkpoint_complete"]);
    assert_eq!(device.rows(&org), rows([("d1", "one")]));

    // The same commit takes the bucket away and changes it: nothing of the change is sent.
    worker
        .commit(&[answer(r#"["u1"]"#, "m1", None), put("org", r#"["o1"]"#, "d2", "secret")])
        .await;
    let seen = device.until_complete(&mut lines).await;
    assert_eq!(kinds(&seen), ["checkpoint_diff", "checkpoint_complete"]);
    assert_eq!(seen[0]["checkpoint_diff"]["removed_buckets"], json!([org]));
    assert!(!device.buckets.contains_key(&org));

    // And it comes back from its beginning.
    worker.commit(&[answer(r#"["u1"]"#, "m2", Some(r#"["o1"]"#))]).await;
    device.until_complete(&mut lines).await;
    assert_eq!(device.rows(&org), rows([("d1", "one"), ("d2", "secret")]));
    worker.commit(&[remove("org", r#"["o1"]"#, "d1")]).await;
    device.until_complete(&mut lines).await;
    assert_eq!(device.rows(&org), rows([("d2", "secret")]));
}

#[tokio::test]
async fn uncommitted_answers_of_a_crashed_run_grant_nothing() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("org", r#"["o1"]"#, "d1", "one")]).await;
    worker.flush(&[answer(r#"["u1"]"#, "m1", Some(r#"["o1"]"#))]).await;
    worker.crash().await;
    worker.commit(&[put("everyone", "[]", "n1", "one")]).await;
    worker.flush(&[answer(r#"["u1"]"#, "m2", Some(r#"["o1"]"#))]).await;
    let mut device = Device::default();
    device.sync(&server, &token("u1")).await;
    assert!(!device.buckets.contains_key(&worker.name("org", r#"["o1"]"#)));
}

#[tokio::test]
async fn answers_from_before_a_truncation_grant_nothing() {
    let (mut worker, server) = deployment().await;
    let changes =
        [answer(r#"["u1"]"#, "m1", Some(r#"["o1"]"#)), put("org", r#"["o1"]"#, "d1", "one")];
    worker.commit(&changes).await;
    let mut device = Device::default();
    let token = token("u1");
    device.sync(&server, &token).await;
    let org = worker.name("org", r#"["o1"]"#);
    assert!(device.buckets.contains_key(&org));

    let table = u16::try_from(worker.config.lookups()[0].table).unwrap();
    worker.truncate(table + 1).await;
    device.sync(&server, &token).await;
    assert!(device.buckets.contains_key(&org), "another table was truncated");

    worker.truncate(table).await;
    device.sync(&server, &token).await;
    assert!(!device.buckets.contains_key(&org));

    // An answer written after the truncation grants again.
    worker.commit(&[answer(r#"["u1"]"#, "m1", Some(r#"["o1"]"#))]).await;
    device.sync(&server, &token).await;
    assert_eq!(device.rows(&org), rows([("d1", "one")]));
}

#[tokio::test]
async fn the_longest_chain_of_lookups_that_compiles_is_followed() {
    let joins = (1..STAGES_MAX).map(|n| format!(" JOIN m{n} ON m{n}.a = m{}.b", n - 1));
    let config = format!(
        "config: {{edition: 3}}\nstreams:\n  far:\n    auto_subscribe: true\n    query: SELECT docs.* FROM \
         docs JOIN m0 ON m0.a = auth.user_id(){} WHERE docs.a = m{}.b",
        joins.collect::<String>(),
        STAGES_MAX - 1,
    );

    let mut worker = Worker::start(Embedded::temporary().unwrap(), &config).await;
    let server = Server::start(worker.storage.clone(), settings()).await;

    let answers = (0..STAGES_MAX).map(|n| {
        let question = if n == 0 { r#"["u1"]"#.to_owned() } else { format!("[{n}]") };
        Change::Answer(n, question, format!("s{n}"), Some(format!("[{}]", n + 1)))
    });
    let mut changes: Vec<_> = answers.collect();
    let params = format!("[{STAGES_MAX}]");
    changes.push(put("far", &params, "d1", "one"));
    worker.commit(&changes).await;

    let mut device = Device::default();
    device.sync(&server, &token("u1")).await;
    assert_eq!(device.rows(&worker.name("far", &params)), rows([("d1", "one")]));
}

#[tokio::test]
async fn a_bucket_goes_and_comes_with_the_row_that_withholds_it() {
    let config = "
config: {edition: 3}
streams:
  open:
    auto_subscribe: true
    query: SELECT * FROM docs WHERE auth.user_id() NOT IN (SELECT usr FROM banned)
";
    let mut worker = Worker::start(Embedded::temporary().unwrap(), config).await;
    let server = Server::start(worker.storage.clone(), settings()).await;
    worker.commit(&[put("open", "[]", "d1", "one")]).await;
    let mut device = Device::default();
    let token = token("u1");
    let mut lines = device.connect(&server, &token).await;
    device.until_complete(&mut lines).await;
    let open = worker.name("open", "[]");
    assert_eq!(device.rows(&open), rows([("d1", "one")]));

    worker.commit(&[answer(r#"["u2"]"#, "b1", Some("[]"))]).await;
    let mut other = Device::default();
    other.sync(&server, &token).await;
    assert!(other.buckets.contains_key(&open), "another one was banned");
    // The same commit takes the bucket away and changes it: nothing of the change is sent.
    worker
        .commit(&[answer(r#"["u1"]"#, "b2", Some("[]")), put("open", "[]", "d2", "secret")])
        .await;
    let seen = device.until_complete(&mut lines).await;
    assert_eq!(kinds(&seen), ["checkpoint_diff", "checkpoint_complete"]);
    assert_eq!(seen[0]["checkpoint_diff"]["removed_buckets"], json!([open]));

    // Removing the answer returns the bucket, and so does truncating the table.
    worker.commit(&[answer(r#"["u1"]"#, "b2", None)]).await;
    device.until_complete(&mut lines).await;
    assert_eq!(device.rows(&open), rows([("d1", "one"), ("d2", "secret")]));
    worker.commit(&[answer(r#"["u1"]"#, "b3", Some("[]"))]).await;
    device.until_complete(&mut lines).await;
    assert!(!device.buckets.contains_key(&open));
    worker.truncate(u16::try_from(worker.config.lookups()[0].table).unwrap()).await;
    device.sync(&server, &token).await;
    assert_eq!(device.rows(&open), rows([("d1", "one"), ("d2", "secret")]));
}

/// Returns the change that makes `u1` a member of an organisation.
fn member(org: usize, source: usize) -> Change {
    answer(r#"["u1"]"#, &format!("m{source}"), Some(&format!(r#"["o{org}"]"#)))
}

#[tokio::test]
async fn an_exceeded_quota_names_the_limit_and_the_cause() {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    let mut limited = settings();
    limited.quotas.buckets_max = 5;
    limited.quotas.lookup_rows_max = 10;
    let server = Server::start(worker.storage.clone(), limited).await;

    // Forty rows, but they name three organisations.
    let changes: Vec<_> = (0..40).map(|source| member(source % 3, source)).collect();
    worker.commit(&changes).await;

    let mut device = Device::default();
    let token = token("u1");
    let mut lines = device.connect(&server, &token).await;
    device.until_complete(&mut lines).await;
    assert_eq!(device.buckets.len(), 5);

    worker.commit(&[member(3, 40)]).await;
    assert!(matches!(lines.next().await, Next::Cut), "an open stream can only be cut");
    let (status, body) = server.refusal(&token, "{}").await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (500, &json!("PSYNC_S2305")));
    let text = "This client would read more than 5 buckets. By stream: org (4), everyone (1), own (1). \
                The limit was reached in stream 'org', by auth.user_id(). Subscribe to less, or put \
                rows that belong together in one bucket";
    assert_eq!(body["error"]["description"], json!(text));

    let changes: Vec<_> = (0..11).map(|org| member(org, 50 + org)).collect();
    worker.commit(&changes).await;
    let (status, body) = server.refusal(&token, "{}").await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (500, &json!("PSYNC_S2305")));
    let text = body["error"]["description"].as_str().unwrap();
    assert!(text.contains("yield more than 10 rows. By stream: org (11)"), "{text}");
    assert!(!text.contains("members"), "tables are not the client's business: {text}");

    // Other clients are served.
    let other = crate::server::token("u2");
    Device::default().sync(&server, &other).await;
}

#[tokio::test]
async fn unverified_parameters_do_not_replace_claims() {
    let (mut worker, server) = deployment().await;
    worker.commit(&[put("own", r#"["u2"]"#, "a2", "not theirs")]).await;

    let now = unix_now();
    let odd = token_with(&json!({
        "sub": "u1", "iat": now, "exp": now + 60, "aud": "app", "user_id": "u2",
        "\"; DROP": ["'"], "parameters": { "user_id": "u2" },
    }));

    let request = json!({
        "raw_data": true, "user_id": "u2", "sub": "u2",
        "parameters": { "user_id": "u2", "sub": "u2" },
        "streams": { "subscriptions": [
            { "stream": "own", "parameters": { "user_id": "u2", "sub": "u2" } },
            { "stream": "nothing", "parameters": null },
        ] },
    });

    let mut device = Device::default();
    let mut lines = server.stream(&odd, &request).await;
    device.until_complete(&mut lines).await;

    assert!(device.buckets.contains_key(&worker.name("own", r#"["u1"]"#)));
    assert!(!device.buckets.contains_key(&worker.name("own", r#"["u2"]"#)));
}

#[tokio::test]
async fn naming_a_bucket_in_the_request_grants_nothing() {
    let (mut worker, server) = deployment().await;
    let changes = [put("own", r#"["u2"]"#, "a2", "secret"), put("own", r#"["u1"]"#, "a1", "mine")];
    let checkpoint = worker.commit(&changes).await;
    let theirs = worker.name("own", r#"["u2"]"#);
    for after in ["0", "1", "4808963628793332012", &checkpoint.to_string()] {
        let request = json!({ "raw_data": true, "buckets": [{ "name": theirs, "after": after }] });
        let mut device = Device::default();
        let mut lines = server.stream(&token("u1"), &request).await;
        let seen = device.until_complete(&mut lines).await;
        let bytes: String = seen.iter().map(ToString::to_string).collect();
        assert!(!bytes.contains("secret") && !bytes.contains(&theirs.replace('"', "\\\"")));
        assert_eq!(device.rows(&worker.name("own", r#"["u1"]"#)), rows([("a1", "mine")]));
    }
}

/// A change in one commit: a user's membership of an organisation, or a row of one.
#[derive(Clone, Debug)]
enum Step {
    Join(u8, u8),
    Leave(u8, u8),
    Write(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8, 0..4_u8).prop_map(|(user, org)| Step::Join(user, org)),
        (0..4_u8, 0..4_u8).prop_map(|(user, org)| Step::Leave(user, org)),
        (0..4_u8, 0..4_u8).prop_map(|(org, row)| Step::Write(org, row)),
    ]
}

/// Names of which one could be mistaken for a part of another.
const ORGS: [&str; 4] = ["o", "o\",\"p", "o]", "o 1"];
const USERS: [&str; 4] = ["u", "u\"", "u\",\"v", "u]["];

fn params(value: &str) -> String {
    json!([value]).to_string()
}

/// Each row's text names the organisation it belongs to.
fn secret(org: u8, commit: usize) -> String {
    format!("secret-of-{org}-{commit}")
}

/// Plays commits, and checks after each what every user receives.
async fn play(commits: Vec<Vec<Step>>) {
    let mut worker = Worker::start(Embedded::temporary().unwrap(), CONFIG).await;
    let server = Server::start(worker.storage.clone(), settings()).await;
    let mut members: BTreeSet<(u8, u8)> = BTreeSet::new();
    let mut content: BTreeMap<u8, BTreeMap<String, String>> = BTreeMap::new();
    let mut devices: Vec<_> = USERS.iter().map(|user| (Device::default(), token(user))).collect();

    for (number, steps) in commits.into_iter().enumerate() {
        let mut changes: Vec<Change> = Vec::new();
        for step in steps {
            match step {
                Step::Join(user, org) => {
                    members.insert((user, org));
                    let source = format!("{user}.{org}");
                    let output = params(ORGS[usize::from(org)]);
                    changes.retain(|change| !is_answer(change, &source));
                    changes.push(answer(&params(USERS[usize::from(user)]), &source, Some(&output)));
                }
                Step::Leave(user, org) => {
                    members.remove(&(user, org));
                    let source = format!("{user}.{org}");
                    changes.retain(|change| !is_answer(change, &source));
                    changes.push(answer(&params(USERS[usize::from(user)]), &source, None));
                }
                Step::Write(org, row) => {
                    let id = format!("d{row}");
                    let text = secret(org, number);
                    changes.push(put("org", &params(ORGS[usize::from(org)]), &id, &text));
                    content.entry(org).or_default().insert(id, text);
                }
            }
        }

        worker.commit(&changes).await;

        for (user, (device, token)) in (0_u8..).zip(&mut devices) {
            let lines = device.sync(&server, token).await;
            let bytes = lines.iter().map(ToString::to_string).collect::<String>();

            for org in 0..4 {
                let name = worker.name("org", &params(ORGS[usize::from(org)]));
                let expected = members.contains(&(user, org)).then(|| content.get(&org));
                match expected {
                    Some(rows) => {
                        assert_eq!(device.rows(&name), rows.cloned().unwrap_or_default());
                    }
                    None => {
                        assert!(!device.buckets.contains_key(&name));
                        assert!(!bytes.contains(&format!("secret-of-{org}-")), "{bytes}");
                    }
                }
            }
        }
    }
}

fn is_answer(change: &Change, source: &str) -> bool {
    matches!(change, Change::Answer(_, _, of, _) if of == source)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn no_byte_of_a_bucket_reaches_a_client_that_may_not_read_it(
        commits in prop::collection::vec(prop::collection::vec(step(), 1..6), 1..8)
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(play(commits));
    }
}
