//! Random requests, and what queries say of them.

use serde_json::{Map, Value as Json, json};
use tidewater_protocol::StreamSubscription;

use super::super::TestRequest;
use super::schema::Class;
use super::{Both, Choices};

/// What is known of a request, but for its subscriptions.
#[derive(Clone, Debug)]
pub(in crate::tests) struct Given {
    pub(in crate::tests) user: &'static str,
    pub(in crate::tests) claims: Json,
    pub(in crate::tests) connection: Option<Json>,
    pub(in crate::tests) include_defaults: bool,
    pub(in crate::tests) subscriptions: Vec<Subscribed>,
}

/// An explicit subscription.
#[derive(Clone, Debug)]
pub(in crate::tests) struct Subscribed {
    /// Index of the stream.
    pub(in crate::tests) stream: usize,
    pub(in crate::tests) parameters: Option<Json>,
}

impl Given {
    pub(in crate::tests) fn new(choices: &mut Choices<'_>, stream_count: usize) -> Self {
        let subscription = |choices: &mut Choices<'_>| Subscribed {
            stream: choices.below(stream_count),
            parameters: (!choices.one_in(4)).then(|| members(choices)),
        };
        Self {
            user: choices.pick(&["u1", "a", "nobody", "it's"]),
            claims: members(choices),
            connection: (!choices.one_in(6)).then(|| members(choices)),
            include_defaults: !choices.one_in(6),
            subscriptions: (0..choices.below(4)).map(|_| subscription(choices)).collect(),
        }
    }

    pub(in crate::tests) fn request(&self) -> TestRequest {
        let map = |json: &Json| json.as_object().unwrap().clone();
        let subscriptions = self.subscriptions.iter().map(|one| StreamSubscription {
            stream: format!("t{}", one.stream),
            parameters: one.parameters.as_ref().map(map),
            override_priority: None,
        });
        TestRequest {
            user_id: self.user.to_owned(),
            claims: map(&self.claims),
            parameters: self.connection.as_ref().map(map),
            include_defaults: self.include_defaults,
            subscriptions: subscriptions.collect(),
        }
    }

    /// The parameters of each time that a stream is evaluated.
    pub(in crate::tests) fn evaluations(&self, stream: usize, auto_subscribe: bool) -> Vec<Json> {
        let explicit = || self.subscriptions.iter().filter(|one| one.stream == stream);
        let none = || Json::Object(Map::new());
        let by_default = auto_subscribe
            && self.include_defaults
            && explicit().all(|subscribed| subscribed.parameters.is_some());
        let explicit = explicit().map(|one| one.parameters.clone().unwrap_or_else(none));
        by_default.then(none).into_iter().chain(explicit).collect()
    }
}

/// Members of the claims, and of the parameters of connections and subscriptions. Now and then they
/// are not what queries expect, or not there.
fn members(choices: &mut Choices<'_>) -> Json {
    let text = |choices: &mut Choices<'_>| {
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
    };
    let number = |choices: &mut Choices<'_>| {
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
    };
    let array = |choices: &mut Choices<'_>, item: &dyn Fn(&mut Choices<'_>) -> Json| {
        (0..choices.below(4)).map(|_| item(choices)).collect::<Json>()
    };
    let mut members = Map::new();
    members.insert("t".to_owned(), text(choices));
    members.insert("n".to_owned(), number(choices));
    members.insert("ts".to_owned(), array(choices, &text));
    members.insert("ns".to_owned(), array(choices, &number));
    members.insert("in".to_owned(), json!({"t": text(choices), "n": number(choices)}));
    for name in ["t", "n", "ts", "ns", "in"] {
        if choices.one_in(12) {
            members.remove(name);
        }
    }
    members.into()
}

/// A function of the request's members and the parameter of SQLite's statement that holds them.
fn source(choices: &mut Choices<'_>) -> (&'static str, &'static str) {
    choices.pick(&[("auth", "?2"), ("auth", "?2"), ("connection", "?3"), ("subscription", "?4")])
}

/// A value of the request.
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

/// An array of the request, or NULL; not in parentheses.
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
