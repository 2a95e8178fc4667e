//! A row is in one of a user's buckets exactly when the query, asked naively, gives it to the user.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::json;

use super::{TestRequest, table};
use crate::{Question, RowOutput, SyncConfig};

/// A condition in the language and, with the request's values put in, in SQLite's.
#[derive(Clone, Debug)]
struct Condition {
    ours: String,
    sqlite: String,
    /// Whether NOT may stand before it.
    negatable: bool,
}

#[derive(Clone, Debug)]
struct World {
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

/// Conditions of rows and requests, `?` and a name for the request's values in SQLite's text.
const TERMS: [(&str, &str, bool); 20] = [
    ("owner = auth.user_id()", "owner = :user", false),
    ("auth.parameter('org') = org", "org = :org", false),
    ("n = auth.parameter('n')", "n = :n", false),
    ("org = connection.parameter('org')", "org = :corg", false),
    ("org IN auth.parameter('orgs')", "org IN (SELECT value FROM json_each(:orgs))", false),
    ("n IN auth.parameter('ns')", "n IN (SELECT value FROM json_each(:ns))", false),
    ("auth.user_id() IN tags", ":user IN (SELECT value FROM json_each(tags))", false),
    ("auth.parameter('n') IN tags", ":n IN (SELECT value FROM json_each(tags))", false),
    ("auth.user_id() IN (owner, org)", ":user IN (owner, org)", false),
    (
        "org IN (SELECT org FROM members WHERE usr = auth.user_id())",
        "org IN (SELECT org FROM members WHERE usr = :user)",
        false,
    ),
    (
        "org IN (SELECT org FROM members WHERE usr = auth.user_id() AND role > 1)",
        "org IN (SELECT org FROM members WHERE usr = :user AND role > 1)",
        false,
    ),
    (
        "owner IN (SELECT usr FROM members WHERE org IN auth.parameter('orgs') OR role = 3)",
        "owner IN (SELECT usr FROM members WHERE \
         org IN (SELECT value FROM json_each(:orgs)) OR role = 3)",
        false,
    ),
    (
        "n IN (SELECT role FROM members WHERE usr = auth.user_id() AND org = auth.parameter('org'))",
        "n IN (SELECT role FROM members WHERE usr = :user AND org = :org)",
        false,
    ),
    (
        "auth.user_id() IN (SELECT usr FROM members WHERE role = auth.parameter('n'))",
        ":user IN (SELECT usr FROM members WHERE role = :n)",
        false,
    ),
    ("auth.parameter('org') = 'o1'", ":org = 'o1'", true),
    ("auth.parameter('n') IN (1, 2)", ":n IN (1, 2)", true),
    ("n = 1", "n = 1", true),
    ("org IS NULL", "org IS NULL", true),
    ("owner = org", "owner = org", true),
    ("n NOT IN (1, 3)", "(n IN (1, 3)) IS NOT TRUE", true),
];

fn condition() -> impl Strategy<Value = Condition> {
    let term = prop::sample::select(TERMS.to_vec()).prop_map(|(ours, sqlite, negatable)| {
        Condition { ours: ours.to_owned(), sqlite: format!("(({sqlite}) IS TRUE)"), negatable }
    });
    term.prop_recursive(3, 8, 2, |inner| {
        let operator = prop::sample::select(vec!["AND", "OR"]);
        let both =
            (inner.clone(), operator, inner.clone()).prop_map(|(a, operator, b)| Condition {
                ours: format!("({} {operator} {})", a.ours, b.ours),
                sqlite: format!("({} {operator} {})", a.sqlite, b.sqlite),
                negatable: a.negatable && b.negatable,
            });
        let not = inner.prop_map(|a| {
            // What cannot be negated is negated twice.
            let not = if a.negatable { "NOT" } else { "NOT NOT" };
            Condition {
                ours: format!("({not} {})", a.ours),
                sqlite: format!("({not} {})", a.sqlite),
                negatable: a.negatable,
            }
        });
        prop_oneof![4 => both, 1 => not]
    })
}

fn world() -> impl Strategy<Value = World> {
    let pick = |list: &'static [Option<&'static str>]| prop::sample::select(list);
    let item = (pick(&USERS), pick(&ORGS), pick(&NUMBERS), pick(&TAGS))
        .prop_map(|(owner, org, n, tags)| vec![owner, org, n, tags]);
    let member = (pick(&USERS), pick(&ORGS), pick(&NUMBERS))
        .prop_map(|(user, org, role)| vec![user, org, role]);
    let orgs = prop::sample::subsequence(vec!["o1", "o2", "o3", "o2"], 0..=4);
    let number = || {
        prop::sample::select(vec![
            json!(1),
            json!(1.0),
            json!("1"),
            json!(2),
            json!(null),
            json!(true),
        ])
    };
    let numbers = prop::collection::vec(number(), 0..4);
    let org = || prop::sample::select(vec![json!("o1"), json!("o2"), json!(null), json!(7)]);
    (
        prop::collection::vec(item, 0..6),
        prop::collection::vec(member, 0..6),
        prop::sample::select(vec!["u1", "u2", "nobody"]),
        (orgs, numbers, number(), org(), org()),
    )
        .prop_map(|(items, members, user, (orgs, numbers, n, org, connection_org))| World {
            items,
            members,
            user,
            claims: json!({"sub": user, "orgs": orgs, "ns": numbers, "n": n, "org": org}),
            parameters: json!({"org": connection_org}),
        })
}

