//! `NOT IN (SELECT ...)` and `NOT EXISTS` agree with SQLite over random queries and rows.

mod refused;
mod requests;

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::json;

use super::{TestRequest, table};
use crate::{Question, RowOutput, SyncConfig};

/// Condition of the language, with the SQLite expressions for when it and its negation are true.
#[derive(Clone, Debug)]
struct Condition {
    ours: String,
    is_true: String,
    /// SQLite expression for the negation in SQLite's engine. In the default engine NULL is false
    /// under NOT.
    is_false: String,
    is_not_true: String,
}

#[derive(Clone, Debug)]
struct World {
    members: Vec<Vec<Option<&'static str>>>,
    claims: serde_json::Value,
    parameters: serde_json::Value,
}

/// FROM clauses of subqueries, each with the expressions that may be selected from it.
const INNER: [(&str, &[&str]); 9] = [
    ("members m", &["m.usr", "m.org", "m.role", ":user", "7", "NULL"]),
    ("members m, members k", &["m.usr", "k.org"]),
    ("members m JOIN members k ON k.org = m.org", &["m.usr", "k.usr", "k.role"]),
    ("members m, json_each(m.tags) e", &["e.value", "m.org"]),
    ("json_each(:orgs) e", &["e.value"]),
    ("members m, json_each(:orgs) e", &["e.value", "m.usr"]),
    ("members m LEFT JOIN members k ON k.usr = m.usr AND k.role > 1", &["m.org", "m.usr", "k.org"]),
    ("(SELECT usr, org FROM members WHERE role = :num) m", &["m.usr", "m.org"]),
    ("fellows m", &["m.usr", "m.org"]),
];

const WITH: &str = "WITH fellows AS (SELECT k.usr, k.org FROM members o JOIN members k ON k.org = o.org \
                    WHERE o.usr = :user), orgs AS (SELECT org FROM members WHERE role > 1)";

const VALUES: [&str; 9] = [
    ":user",
    ":org",
    ":num",
    ":corg",
    "'u1'",
    "1",
    "NULL",
    "coalesce(:org, 'o1')",
    "coalesce(:org, :corg)",
];

/// Conditions on rows of subqueries. `OF_ANY` fits any table, `OF_MEMBERS` only `members m`.
const OF_ANY: [&str; 6] = [
    "m.usr = :user",
    "m.org = :org",
    "m.org IN :orgs",
    "m.usr IN (SELECT n.usr FROM members n WHERE n.role = :num)",
    ":corg = m.org",
    ":num = 1",
];
const OF_MEMBERS: [&str; 5] = [
    "m.role = :num",
    ":user IN m.tags",
    "m.tags && (SELECT n.usr FROM members n WHERE n.org = :org)",
    "m.usr = m.org",
    "EXISTS (SELECT 1 FROM members n WHERE n.org = m.org AND n.usr = :user)",
];
const OF_JOINED: [&str; 3] = ["k.org = :org", "k.role > 1", "k.usr = m.org"];
/// Conditions on rows that may be negated.
const PLAIN: [&str; 5] =
    ["m.usr = 'u1'", "m.org IS NULL", ":org = 'o1'", ":num IN (1, 2)", "m.usr > 'u1'"];

fn ours(text: &str) -> String {
    text.replace(":user", "auth.user_id()")
        .replace(":orgs", "auth.parameter('orgs')")
        .replace(":org", "auth.parameter('org')")
        .replace(":num", "auth.parameter('num')")
        .replace(":corg", "connection.parameter('org')")
}

/// Translates a condition for SQLite, whose own JSON functions read the request parameters.
fn to_sqlite(text: &str) -> String {
    text.replace("IN :orgs", "IN (SELECT value FROM json_each(:orgs))")
        .replace("IN m.tags", "IN (SELECT value FROM json_each(m.tags))")
        .replace(
            "m.tags && (SELECT n.usr FROM members n WHERE n.org = :org)",
            "EXISTS (SELECT 1 FROM json_each(m.tags) a, members n WHERE n.org = :org AND n.usr = a.value)",
        )
        .replace("IN orgs", "IN (SELECT org FROM orgs)")
        .replace(":user", "?1")
        .replace(":orgs", "(?2 ->> 'orgs')")
        .replace(":org", "(?2 ->> 'org')")
        .replace(":num", "(?2 ->> 'num')")
        .replace(":corg", "(?3 ->> 'org')")
}

fn join(operator: &str, one: &str, other: &str) -> String {
    format!("({one} {operator} {other})")
}

