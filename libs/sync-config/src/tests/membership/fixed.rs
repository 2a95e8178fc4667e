//! Hand-written conditions, combined at random, over items and members.

use proptest::prelude::*;

use super::items::{USES_ALL_PARAMETERS, items_by_sqlite, synced_items, world};
use crate::{Severity, SyncConfig};

/// Condition in the language and in SQLite's SQL, with the request's values inserted.
#[derive(Clone, Debug)]
struct Condition {
    ours: String,
    sqlite: String,
    /// `true` if NOT may stand before the condition.
    negatable: bool,
}

/// FROM clause with the items as `i`, and conditions that fit it.
#[derive(Clone, Copy, Debug)]
struct From {
    with: &'static str,
    from: &'static str,
    terms: &'static [(&'static str, bool)],
}

/// Conditions on items and requests, each with whether it can be negated.
const TERMS: [(&str, bool); 30] = [
    ("i.owner = auth.user_id()", false),
    ("auth.parameter('org') = i.org", false),
    ("i.n = auth.parameter('n')", false),
    ("i.org = connection.parameter('org')", false),
    ("i.org IN auth.parameter('orgs')", false),
    ("i.n IN auth.parameter('ns')", false),
    ("auth.user_id() IN i.tags", false),
    ("auth.parameter('n') IN i.tags", false),
    ("auth.user_id() IN (i.owner, i.org)", false),
    ("i.org IN (SELECT org FROM members WHERE usr = auth.user_id())", false),
    ("i.org IN (SELECT org FROM members WHERE usr = auth.user_id() AND role > 1)", false),
    ("i.owner IN (SELECT usr FROM members WHERE org IN auth.parameter('orgs') OR role = 3)", false),
    (
        "i.n IN (SELECT role FROM members WHERE usr = auth.user_id() AND org = auth.parameter('org'))",
        false,
    ),
    ("auth.user_id() IN (SELECT usr FROM members WHERE role = auth.parameter('n'))", false),
    (
        "i.org IN (SELECT org FROM members WHERE usr IN \
         (SELECT f.usr FROM members f WHERE f.role = auth.parameter('n')))",
        false,
    ),
    ("i.org IN (SELECT c.org FROM members c WHERE c.usr = i.owner)", false),
    (
        "i.org IN (SELECT c.org FROM members c JOIN members f ON f.org = c.org \
         WHERE f.usr = auth.user_id() AND c.role = i.n)",
        false,
    ),
    ("i.org IN (SELECT value FROM json_each(auth.parameter('orgs')))", false),
    (
        "auth.user_id() IN (SELECT t.value FROM json_each(i.tags) t JOIN members c \
         ON c.usr = t.value WHERE c.role > 1)",
        false,
    ),
    ("EXISTS (SELECT 1 FROM members c WHERE c.usr = auth.user_id() AND c.org = i.org)", false),
    (
        "EXISTS (SELECT 1 FROM members c WHERE c.role = auth.parameter('n') OR c.usr = i.owner)",
        false,
    ),
    ("i.tags && auth.parameter('ns')", false),
    ("i.tags && (SELECT c.usr FROM members c WHERE c.org = auth.parameter('org'))", false),
    ("auth.parameter('orgs') && i.tags", false),
    ("auth.parameter('org') = 'o1'", true),
    ("auth.parameter('n') IN (1, 2)", true),
    ("i.n = 1", true),
    ("i.org IS NULL", true),
    ("i.owner = i.org", true),
    ("i.n NOT IN (1, 3)", true),
];

const MEMBER_TERMS: [(&str, bool); 6] = [
    ("m.usr = auth.user_id()", false),
    ("m.role = i.n", false),
    ("m.role > 1", true),
    ("m.usr = i.owner", false),
    ("m.org IN auth.parameter('orgs')", false),
    ("m.org = auth.parameter('org')", false),
];

