//! Hashes of random configs: equal after harmless rewrites, and equal only if rows evaluate alike.

use std::cell::Cell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::random::{Choices, RandomConfig, Rows, Schema, decisions, mutated, tokens};
use crate::{RowOutput, SyncConfig};

/// Numbers of random decisions about the tables, the config, and the changes to it.
const SCHEMA_CHOICES: usize = 60;
const CONFIG_CHOICES: usize = 400;
const CHANGE_CHOICES: usize = 600;
/// Least share of changed configs that keep a hash, and of those with a definition whose rows
/// evaluate differently, in per cent. They guard against a test that checks nothing.
const ALIKE_MIN: usize = 50;
const OTHER_MIN: usize = 10;
/// Number of random sets of rows for each config.
const DRAWS: usize = 4;

const OPTIONS: [&str; 6] = [
    "edition: 3",
    "edition: 3, unstable_sqlite_expression_engine: true",
    "edition: 3, timestamps_iso8601: false",
    "edition: 3, timestamp_max_precision: seconds",
    "edition: 3, fixed_json_extract: false",
    "edition: 3, custom_postgres_types: false",
];

fn runner() -> TestRunner {
    TestRunner::new(Config {
        failure_persistence: None,
        max_global_rejects: 100_000,
        ..Config::default()
    })
}

/// Hashes of the definitions, each with its stream's name, and of the lookups.
type Hashes = (Vec<(String, String)>, Vec<String>);

/// Returns the hashes, or `None` if the config does not compile.
fn hashes(yaml: &str) -> Option<Hashes> {
    let config = SyncConfig::compile(yaml).ok()?;
    let mut definitions: Vec<_> = config
        .definitions()
        .iter()
        .map(|one| (one.name.split('|').next().unwrap_or_default().to_owned(), one.hash.clone()))
        .collect();
    let mut lookups: Vec<_> = config.lookups().iter().map(|one| one.hash.clone()).collect();
    definitions.sort();
    lookups.sort();
    Some((definitions, lookups))
}