impl Condition {
    /// `is_query` marks conditions with a subquery: NOT of their NULL is false in both engines.
    fn new(ours_text: &str, sqlite: &str, is_query: bool) -> Self {
        let is_false = format!("(({sqlite}) IS FALSE)");
        let is_not_true = format!("(({sqlite}) IS NOT TRUE)");
        Self {
            ours: ours(ours_text),
            is_true: format!("(({sqlite}) IS TRUE)"),
            is_not_true: if is_query { is_false.clone() } else { is_not_true },
            is_false,
        }
    }

    fn plain(text: &str) -> Self {
        Self::new(text, &to_sqlite(text), false)
    }

    fn both(&self, operator: &str, other: &Self) -> Self {
        let negated = if operator == "AND" { "OR" } else { "AND" };
        Self {
            ours: join(operator, &self.ours, &other.ours),
            is_true: join(operator, &self.is_true, &other.is_true),
            is_false: join(negated, &self.is_false, &other.is_false),
            is_not_true: join(negated, &self.is_not_true, &other.is_not_true),
        }
    }

    fn not(&self, is_three_valued: bool) -> Self {
        let is_false = if is_three_valued { &self.is_false } else { &self.is_not_true };
        Self {
            ours: format!("(NOT {})", self.ours),
            is_true: is_false.clone(),
            is_false: self.is_true.clone(),
            is_not_true: self.is_true.clone(),
        }
    }
}

fn select(column: &str, from: &str, condition: &str) -> String {
    match condition {
        "" => format!("SELECT {column} FROM {from}"),
        _ => format!("SELECT {column} FROM {from} WHERE {condition}"),
    }
}

/// Returns conditions on the request alone that query tables. `depth` bounds NOT within NOT.
fn query(is_three_valued: bool, depth: usize) -> BoxedStrategy<Condition> {
    let inner = prop::sample::select(INNER.to_vec())
        .prop_flat_map(|(from, columns)| (Just(from), prop::sample::select(columns)));
    let kind = prop::sample::select(vec!["IN", "NOT IN", "EXISTS", "NOT EXISTS", "&&"]);
    let value = prop::sample::select(VALUES.to_vec());
    let of_inner = inner.prop_flat_map(move |(from, column)| {
        (Just(from), Just(column), inner_condition(from, is_three_valued, depth))
    });

    let asked = (kind, value, of_inner).prop_map(|(kind, value, (from, column, condition))| {
        let (mine, is_true) = condition
            .map_or_else(Default::default, |condition| (condition.ours, condition.is_true));
        let mine = select(column, from, &mine);
        let sqlites = to_sqlite(&select(column, from, &is_true));
        let sqlite_value = to_sqlite(value);

        let (mine, sqlite) = match kind {
            "EXISTS" | "NOT EXISTS" => (format!("{kind} ({mine})"), format!("{kind} ({sqlites})")),
            "&&" => (
                format!(":orgs && ({mine})"),
                to_sqlite(&format!(
                    "CASE WHEN :orgs IS NOT NULL THEN EXISTS \
                     (SELECT 1 FROM json_each(:orgs) a JOIN ({sqlites}) b ON b.v = a.value) END"
                ))
                .replacen(
                    &format!("SELECT {}", to_sqlite(column)),
                    &format!("SELECT {} AS v", to_sqlite(column)),
                    1,
                ),
            ),
            _ => (format!("{value} {kind} ({mine})"), format!("{sqlite_value} {kind} ({sqlites})")),
        };

        Condition::new(&mine, &sqlite, true)
    });

    let cte = prop::sample::select(vec![":org IN orgs", ":org NOT IN orgs", ":user NOT IN orgs"])
        .prop_map(|text| Condition::new(text, &to_sqlite(text), true));
    prop_oneof![12 => asked, 1 => cte].boxed()
}