const FROMS: [From; 17] = [
    From { with: "", from: "items i", terms: &[] },
    From { with: "", from: "items i JOIN members m ON m.org = i.org", terms: &MEMBER_TERMS },
    From { with: "", from: "items i, members m", terms: &MEMBER_TERMS },
    From {
        with: "",
        from: "members m JOIN items i ON i.owner = m.usr AND m.role > 1",
        terms: &MEMBER_TERMS,
    },
    From {
        with: "",
        from: "items i LEFT JOIN members m ON m.org = i.org AND m.usr = auth.user_id()",
        terms: &MEMBER_TERMS,
    },
    From {
        with: "",
        from: "items i JOIN members m ON m.org = i.org OR m.usr = i.owner",
        terms: &MEMBER_TERMS,
    },
    From {
        with: "",
        from: "items i, json_each(i.tags) e",
        terms: &[
            ("e.value = auth.user_id()", false),
            ("e.value = i.org", true),
            ("e.value = 1", true),
            ("e.value IN (SELECT usr FROM members WHERE org = auth.parameter('org'))", false),
        ],
    },
    From {
        with: "",
        from: "items i JOIN (SELECT org AS o, usr AS u FROM members WHERE role > 1) d ON d.o = i.org",
        terms: &[("d.u = auth.user_id()", false), ("d.u = i.owner", false)],
    },
    From {
        with: "WITH mine AS (SELECT org FROM members WHERE usr = auth.user_id()),
             theirs AS (SELECT f.usr FROM members f JOIN mine ON mine.org = f.org)",
        from: "items i JOIN mine ON mine.org = i.org",
        terms: &[("i.owner IN (SELECT usr FROM theirs)", false)],
    },
    From {
        with: "",
        from: "items i JOIN members m ON m.org = i.org JOIN members k ON k.usr = m.usr",
        terms: &[
            ("k.org = auth.parameter('org')", false),
            ("k.role = i.n", false),
            ("m.role = k.role", false),
        ],
    },
    From {
        with: "",
        from: "items i, json_each(auth.parameter('orgs')) o",
        terms: &[("o.value = i.org", false), ("o.value = 'o1'", true)],
    },
    From {
        with: "",
        from: "members m LEFT JOIN items i ON i.org = m.org AND m.usr = auth.user_id()",
        terms: &[("m.role > 1", true), ("m.usr = auth.user_id()", false), ("m.role = i.n", false)],
    },
    From {
        with: "",
        from: "items i LEFT JOIN (SELECT n.org AS o, n.usr AS u FROM members n \
               LEFT JOIN members x ON x.usr = n.usr WHERE n.role > 1 AND x.role = 3) d ON d.o = i.org",
        terms: &[("d.u = auth.user_id()", false), ("d.u = i.owner", false)],
    },
    From {
        with: "",
        from: "members m LEFT JOIN items i ON i.org = m.org JOIN members k ON k.org = i.org",
        terms: &[("k.usr = auth.user_id()", false), ("m.role > 1", true)],
    },
    From {
        with: "",
        from: "members m LEFT JOIN items i ON i.org = m.org OR i.owner = m.usr, json_each(i.tags) e",
        terms: &[("e.value = auth.user_id()", false), ("m.usr = auth.user_id()", false)],
    },
    From {
        with: "",
        from: "items i LEFT JOIN members m ON m.org = i.org LEFT JOIN members k ON k.usr = m.usr",
        terms: &[
            ("k.org = auth.parameter('org')", false),
            ("k.role > 1", true),
            ("m.usr = auth.user_id()", false),
        ],
    },
    From {
        with: "",
        from: "items i JOIN members m ON m.org = i.org, json_each(auth.parameter('ns')) x",
        terms: &[("x.value = m.role", false), ("x.value = i.n", false), ("x.value > 1", true)],
    },
];

const OVERLAP_NUMBERS: &str =
    "EXISTS (SELECT 1 FROM json_each(i.tags) a JOIN json_each(:ns) b ON a.value = b.value)";
const OVERLAP_ORGS: &str =
    "EXISTS (SELECT 1 FROM json_each(i.tags) a JOIN json_each(:orgs) b ON a.value = b.value)";

/// Parameter queries of bucket definitions.
const PARAMETERS: [&str; 8] = [
    "SELECT request.user_id() AS a",
    "SELECT request.jwt() ->> 'org' AS a WHERE request.jwt() ->> 'n' = 1",
    "SELECT org AS a FROM members WHERE usr = request.user_id()",
    "SELECT org AS a FROM members WHERE usr = request.user_id() AND role > 1 \
     OR org = request.jwt() ->> 'org' AND role = request.jwt() ->> 'n'",
    "SELECT usr AS a FROM members WHERE org IN request.jwt() -> 'orgs'",
    "SELECT role AS a FROM members WHERE request.user_id() = usr AND org IS NOT NULL",
    "SELECT value AS a FROM json_each(request.jwt() -> 'orgs')",
    "SELECT value AS a FROM json_each(request.jwt() -> 'ns') WHERE value > 1",
];

/// Conditions of data queries.
const DATA: [&str; 6] = [
    "i.owner = bucket.a",
    "i.org = bucket.a AND i.n = 1",
    "bucket.a IN i.tags",
    "i.owner = bucket.a OR i.org = bucket.a AND NOT i.n = 2",
    "bucket.a = i.n",
    "(i.n = 1 OR i.owner IS NULL) AND i.org = bucket.a",
];