/// Returns whether the word is a name that the generator made: a source, a column or a CTE.
fn is_generated_name(word: &str) -> bool {
    let number = word.strip_prefix(['s', 'c', 'w']);
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Renames what does not appear in the output, and changes the space between tokens.
fn rewritten(sql: &str, config: &RandomConfig, choices: &mut Choices<'_>) -> String {
    let queries = config.streams.iter().flat_map(|stream| &stream.queries);
    let kept: BTreeSet<&str> = queries.map(|query| query.object_type.as_str()).collect();

    tokens(sql)
        .into_iter()
        .map(|token| {
            let word = token.trim_matches('"').to_lowercase();
            if token == " " {
                let space = [" ", "  ", "\n", " /* x */ ", " -- y'\n", "\n\n  "];
                return choices.pick(&space).to_owned();
            }
            if !is_generated_name(&word) || kept.contains(word.as_str()) {
                return token;
            }
            if token.starts_with('"') { format!("\"r{word}\"") } else { format!("r{token}") }
        })
        .collect()
}

/// Rewrites a config without changing its rows: order of streams and queries, names, space.
fn alike(random: &RandomConfig, choices: &mut Choices<'_>) -> String {
    let mut other = random.map(&mut |sql| {
        // The YAML file refers to a CTE by its bare name.
        if sql.contains(' ') { rewritten(sql, random, choices) } else { format!("r{sql}") }
    });
    other.streams = choices.some_of(&other.streams, other.streams.len(), other.streams.len());
    for stream in &mut other.streams {
        let count = stream.queries.len();
        stream.queries = choices.some_of(&stream.queries, count, count);
    }
    other.yaml()
}

#[test]
fn hashes_of_random_streams_survive_harmless_rewrites() {
    let choices = (decisions(SCHEMA_CHOICES), decisions(CONFIG_CHOICES), decisions(CHANGE_CHOICES));
    let result = runner().run(&choices, |(tables, config, change)| {
        let schema = Schema::new(&mut Choices::new(&tables));
        let random = RandomConfig::new(&mut Choices::new(&config), &schema);
        prop_assume!(!random.streams.is_empty());

        let yaml = random.yaml();
        let other = alike(&random, &mut Choices::new(&change));
        let known = hashes(&yaml);
        prop_assert_eq!(&hashes(&other), &known, "{}\n{}", &yaml, &other);

        let Some((definitions, lookups)) = known else { return Ok(()) };
        let more = format!(
            "{yaml}  z:\n    query: SELECT * FROM unrelated WHERE a IN (SELECT b FROM c)\n"
        );
        let (more_definitions, more_lookups) = hashes(&more).expect("it only has one more stream");
        prop_assert!(definitions.iter().all(|hash| more_definitions.contains(hash)), "{}", &yaml);
        prop_assert!(lookups.iter().all(|hash| more_lookups.contains(hash)), "{}", &yaml);

        Ok(())
    });

    if let Err(error) = result {
        panic!("{error}");
    }
}

/// Output of rows for each definition and each lookup, with its hash.
type Outputs = (Vec<(String, BTreeSet<String>)>, Vec<(String, BTreeSet<String>)>);

/// Returns `None` if the config does not compile or needs tables that are missing.
fn outputs(yaml: &str, schema: &Schema, draws: &[Rows]) -> Option<Outputs> {
    let config = SyncConfig::compile(yaml).ok()?;
    let definitions = config.definitions().iter();
    let mut definitions: Vec<_> =
        definitions.map(|definition| (definition.hash.clone(), BTreeSet::new())).collect();
    let lookups = config.lookups().iter();
    let mut lookups: Vec<_> =
        lookups.map(|lookup| (lookup.hash.clone(), BTreeSet::new())).collect();

    let mut out = RowOutput::default();
    for (index, table) in schema.live().iter().enumerate() {
        let Some(evaluator) = config.bind(table).ok()? else { continue };
        for row in draws.iter().flat_map(|rows| &rows[index]) {
            evaluator.evaluate(row, &mut out);
            for bucket in out.buckets() {
                let text = format!("{} {row:?} {bucket:?}", table.name);
                let place = text.replace(&format!("definition: {}", bucket.definition), "");
                definitions[bucket.definition].1.insert(place);
            }
            for lookup in out.lookups() {
                let text = format!("{} {row:?} {} {}", table.name, lookup.key, lookup.output);
                lookups[lookup.lookup].1.insert(text);
            }
        }
    }

    Some((definitions, lookups))
}

/// Tokens by kind. A token may be replaced by another of its kind.
const KINDS: [&[&str]; 6] = [
    &["=", "!=", "<", ">", "<=", ">="],
    &["AND", "OR"],
    &["upper", "lower", "trim", "length", "hex", "typeof"],
    &["+", "-", "*", "%", "/"],
    &["a", "n", "t"],
    &["text", "real", "integer"],
];

fn kind_of(token: &str) -> Option<&'static [&'static str]> {
    KINDS.iter().copied().find(|kind| kind.contains(&token))
}

fn is_replaceable(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '"' | '\''))
        || kind_of(token).is_some()
}

/// Replaces one token of a query by another of its kind.
fn altered(sql: &str, choices: &mut Choices<'_>) -> String {
    let mut tokens = tokens(sql);
    let places: Vec<usize> =
        (0..tokens.len()).filter(|place| is_replaceable(&tokens[*place])).collect();
    let place = choices.pick(&places);
    let token = tokens[place].clone();

    tokens[place] = if let Some(kind) = kind_of(&token) {
        choices.pick(kind).to_owned()
    } else if token.starts_with('\'') {
        choices.pick(&["'a'", "'b'", "'u1'", "''"]).to_owned()
    } else if token.parse::<u32>().is_ok() {
        choices.pick(&["1", "2", "0", "3"]).to_owned()
    } else if choices.below(3) == 0 {
        format!("{}9", token.trim_matches('"'))
    } else {
        tokens[choices.pick(&places)].clone()
    };

    tokens.concat()
}