/// Returns the WHERE clause of a subquery, if any.
fn inner_condition(
    from: &'static str,
    is_three_valued: bool,
    depth: usize,
) -> BoxedStrategy<Option<Condition>> {
    let has_row = from.contains(" m");
    let is_whole = from.starts_with("members m");
    let mut of_row = match (has_row, is_whole) {
        (true, true) => [&OF_ANY[..], &OF_MEMBERS[..]].concat(),
        (true, false) => OF_ANY.to_vec(),
        (false, _) => vec![":num = 1", ":user = 'u1'"],
    };

    if from.contains(" k") {
        of_row.extend(OF_JOINED);
    }

    let plain = if has_row { PLAIN.to_vec() } else { vec![":org = 'o1'", "e.value = 'o1'"] };
    let positive = prop::sample::select(of_row).prop_map(Condition::plain);
    let negatable = (prop::sample::select(plain), any::<bool>()).prop_map(move |(text, not)| {
        let condition = Condition::plain(text);
        if not { condition.not(is_three_valued) } else { condition }
    });

    let mut leaf = prop_oneof![2 => positive, 1 => negatable].boxed();
    if depth > 0 {
        leaf = prop_oneof![4 => leaf, 1 => query(is_three_valued, depth - 1)].boxed();
    }

    let operator = prop::sample::select(vec!["AND", "OR"]);
    let both = (leaf.clone(), operator, leaf.clone())
        .prop_map(|(one, operator, other)| Some(one.both(operator, &other)));

    prop_oneof![1 => Just(None), 2 => leaf.prop_map(Some), 2 => both].boxed()
}

fn operator() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["AND", "OR"])
}

/// Returns the WHERE clause of the stream. Conditions on its own rows are never negated.
fn condition(is_three_valued: bool) -> BoxedStrategy<Condition> {
    let leaf = (query(is_three_valued, 2), any::<bool>());
    let leaf = leaf.prop_map(move |(one, not)| if not { one.not(is_three_valued) } else { one });
    let leaf = leaf.boxed();
    let both = (leaf.clone(), operator(), leaf.clone(), any::<bool>());
    let both = both.prop_map(move |(one, operator, other, not)| {
        let both = one.both(operator, &other);
        if not { both.not(is_three_valued) } else { both }
    });
    let of_request = prop_oneof![2 => leaf, 1 => both];
    let row = prop::sample::select(vec!["i.owner = :user", "i.owner = 'u1'", "i.owner IN :orgs"]);
    let with_row = (of_request.clone(), operator(), row)
        .prop_map(|(one, operator, row)| one.both(operator, &Condition::plain(row)));

    prop_oneof![1 => of_request, 1 => with_row].boxed()
}

/// Returns what the stream selects from: the items alone, or with a left join that has such a
/// condition too. A condition that needs the joined row turns the left join into an inner join.
fn from(is_three_valued: bool) -> BoxedStrategy<(String, String, &'static str)> {
    let alone = Just(("items i".to_owned(), "items i".to_owned(), ""));
    let joined = query(is_three_valued, 1).prop_map(|on| {
        let join = "items i LEFT JOIN members z ON z.usr = i.owner AND";
        (format!("{join} {}", on.ours), format!("{join} {}", on.is_true))
    });
    let needed = prop::sample::select(vec![" AND z.role > 1", ""]);
    let joined = (joined, needed).prop_map(|((ours, sqlite), needed)| (ours, sqlite, needed));
    prop_oneof![2 => alone, 1 => joined].boxed()
}

fn pick(list: &'static [Option<&'static str>]) -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(list)
}

fn org() -> impl Strategy<Value = serde_json::Value> {
    prop::sample::select(vec![json!("o1"), json!("o2"), json!("u1"), json!(null)])
}

