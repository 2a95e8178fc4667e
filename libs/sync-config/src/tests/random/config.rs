//! Random configs of streams.

use super::query::{Cte, Queries};
use super::schema::Schema;
use super::{Both, Choices};

#[derive(Clone, Debug)]
pub(in crate::tests) struct RandomConfig {
    is_default_engine: bool,
    /// Names and queries of the CTEs that all streams share.
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
    /// Query for SQLite that selects a row's id and its output columns.
    pub(in crate::tests) sqlite: String,
    /// Names of the output columns.
    pub(in crate::tests) names: Vec<String>,
    /// Table on devices of this query's rows.
    pub(in crate::tests) object_type: String,
}

const STREAMS_MAX: usize = 3;
const QUERIES_MAX: usize = 3;

fn names_and_queries(ctes: &[Cte]) -> Vec<(String, String)> {
    ctes.iter().map(|cte| (cte.name.clone(), cte.query.ours.clone())).collect()
}

impl RandomConfig {
    pub(in crate::tests) fn new(choices: &mut Choices<'_>, schema: &Schema) -> Self {
        let is_default_engine = choices.below(2) == 0;
        let mut queries = Queries::new(choices, schema);
        queries.add_ctes();

        let ctes = names_and_queries(&queries.ctes);

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
            let own = names_and_queries(&queries.ctes[ctes.len()..]);

            queries.ctes.truncate(ctes.len());

            if !selecting.is_empty() {
                let name = format!("t{}", streams.len());
                streams.push(RandomStream { name, auto_subscribe, ctes: own, queries: selecting });
            }
        }

        Self { is_default_engine, ctes, streams }
    }

    /// Returns the file, with the engine for which the SQLite queries are generated.
    pub(in crate::tests) fn yaml(&self) -> String {
        self.yaml_with(if self.is_default_engine {
            "edition: 3"
        } else {
            "edition: 3, unstable_sqlite_expression_engine: true"
        })
    }

    /// Applies `change` to each query and to each name of a CTE.
    pub(in crate::tests) fn map(&self, change: &mut impl FnMut(&str) -> String) -> Self {
        Self {
            is_default_engine: self.is_default_engine,
            ctes: map_ctes(&self.ctes, change),
            streams: self.streams.iter().map(|stream| stream.map(change)).collect(),
        }
    }

    pub(in crate::tests) fn yaml_with(&self, options: &str) -> String {
        let mut yaml = format!("config: {{{options}}}\n{}streams:\n", with_section("", &self.ctes));
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
    /// Applies `change` like [`RandomConfig::map`].
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
        let queries: String = queries
            .iter()
            .map(|query| format!("      - |\n        {}\n", query.ours.replace('\n', "\n        ")))
            .collect();
        format!("{head}{}    queries:\n{queries}", with_section("    ", ctes))
    }
}

fn map_ctes(
    ctes: &[(String, String)],
    change: &mut impl FnMut(&str) -> String,
) -> Vec<(String, String)> {
    ctes.iter().map(|(name, query)| (change(name), change(query))).collect()
}

fn with_section(indent: &str, ctes: &[(String, String)]) -> String {
    let ctes: String = ctes
        .iter()
        .map(|(name, query)| {
            let query = query.replace('\n', &format!("\n{indent}    "));
            format!("{indent}  {name}: |\n{indent}    {query}\n")
        })
        .collect();
    if ctes.is_empty() { ctes } else { format!("{indent}with:\n{ctes}") }
}

/// Returns a random number below `most`, often 0.
fn few(choices: &mut Choices<'_>, most: usize) -> usize {
    choices.below(2 * most).saturating_sub(most)
}