/// Translates to SQL for SQLite by replacing what it lacks.
fn to_sqlite(ours: &str) -> String {
    let mut sqlite = ours.to_owned();
    for (from, to) in [
        (
            "i.tags && (SELECT c.usr FROM members c WHERE c.org = auth.parameter('org'))",
            "EXISTS (SELECT 1 FROM json_each(i.tags) a JOIN members c \
             ON a.value = c.usr AND c.org = auth.parameter('org'))",
        ),
        ("i.tags && auth.parameter('ns')", OVERLAP_NUMBERS),
        ("auth.parameter('orgs') && i.tags", OVERLAP_ORGS),
        ("i.n NOT IN (1, 3)", "(i.n IN (1, 3)) IS NOT TRUE"),
        ("NOT i.n = 2", "(i.n = 2) IS NOT TRUE"),
        ("bucket.a IN i.tags", "p.a IN (SELECT value FROM json_each(i.tags))"),
        ("IN request.jwt() -> 'orgs'", "IN (SELECT value FROM json_each(:orgs))"),
        ("bucket.a", "p.a"),
        ("request.user_id()", ":user"),
        ("request.jwt() -> 'orgs'", ":orgs"),
        ("request.jwt() ->> 'org'", ":org"),
        ("request.jwt() -> 'ns'", ":ns"),
        ("request.jwt() ->> 'n'", ":n"),
        ("IN auth.parameter('orgs')", "IN (SELECT value FROM json_each(:orgs))"),
        ("IN auth.parameter('ns')", "IN (SELECT value FROM json_each(:ns))"),
        ("IN i.tags", "IN (SELECT value FROM json_each(i.tags))"),
        ("auth.user_id()", ":user"),
        ("auth.parameter('orgs')", ":orgs"),
        ("auth.parameter('org')", ":org"),
        ("auth.parameter('ns')", ":ns"),
        ("auth.parameter('n')", ":n"),
        ("connection.parameter('org')", ":corg"),
    ] {
        sqlite = sqlite.replace(from, to);
    }

    sqlite
}

fn from_and_condition() -> impl Strategy<Value = (From, Condition)> {
    prop::sample::select(FROMS.to_vec()).prop_flat_map(|from| {
        // Half of the terms are about the joined tables.
        let own = if from.terms.is_empty() { TERMS.to_vec() } else { from.terms.to_vec() };
        let term = prop_oneof![prop::sample::select(own), prop::sample::select(TERMS.to_vec()),];
        (Just(from), condition(term.boxed()))
    })
}

fn condition(term: BoxedStrategy<(&'static str, bool)>) -> impl Strategy<Value = Condition> {
    let term = term.prop_map(|(ours, negatable)| Condition {
        ours: ours.to_owned(),
        sqlite: format!("(({}) IS TRUE)", to_sqlite(ours)),
        negatable,
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
            // Where a single NOT is not supported, two of them are.
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

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn stream_membership_agrees_with_sqlite(
        (from, condition) in from_and_condition(),
        worlds in prop::collection::vec(world(), 4),
    ) {
        let query =
            format!("{} SELECT i.id FROM {} WHERE {}", from.with, from.from, condition.ours);
        let yaml = format!(
            "config: {{edition: 3}}\nstreams:\n  s:\n    auto_subscribe: true\n    query: |\n      \
             {query}\n",
        );

        let config = match SyncConfig::compile(&yaml) {
            Ok(config) => config,
            Err(findings) => {
                let message = &findings.iter().find(|one| one.severity == Severity::Error).unwrap().message;
                let is_expected = message.contains("alternatives")
                    || from.from.contains("LEFT") && message.contains("no row is joined");
                prop_assert!(is_expected, "{findings:?}");
                return Err(TestCaseError::reject("no buckets for it"));
            }
        };

        let query = format!(
            "{} SELECT DISTINCT i.id FROM {} WHERE {USES_ALL_PARAMETERS} AND i.id IS NOT NULL AND {}",
            to_sqlite(from.with),
            to_sqlite(from.from),
            condition.sqlite,
        );

        for world in worlds {
            prop_assert_eq!(synced_items(&config, &world), items_by_sqlite(&query, &world), "{:?}", &world);
        }
    }

    #[test]
    fn bucket_definition_membership_agrees_with_sqlite(
        parameters in prop::sample::subsequence(PARAMETERS.to_vec(), 1..=2),
        data in prop::sample::select(DATA.to_vec()),
        worlds in prop::collection::vec(world(), 4),
    ) {
        let list: String =
            parameters.iter().map(|query| format!("      - {query}\n")).collect();
        let yaml = format!(
            "config: {{edition: 2}}\nbucket_definitions:\n  b:\n    parameters:\n{list}    \
             data:\n      - SELECT i.id FROM items i WHERE {data}\n",
        );
        let config = SyncConfig::compile(&yaml).unwrap();
        let union: Vec<String> = parameters.iter().map(|query| to_sqlite(query)).collect();
        let query = format!(
            "SELECT DISTINCT i.id FROM items i, ({}) p WHERE {USES_ALL_PARAMETERS} AND ({})",
            union.join(" UNION ALL "),
            to_sqlite(data),
        );

        for world in worlds {
            prop_assert_eq!(synced_items(&config, &world), items_by_sqlite(&query, &world), "{:?}", &world);
        }
    }
}
