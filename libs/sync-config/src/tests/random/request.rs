//! Random requests, and the expressions that read them.

use serde_json::{Map, Value as Json, json};
use tidewater_protocol::StreamSubscription;

use super::super::TestRequest;
use super::schema::Class;
use super::{Both, Choices};

/// Request, with its subscriptions as indexes of streams.
#[derive(Clone, Debug)]
pub(in crate::tests) struct RandomRequest {
    pub(in crate::tests) user: &'static str,
    pub(in crate::tests) claims: Json,
    pub(in crate::tests) connection: Option<Json>,
    pub(in crate::tests) include_defaults: bool,
    pub(in crate::tests) subscriptions: Vec<RandomSubscription>,
}

/// Explicit subscription.
#[derive(Clone, Debug)]
pub(in crate::tests) struct RandomSubscription {
    /// Index of the stream.
    pub(in crate::tests) stream: usize,
    pub(in crate::tests) parameters: Option<Json>,
}

fn to_map(json: &Json) -> Map<String, Json> {
    json.as_object().unwrap().clone()
}

fn empty_object() -> Json {
    Json::Object(Map::new())
}

impl RandomRequest {
    pub(in crate::tests) fn new(choices: &mut Choices<'_>, stream_count: usize) -> Self {
        Self {
            user: choices.pick(&["u1", "a", "nobody", "it's"]),
            claims: members(choices),
            connection: (!choices.one_in(6)).then(|| members(choices)),
            include_defaults: !choices.one_in(6),
            subscriptions: (0..choices.below(4))
                .map(|_| RandomSubscription {
                    stream: choices.below(stream_count),
                    parameters: (!choices.one_in(4)).then(|| members(choices)),
                })
                .collect(),
        }
    }

    pub(in crate::tests) fn request(&self) -> TestRequest {
        let subscriptions = self.subscriptions.iter().map(|one| StreamSubscription {
            stream: format!("t{}", one.stream),
            parameters: one.parameters.as_ref().map(to_map),
            override_priority: None,
        });
        TestRequest {
            user_id: self.user.to_owned(),
            claims: to_map(&self.claims),
            parameters: self.connection.as_ref().map(to_map),
            include_defaults: self.include_defaults,
            subscriptions: subscriptions.collect(),
        }
    }

    /// Returns the parameters of each evaluation of a stream: one for each subscription to it.
    pub(in crate::tests) fn evaluations(&self, stream: usize, auto_subscribe: bool) -> Vec<Json> {
        let explicit = self.subscriptions.iter().filter(|one| one.stream == stream);
        let by_default = auto_subscribe
            && self.include_defaults
            && explicit.clone().all(|subscribed| subscribed.parameters.is_some());

        let explicit = explicit.map(|one| one.parameters.clone().unwrap_or_else(empty_object));
        by_default.then(empty_object).into_iter().chain(explicit).collect()
    }
}

fn random_text(choices: &mut Choices<'_>) -> Json {
    choices.pick(&[
        json!("a"),
        json!("b"),
        json!("u1"),
        json!("A"),
        json!(null),
        json!("1"),
        json!(""),
        json!(1),
        json!("it's"),
        json!(false),
    ])
}

fn random_number(choices: &mut Choices<'_>) -> Json {
    choices.pick(&[
        json!(1),
        json!(2),
        json!(1.0),
        json!(2.5),
        json!("1"),
        json!(null),
        json!(true),
        json!(9_007_199_254_740_993_i64),
    ])
}

fn random_array(choices: &mut Choices<'_>, item: fn(&mut Choices<'_>) -> Json) -> Json {
    (0..choices.below(4)).map(|_| item(choices)).collect::<Json>()
}

/// Returns members of the claims, or parameters of the connection or of a subscription. Some are
/// missing or not of the type that queries expect.
fn members(choices: &mut Choices<'_>) -> Json {
    let mut members = Map::new();
    members.insert("t".to_owned(), random_text(choices));
    members.insert("n".to_owned(), random_number(choices));
    members.insert("ts".to_owned(), random_array(choices, random_text));
    members.insert("ns".to_owned(), random_array(choices, random_number));
    members
        .insert("in".to_owned(), json!({"t": random_text(choices), "n": random_number(choices)}));

    for name in ["t", "n", "ts", "ns", "in"] {
        if choices.one_in(12) {
            members.remove(name);
        }
    }

    members.into()
}

/// Returns a function that reads the request, and the SQLite parameter with the same members.
fn source(choices: &mut Choices<'_>) -> (&'static str, &'static str) {
    choices.pick(&[("auth", "?2"), ("auth", "?2"), ("connection", "?3"), ("subscription", "?4")])
}

/// Returns a value of the request.
pub(in crate::tests) fn request_value(choices: &mut Choices<'_>, class: Class) -> Both {
    if class == Class::Text && choices.below(3) == 0 {
        return Both::pair("auth.user_id()", "?1");
    }

    let (namespace, parameter) = source(choices);
    let name = match class {
        Class::Text => "t",
        Class::Number => "n",
    };

    let (ours, sqlite) = match choices.below(8) {
        0..=3 => (format!("parameter('{name}')"), format!("->> '{name}'")),
        4 => (format!("parameters() ->> '{name}'"), format!("->> '{name}'")),
        5 => (format!("parameter('$.in.{name}')"), format!("->> '$.in.{name}'")),
        6 => (format!("parameters() ->> '$.in.{name}'"), format!("->> '$.in.{name}'")),
        _ => (format!("parameters() -> 'in' ->> '{name}'"), format!("-> 'in' ->> '{name}'")),
    };
    let value = Both::pair(format!("({namespace}.{ours})"), format!("({parameter} {sqlite})"));

    if choices.below(4) < 3 {
        return value;
    }

    let templates: &[&str] = match class {
        Class::Text => &["upper(@w$1)", "(@w$1 || 'x')", "coalesce($1, 'a')", "substr(@w$1, 1, 1)"],
        Class::Number => &["($1 + 1)", "coalesce($1, 1)", "abs($1)", "($1 % 2)"],
    };

    Both::new(choices.template(templates), &[&value])
}

/// Returns an array of the request, or NULL. It is not in parentheses.
pub(in crate::tests) fn request_array(choices: &mut Choices<'_>) -> Both {
    let (namespace, parameter) = source(choices);
    let name = choices.pick(&["ts", "ns"]);
    let ours = if choices.one_in(3) {
        format!("{namespace}.parameters() -> '{name}'")
    } else {
        format!("{namespace}.parameter('{name}')")
    };
    Both::pair(ours, format!("({parameter} -> '{name}')"))
}
