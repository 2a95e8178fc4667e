//! Random arrays and composite values within each other. Their JSON must equal that of PostgreSQL.

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value as Json;
use tidewater_tests::{Postgres, Settings};

use super::Worker;

/// Number of random rows.
const ROWS: usize = 300;

/// Texts that need quotes, or that have a special meaning without quotes.
const WORDS: [&str; 20] = [
    "", "a", "b c", "NULL", "null", "empty", "\"", "\"\"", "\\", "\\\"", "'", "{", "}", "(", ")",
    ",", "[1:2]={", "\n", "\t", "é😀",
];

const CREATE: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'very "happy"', '{a,b}');
CREATE DOMAIN score AS int4;
CREATE DOMAIN names AS text[];
CREATE TYPE leaf AS (t text, "a ""b"", c" score, m mood);
CREATE DOMAIN good_leaf AS leaf;
CREATE TYPE branch AS (leaf good_leaf, leaves leaf[], names names, moods mood[], j jsonb);
CREATE DOMAIN branches AS branch[];
CREATE TYPE tree AS (all_branches branches, best branch, names_of_names names[]);
CREATE TABLE trees (id int PRIMARY KEY, one tree, several tree[], names text[]);
CREATE PUBLICATION tidewater FOR TABLE trees;
"#;

/// A generator of random values, as SQL.
struct ValueGenerator(StdRng);

impl ValueGenerator {
    fn or_null(&mut self, value: impl FnOnce(&mut Self) -> String) -> String {
        if self.0.random_range(0..6) == 0 { "NULL".to_owned() } else { value(self) }
    }

    fn text(&mut self) -> String {
        let count = self.0.random_range(0..4);
        let words: String = (0..count).filter_map(|_| WORDS.choose(&mut self.0).copied()).collect();
        format!("'{}'", words.replace('\'', "''"))
    }

    fn array(&mut self, name: &str, element: fn(&mut Self) -> String) -> String {
        let columns = self.0.random_range(0..4);
        let row_count = self.0.random_range(1..3);
        let mut rows = Vec::new();
        for _ in 0..row_count {
            let elements: Vec<_> = (0..columns).map(|_| self.or_null(element)).collect();
            rows.push(format!("ARRAY[{}]", elements.join(", ")));
        }

        let array =
            if rows.len() == 1 { rows.concat() } else { format!("ARRAY[{}]", rows.join(", ")) };
        format!("{array}::{name}[]")
    }

    fn names(&mut self) -> String {
        self.array("text", Self::text)
    }

    fn leaf(&mut self) -> String {
        let number = self.0.random::<i32>();
        let mood = ["'sad'", "'very \"happy\"'", "'{a,b}'"][self.0.random_range(0..3)];
        let text = self.or_null(Self::text);
        let number = self.or_null(|_| format!("'{number}'"));
        format!("ROW({text}, {number}, {mood})::leaf")
    }

    fn branch(&mut self) -> String {
        let leaf = self.or_null(Self::leaf);
        let leaves = self.or_null(|writer| writer.array("leaf", Self::leaf));
        let names = self.or_null(Self::names);
        let moods = self.or_null(|writer| writer.array("mood", |_| "'very \"happy\"'".to_owned()));
        let json = self.or_null(|writer| {
            let key = writer.text();
            format!("jsonb_build_object('k' || {key}, ARRAY[{key}, NULL])")
        });
        format!("ROW({leaf}, {leaves}, {names}, {moods}, {json})::branch")
    }

    fn tree(&mut self) -> String {
        let branches = self.or_null(|writer| writer.array("branch", Self::branch));
        let best = self.or_null(Self::branch);
        let names = self.or_null(|writer| writer.array("names", Self::names_of_domain));
        format!("ROW({branches}, {best}, {names})::tree")
    }

    fn names_of_domain(&mut self) -> String {
        format!("{}::names", self.names())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_values_have_the_json_of_postgresql() -> Result<()> {
    let seed = Settings::from_env()?.seed.unwrap_or(1);
    println!("seed {seed}");
    let postgres = Postgres::start().await?;
    postgres.execute(CREATE).await?;

    let mut values = ValueGenerator(StdRng::seed_from_u64(seed));
    let client = postgres.connect().await?;
    for id in 0..ROWS {
        let one = values.tree();
        let several = values.array("tree", ValueGenerator::tree);
        let names = values.names();
        let insert = format!("INSERT INTO trees VALUES ({id}, {one}, {several}, {names})");
        client.batch_execute(&insert).await.context(insert)?;
    }

    let config = "config: { edition: 3 }\n\
                  streams: { all: { auto_subscribe: true, query: SELECT * FROM trees } }";
    let worker = Worker::ready(&postgres, config, "trees").await?;
    for (id, data) in worker.wait_for_rows(ROWS).await? {
        let query = format!("SELECT to_jsonb(t)::text FROM trees t WHERE id = {id}");
        let expected: Json = serde_json::from_str(&postgres.value(&query).await?)?;

        // Devices have arrays and composite values as JSON in a text.
        let mut found: Json = serde_json::from_str(&data)?;
        for column in ["one", "several", "names"] {
            if let Some(text) = found[column].as_str() {
                found[column] = serde_json::from_str(text).with_context(|| text.to_owned())?;
            }
        }
        assert_eq!(found, expected, "row {id}");
    }
    worker.stop().await
}
