//! What the environment tells the tests: read here and nowhere else.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The settings of a test run. `./test` sets them; each has a default that suits a plain
/// `cargo nextest run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `TIDEWATER_TEST_SEED`: the only seed to run, to repeat a failure.
    pub seed: Option<u64>,
    /// `TIDEWATER_TEST_SEEDS`: how many seeds a random test runs.
    pub seeds: u64,
    /// `TIDEWATER_TEST_ROUNDS`: how many bursts of load there are for each seed, each followed by
    /// a comparison of everything with the model.
    pub rounds: usize,
    /// `TIDEWATER_TEST_PG_BIN`: the folder with `initdb` and `postgres`.
    pub postgres_bin: Option<PathBuf>,
    /// `TIDEWATER_TEST_LOCALSTACK`: the endpoint of a LocalStack that runs.
    pub localstack: Option<String>,
    /// Where `./test` puts what it installs: `$XDG_CACHE_HOME/tidewater`.
    pub cache: PathBuf,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// When a number is none.
    #[expect(clippy::disallowed_methods, reason = "the one place where tests read it")]
    pub fn from_env() -> Result<Self> {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number = |name: &str| {
            text(name)
                .map(|value| value.parse::<u64>().with_context(|| format!("{name}={value}")))
                .transpose()
        };
        let home = || text("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = text("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        let cache = cache.context("neither XDG_CACHE_HOME nor HOME is set")?;
        let rounds = number("TIDEWATER_TEST_ROUNDS")?.unwrap_or(3);
        Ok(Self {
            seed: number("TIDEWATER_TEST_SEED")?,
            seeds: number("TIDEWATER_TEST_SEEDS")?.unwrap_or(2),
            rounds: usize::try_from(rounds).context("TIDEWATER_TEST_ROUNDS")?,
            postgres_bin: text("TIDEWATER_TEST_PG_BIN").map(PathBuf::from),
            localstack: text("TIDEWATER_TEST_LOCALSTACK"),
            cache: cache.join("tidewater"),
        })
    }

    /// The seeds that a random test is to run, each printed by the test that uses it.
    pub fn seed_list(&self) -> Vec<u64> {
        match self.seed {
            Some(seed) => vec![seed],
            None => (1..=self.seeds).collect(),
        }
    }
}
