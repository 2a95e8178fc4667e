//! Random configs of streams.

use super::query::{Cte, Queries};
use super::schema::Schema;
use super::{Both, Choices};

#[derive(Clone, Debug)]
pub(in crate::tests) struct RandomConfig {
    is_default_engine: bool,
    /// For all streams: name and query.
    pub(in crate::tests) ctes: Vec<(String, String)>,
    pub(in crate::tests) streams: Vec<RandomStream>,
}

#[derive(Clone, Debug)]
pub(in crate::tests) struct RandomStream {
    pub(in crate::tests) name: String,
    pub(in crate::tests) auto_subscribe: bool,
    pub(in crate::tests) ctes: Vec<(String, String)>,
    pub(in crate::tests) queries: Vec<RandomQuery>,
}

#[derive(Clone, Debug)]
pub(in crate::tests) struct RandomQuery {
    pub(in crate::tests) ours: String,
    /// Gives a row's id, and what it comes out as.
    pub(in crate::tests) sqlite: String,
    /// Of what comes out.
    pub(in crate::tests) names: Vec<String>,
    /// Of this query only.
    pub(in crate::tests) object_type: String,
}

const STREAMS_MAX: usize = 3;
const QUERIES_MAX: usize = 3;

impl RandomConfig {
    pub(in crate::tests) fn new(choices: &mut Choices<'_>, schema: &Schema) -> Self {
        let is_default_engine = choices.below(2) == 0;
        let mut queries = Queries::new(choices, schema);
        queries.add_ctes();
        let written = |ctes: &[Cte]| -> Vec<(String, String)> {
            ctes.iter().map(|cte| (cte.name.clone(), cte.query.ours.clone())).collect()
        };
        let ctes = written(&queries.ctes);
        let mut streams = Vec::new();
        for _ in 0..=few(queries.choices, STREAMS_MAX) {
            queries.add_ctes();
            let auto_subscribe = !queries.choices.one_in(3);
            let count = 1 + few(queries.choices, QUERIES_MAX);
            let selecting = (0..count).filter_map(|_| queries.selecting()).map(|one| RandomQuery {
                ours: one.ours,
                sqlite: Both::sqlite_of(&one.sqlite, is_default_engine),
                names: one.names,
                object_type: one.object_type,
            });
            let selecting: Vec<_> = selecting.collect();
            let own = written(&queries.ctes[ctes.len()..]);
            queries.ctes.truncate(ctes.len());
            if !selecting.is_empty() {
                let name = format!("t{}", streams.len());
                streams.push(RandomStream { name, auto_subscribe, ctes: own, queries: selecting });
            }
        }
        Self { is_default_engine, ctes, streams }
    }

    /// In which expressions mean what they mean to SQLite.
    pub(in crate::tests) fn yaml(&self) -> String {
        self.yaml_with(if self.is_default_engine {
            "edition: 3"
        } else {
            "edition: 3, unstable_sqlite_expression_engine: true"
        })
    }

    /// With each query, and each name of a CTE, as `change` has it.
    pub(in crate::tests) fn map(&self, change: &mut impl FnMut(&str) -> String) -> Self {
        Self {
            is_default_engine: self.is_default_engine,
            ctes: map_ctes(&self.ctes, change),
            streams: self.streams.iter().map(|stream| stream.map(change)).collect(),
        }
    }

    pub(in crate::tests) fn yaml_with(&self, options: &str) -> String {
        let mut yaml = format!("config: {{{options}}}\n{}streams:\n", with("", &self.ctes));
        for stream in &self.streams {
            yaml += &stream.yaml();
        }
        yaml
    }
}

impl RandomQuery {
    fn map(&self, change: &mut impl FnMut(&str) -> String) -> Self {
        Self { ours: change(&self.ours), ..self.clone() }
    }
}

impl RandomStream {
    /// As [`RandomConfig::map`].
    pub(in crate::tests) fn map(&self, change: &mut impl FnMut(&str) -> String) -> Self {
        Self {
            ctes: map_ctes(&self.ctes, change),
            queries: self.queries.iter().map(|query| query.map(change)).collect(),
            ..self.clone()
        }
    }

    fn yaml(&self) -> String {
        let Self { name, auto_subscribe, ctes, queries } = self;
        let head = format!("  {name}:\n    auto_subscribe: {auto_subscribe}\n");
        let query = |query: &RandomQuery| {
            format!("      - |\n        {}\n", query.ours.replace('\n', "\n        "))
        };
        let queries: String = queries.iter().map(query).collect();
        format!("{head}{}    queries:\n{queries}", with("    ", ctes))
    }
}

fn map_ctes(
    ctes: &[(String, String)],
    change: &mut impl FnMut(&str) -> String,
) -> Vec<(String, String)> {
    ctes.iter().map(|(name, query)| (change(name), change(query))).collect()
}

fn with(indent: &str, ctes: &[(String, String)]) -> String {
    let cte = |(name, query): &(String, String)| {
        let query = query.replace('\n', &format!("\n{indent}    "));
        format!("{indent}  {name}: |\n{indent}    {query}\n")
    };
    let ctes: String = ctes.iter().map(cte).collect();
    if ctes.is_empty() { ctes } else { format!("{indent}with:\n{ctes}") }
}

/// Often none, at most one less than `most`.
fn few(choices: &mut Choices<'_>, most: usize) -> usize {
    choices.below(2 * most).saturating_sub(most)
}