/// The items that SQLite gives for the condition.
fn naive(condition: &Condition, world: &World) -> BTreeSet<String> {
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch(
            "CREATE TABLE items (id, owner, org, n, tags); CREATE TABLE members (usr, org, role)",
        )
        .unwrap();
    let number = |text: Option<&str>| text.map(|text| text.parse::<i64>().unwrap());
    for (id, item) in world.items.iter().enumerate() {
        let values = (id.to_string(), item[0], item[1], number(item[2]), item[3]);
        connection.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?)", values).unwrap();
    }
    for member in &world.members {
        let values = (member[0], member[1], number(member[2]));
        connection.execute("INSERT INTO members VALUES (?, ?, ?)", values).unwrap();
    }
    // Members of the request are taken by SQLite's own JSON functions, not by ours.
    let mut sql = format!(
        "SELECT id FROM items WHERE ?1 IS NOT NULL AND ?2 IS NOT NULL AND ?3 IS NOT NULL AND {}",
        condition.sqlite,
    );
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

/// The items in the buckets that the request is granted.
fn synced(config: &SyncConfig, world: &World) -> BTreeSet<String> {
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
    let mut evaluation = config.request(&request.borrow());
    while !evaluation.questions().is_empty() {
        let found: Vec<Vec<String>> = evaluation
            .questions()
            .iter()
            .map(|question| answers.get(question).cloned().unwrap_or_default())
            .collect();
        evaluation.answer(&found);
    }
    let granted = evaluation.finish();
    assert!(granted.streams.iter().all(|stream| stream.errors.is_empty()));
    let names: BTreeSet<_> = granted.buckets.iter().map(|b| (b.definition, &b.params)).collect();
    assert_eq!(names.len(), granted.buckets.len(), "each bucket once");
    let mut ids = BTreeSet::new();
    for bucket in granted.buckets {
        ids.extend(buckets.remove(&(bucket.definition, bucket.params)).unwrap_or_default());
    }
    ids
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn is_what_the_query_says(condition in condition(), worlds in prop::collection::vec(world(), 4)) {
        let yaml = format!(
            "config: {{edition: 3}}\nstreams:\n  s:\n    auto_subscribe: true\n    query: |\n      \
             SELECT id FROM items WHERE {}\n",
            condition.ours,
        );
        let config = match SyncConfig::compile(&yaml) {
            Ok(config) => config,
            Err(findings) => {
                prop_assert!(findings[0].message.contains("alternatives"), "{findings:?}");
                return Err(TestCaseError::reject("too many alternatives"));
            }
        };
        for world in worlds {
            prop_assert_eq!(synced(&config, &world), naive(&condition, &world), "{:?}", &world);
        }
    }
}