fn world() -> impl Strategy<Value = World> {
    let member = (
        pick(&[Some("u1"), Some("u2"), Some("o1"), None]),
        pick(&[Some("o1"), Some("o2"), None]),
        pick(&[Some("1"), Some("2"), None]),
        pick(&[Some("[]"), Some(r#"["u1", null]"#), Some(r#"["o1", 1]"#), Some("[2.0]"), None]),
    )
        .prop_map(|(user, org, role, tags)| vec![user, org, role, tags]);
    let orgs = prop::sample::select(vec![
        json!([]),
        json!(["o1"]),
        json!(["o2", "u1", null]),
        json!([1, "o1"]),
        json!(null),
    ]);
    let number = prop::sample::select(vec![json!(1), json!(2.0), json!("1"), json!(null)]);
    let values = (org(), orgs, number, org());

    (prop::collection::vec(member, 0..5), values).prop_map(|(members, (org, orgs, num, other))| {
        World {
            members,
            claims: json!({"sub": "u1", "org": org, "orgs": orgs, "num": num}),
            parameters: json!({"org": other}),
        }
    })
}

const ITEMS: [[Option<&str>; 2]; 3] =
    [[Some("0"), Some("u1")], [Some("1"), Some("o1")], [Some("2"), None]];

/// Returns the items that SQLite selects.
fn items_by_sqlite(from: &str, condition: &str, world: &World) -> BTreeSet<String> {
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch(
            "CREATE TABLE items (id, owner); CREATE TABLE members (usr, org, role, tags)",
        )
        .unwrap();

    for item in ITEMS {
        connection.execute("INSERT INTO items VALUES (?, ?)", item).unwrap();
    }

    for member in &world.members {
        let role = member[2].map(|text| text.parse::<i64>().unwrap());
        let values = (member[0], member[1], role, member[3]);
        connection.execute("INSERT INTO members VALUES (?, ?, ?, ?)", values).unwrap();
    }

    // SQLite rejects values for parameters that the statement does not use.
    let known = "?1 IS NOT NULL AND ?2 IS NOT NULL AND ?3 IS NOT NULL";
    let with = to_sqlite(WITH);
    let sql = format!("{with} SELECT i.id FROM {from} WHERE {known} AND {condition}");
    let mut statement = connection.prepare(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let request = ("u1", world.claims.to_string(), world.parameters.to_string());
    let ids = statement.query_map(request, |row| row.get(0)).unwrap();

    ids.collect::<Result<_, _>>().unwrap()
}

/// Returns the items in the buckets that are granted to the request.
fn synced_items(config: &SyncConfig, world: &World) -> BTreeSet<String> {
    let mut out = RowOutput::default();
    let mut buckets: HashMap<(usize, String), BTreeSet<String>> = HashMap::new();
    let mut answers: HashMap<Question, Vec<String>> = HashMap::new();
    let items = config.bind(&table("items(id text, owner text)")).unwrap().unwrap();

    for item in ITEMS {
        items.evaluate(&item, &mut out);
        for bucket in out.buckets() {
            let key = (bucket.definition, bucket.params.to_owned());
            buckets.entry(key).or_default().insert(bucket.object_id.to_owned());
        }
    }

    let members = table("members(usr text, org text, role int8, tags json)");
    if let Some(evaluator) = config.bind(&members).unwrap() {
        for member in &world.members {
            evaluator.evaluate(member, &mut out);
            assert!(out.errors().is_empty());
            for row in out.lookups() {
                let question = Question { lookup: row.lookup, key: row.key.to_owned() };
                answers.entry(question).or_default().push(row.output.to_owned());
            }
        }
    }

    let request = TestRequest {
        user_id: "u1".to_owned(),
        claims: world.claims.as_object().unwrap().clone(),
        parameters: world.parameters.as_object().cloned(),
        include_defaults: true,
        subscriptions: Vec::new(),
    };

    let mut evaluation =
        config.prepare(&request.borrow(), &crate::RequestLimits::UNLIMITED).unwrap().evaluation();
    while !evaluation.questions().is_empty() {
        let questions = evaluation.questions().iter();
        let found: Vec<Vec<String>> =
            questions.map(|question| answers.get(question).cloned().unwrap_or_default()).collect();
        evaluation.answer(&found);
    }

    let granted = evaluation.finish().unwrap();
    assert!(granted.streams.iter().all(|stream| stream.errors.is_empty()), "{granted:?}");

    let ids = granted.buckets.into_iter().map(|bucket| (bucket.definition, bucket.params));
    ids.filter_map(|key| buckets.remove(&key)).flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn absence_conditions_agree_with_sqlite(
        (is_three_valued, condition, (from, sqlite_from, needed)) in any::<bool>()
            .prop_flat_map(|three| (Just(three), condition(three), from(three))),
        worlds in prop::collection::vec(world(), 4),
    ) {
        let yaml = format!(
            "config: {{edition: 3, unstable_sqlite_expression_engine: {is_three_valued}}}\n\
             streams:\n  s:\n    auto_subscribe: true\n    query: |\n      \
             {} SELECT i.id FROM {from} WHERE {}{needed}\n",
            ours(WITH),
            condition.ours,
        );

        let config = match SyncConfig::compile(&yaml) {
            Ok(config) => config,
            Err(findings) => {
                let messages: String = findings.iter().map(|one| one.message.as_str()).collect();
                let is_expected = messages.contains("alternatives")
                    || yaml.contains("LEFT") && messages.contains("where no row is joined");
                prop_assert!(is_expected, "{yaml}\n{findings:?}");
                return Err(TestCaseError::reject("no buckets for it"));
            }
        };

        for world in worlds {
            let expected = items_by_sqlite(&sqlite_from, &format!("{}{needed}", condition.is_true), &world);
            prop_assert_eq!(synced_items(&config, &world), expected, "{}\n{:?}", yaml, &world);
        }
    }
}
