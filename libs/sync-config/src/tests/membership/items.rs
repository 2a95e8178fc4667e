//! Items and members, stored as a server stores them and in SQLite.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::json;

use super::super::{TestRequest, table};
use crate::{Question, RowOutput, SyncConfig};

#[derive(Clone, Debug)]
pub(super) struct World {
    items: Vec<Vec<Option<&'static str>>>,
    members: Vec<Vec<Option<&'static str>>>,
    user: &'static str,
    claims: serde_json::Value,
    parameters: serde_json::Value,
}

const USERS: [Option<&str>; 4] = [Some("u1"), Some("u2"), Some("u3"), None];
const ORGS: [Option<&str>; 4] = [Some("o1"), Some("o2"), Some("o3"), None];
const NUMBERS: [Option<&str>; 4] = [Some("1"), Some("2"), Some("3"), None];
const TAGS: [Option<&str>; 7] = [
    Some(r#"["u1", 1]"#),
    Some("[]"),
    Some(r#"["u1"]"#),
    Some(r#"["u2", "u1", "u2"]"#),
    Some("[1, 2.0]"),
    Some("[null]"),
    None,
];

/// Condition that uses every parameter: SQLite rejects values for parameters that are not used.
pub(super) const USES_ALL_PARAMETERS: &str = "?1 IS NOT NULL AND ?2 IS NOT NULL AND ?3 IS NOT NULL";

fn pick(list: &'static [Option<&'static str>]) -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(list)
}

fn request_number() -> impl Strategy<Value = serde_json::Value> {
    prop::sample::select(vec![json!(1), json!(1.0), json!("1"), json!(2), json!(null), json!(true)])
}

fn org() -> impl Strategy<Value = serde_json::Value> {
    prop::sample::select(vec![json!("o1"), json!("o2"), json!(null), json!(7)])
}

pub(super) fn world() -> impl Strategy<Value = World> {
    let item = (pick(&USERS), pick(&ORGS), pick(&NUMBERS), pick(&TAGS))
        .prop_map(|(owner, org, n, tags)| vec![owner, org, n, tags]);
    let member = (pick(&USERS), pick(&ORGS), pick(&NUMBERS))
        .prop_map(|(user, org, role)| vec![user, org, role]);
    let orgs = prop::sample::subsequence(vec!["o1", "o2", "o3", "o2"], 0..=4);

    let numbers = prop::collection::vec(request_number(), 0..4);

    (
        prop::collection::vec(item, 0..6),
        prop::collection::vec(member, 0..6),
        prop::sample::select(vec!["u1", "u2", "nobody"]),
        (orgs, numbers, request_number(), org(), org()),
    )
        .prop_map(|(items, members, user, (orgs, numbers, n, org, connection_org))| World {
            items,
            members,
            user,
            claims: json!({"sub": user, "orgs": orgs, "ns": numbers, "n": n, "org": org}),
            parameters: json!({"org": connection_org}),
        })
}

fn number(text: Option<&str>) -> Option<i64> {
    text.map(|text| text.parse::<i64>().unwrap())
}

/// Returns the items that SQLite selects. The request's values have names in `query`.
pub(super) fn items_by_sqlite(query: &str, world: &World) -> BTreeSet<String> {
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch(
            "CREATE TABLE items (id, owner, org, n, tags); CREATE TABLE members (usr, org, role)",
        )
        .unwrap();

    for (id, item) in world.items.iter().enumerate() {
        let values = (id.to_string(), item[0], item[1], number(item[2]), item[3]);
        connection.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?)", values).unwrap();
    }

    for member in &world.members {
        let values = (member[0], member[1], number(member[2]));
        connection.execute("INSERT INTO members VALUES (?, ?, ?)", values).unwrap();
    }

    // SQLite's own JSON functions read the request's parameters, not ours.
    let mut sql = query.to_owned();
    for (name, value) in [
        (":user", "?1"),
        (":orgs", "(?2 ->> 'orgs')"),
        (":org", "(?2 ->> 'org')"),
        (":corg", "(?3 ->> 'org')"),
        (":ns", "(?2 ->> 'ns')"),
        (":n", "(?2 ->> 'n')"),
    ] {
        sql = sql.replace(name, value);
    }

    let mut statement = connection.prepare(&sql).unwrap();
    let request = (world.user, world.claims.to_string(), world.parameters.to_string());
    let ids = statement.query_map(request, |row| row.get(0)).unwrap();

    ids.collect::<Result<_, _>>().unwrap()
}

/// Returns the items in the buckets that are granted to the request.
pub(super) fn synced_items(config: &SyncConfig, world: &World) -> BTreeSet<String> {
    let items = table("items(id text, owner text, org text, n int4, tags json)");
    let members = table("members(usr text, org text, role int8)");
    let mut out = RowOutput::default();
    let mut buckets: HashMap<(usize, String), BTreeSet<String>> = HashMap::new();
    let mut answers: HashMap<Question, Vec<String>> = HashMap::new();
    let evaluator = config.bind(&items).unwrap().unwrap();

    for (id, item) in world.items.iter().enumerate() {
        let id = id.to_string();
        let row: Vec<Option<&str>> =
            std::iter::once(Some(id.as_str())).chain(item.iter().copied()).collect();
        evaluator.evaluate(&row, &mut out);
        assert!(out.errors().is_empty());
        for bucket in out.buckets() {
            let key = (bucket.definition, bucket.params.to_owned());
            assert!(buckets.entry(key).or_default().insert(bucket.object_id.to_owned()));
        }
    }

    if let Some(evaluator) = config.bind(&members).unwrap() {
        for member in &world.members {
            evaluator.evaluate(member, &mut out);
            for row in out.lookups() {
                let question = Question { lookup: row.lookup, key: row.key.to_owned() };
                answers.entry(question).or_default().push(row.output.to_owned());
            }
        }
    }

    let request = TestRequest {
        user_id: world.user.to_owned(),
        claims: world.claims.as_object().unwrap().clone(),
        parameters: world.parameters.as_object().cloned(),
        include_defaults: true,
        subscriptions: Vec::new(),
    };

    let mut evaluation =
        config.prepare(&request.borrow(), &crate::RequestLimits::UNLIMITED).unwrap().evaluation();
    while !evaluation.questions().is_empty() {
        let found: Vec<Vec<String>> = evaluation
            .questions()
            .iter()
            .map(|question| answers.get(question).cloned().unwrap_or_default())
            .collect();
        evaluation.answer(&found);
    }

    let granted = evaluation.finish().unwrap();
    assert!(granted.streams.iter().all(|stream| stream.errors.is_empty()));

    let names: BTreeSet<_> = granted.buckets.iter().map(|b| (b.definition, &b.params)).collect();
    assert_eq!(names.len(), granted.buckets.len(), "each bucket once");

    let mut ids = BTreeSet::new();
    for bucket in granted.buckets {
        ids.extend(buckets.remove(&(bucket.definition, bucket.params)).unwrap_or_default());
    }

    ids
}