/// Returns a config with one change: another random decision, other tokens in the queries of one
/// stream, or other options.
fn changed(config: &[u16], schema: &Schema, options: &str, choices: &mut Choices<'_>) -> String {
    let mut decisions = Choices::new(config);

    let mut random = RandomConfig::new(&mut decisions, schema);
    match choices.below(8) {
        0..=2 => {
            let mut config = config.to_vec();
            let place = choices.below(decisions.taken());
            config[place] = config[place].wrapping_add(choices.pick(&[1, 2, 3, 5, 7]));
            return RandomConfig::new(&mut Choices::new(&config), schema).yaml_with(options);
        }
        3 => return random.yaml_with(choices.pick(&OPTIONS)),
        4 => return random.map(&mut |sql| query_or_name(sql, choices, mutated)).yaml_with(options),
        _ => {}
    }

    let place = choices.below(random.streams.len());
    random.streams[place] =
        random.streams[place].map(&mut |sql| query_or_name(sql, choices, altered));

    random.yaml_with(options)
}

/// Applies `change` to a query. The bare name of a CTE in the YAML file stays.
fn query_or_name(
    sql: &str,
    choices: &mut Choices<'_>,
    change: fn(&str, &mut Choices<'_>) -> String,
) -> String {
    if sql.contains(' ') { change(sql, choices) } else { sql.to_owned() }
}

fn check(
    one: &[(String, BTreeSet<String>)],
    other: &[(String, BTreeSet<String>)],
) -> Result<bool, TestCaseError> {
    let mut is_alike = false;
    for (hash, rows) in one {
        for (_, other_rows) in other.iter().filter(|(known, _)| known == hash) {
            prop_assert_eq!(rows, other_rows, "equal hashes");
            is_alike = true;
        }
    }
    Ok(is_alike)
}

fn add_if(count: &Cell<usize>, condition: bool) {
    count.set(count.get() + usize::from(condition));
}

#[test]
fn equal_hashes_of_random_changes_imply_equal_rows() {
    let [all, alike, other] = [Cell::new(0), Cell::new(0), Cell::new(0)];
    let choices = (decisions(SCHEMA_CHOICES), decisions(CONFIG_CHOICES), decisions(CHANGE_CHOICES));

    let result = runner().run(&choices, |(tables, config, change)| {
        let mut choices = Choices::new(&change);
        let schema = Schema::new(&mut Choices::new(&tables));
        let options = choices.pick(&OPTIONS);
        let random = RandomConfig::new(&mut Choices::new(&config), &schema);
        prop_assume!(!random.streams.is_empty());

        let yaml = random.yaml_with(options);
        let changed = changed(&config, &schema, options, &mut choices);
        let draws: Vec<Rows> = (0..DRAWS).map(|_| schema.rows(&mut choices)).collect();
        let both = (outputs(&yaml, &schema, &draws), outputs(&changed, &schema, &draws));
        let (Some(former), Some(latter)) = both else { return Ok(()) };
        add_if(&all, true);

        let is_alike = check(&former.0, &latter.0)
            .and_then(|is_alike| Ok(is_alike | check(&former.1, &latter.1)?))
            .map_err(|error| TestCaseError::fail(format!("{error}\n{yaml}\n{changed}")))?;
        add_if(&alike, is_alike);
        add_if(&other, former.0.iter().zip(&latter.0).any(|(one, other)| one.1 != other.1));

        Ok(())
    });

    if let Err(error) = result {
        panic!("{error}");
    }

    let alike_share = 100 * alike.get() / all.get();
    let other_share = 100 * other.get() / all.get();
    assert!(alike_share >= ALIKE_MIN, "only {alike_share} % have a hash that is the same");
    assert!(other_share >= OTHER_MIN, "only {other_share} % have other rows");
}
