//! The environment variables of the tests, which are read only here.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Names of Chromium's program.
const CHROMIUM: [&str; 4] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// The browser in which the web SDK runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Browser {
    /// Chromium is this program.
    Program(PathBuf),
    /// There is no Chromium, so the tests of the web SDK fail.
    Missing,
    /// `TIDEWATER_TEST_CHROMIUM` is `none`: the web SDK is not tested.
    LeftOut,
}

/// The settings of a test run.
///
/// `./test` sets them. The defaults suit a plain `cargo nextest run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `TIDEWATER_TEST_SEED`: the only seed to run, to reproduce a failure. The simulation then
    /// repeats every event. Other tests repeat only their load and alterations.
    pub seed: Option<u64>,
    /// `TIDEWATER_TEST_SEEDS`: the number of seeds that a random test runs.
    pub seeds: u64,
    /// `TIDEWATER_TEST_SIMULATION_SEEDS`: the number of seeds that the simulation runs. Each takes a
    /// fraction of a second, unlike those of other tests.
    pub simulation_seeds: u64,
    /// `TIDEWATER_TEST_EVENTS`: the file to which the simulation writes all events of its runs.
    pub events: Option<PathBuf>,
    /// `TIDEWATER_TEST_ROUNDS`: the number of rounds of load for each seed. Each round ends with a
    /// comparison of everything with the model.
    pub rounds: usize,
    /// `TIDEWATER_TEST_PG_BIN`: the folder with `initdb` and `postgres`.
    pub postgres_bin: Option<PathBuf>,
    /// `TIDEWATER_TEST_LOCALSTACK`: the endpoint of a running LocalStack.
    pub localstack: Option<String>,
    /// `TIDEWATER_TEST_DYNAMODB`: the program of the DynamoDB emulator.
    pub dynamodb: Option<PathBuf>,
    /// `TIDEWATER_TEST_ALL_SDKS`: whether all official SDKs run the tests that otherwise the newest and
    /// the oldest run.
    pub all_sdks: bool,
    /// `TIDEWATER_TEST_CHROMIUM`: the browser of the web SDK's tests.
    pub browser: Browser,
    /// `TIDEWATER_TEST_PICTURES`: the folder to which the tests of the console write pictures.
    pub pictures: Option<PathBuf>,
    /// The folder of programs that `./test` installs: `$XDG_CACHE_HOME/tidewater`.
    pub cache: PathBuf,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// Fails when a variable that must be a number is not one.
    pub fn from_env() -> Result<Self> {
        let cache = text("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| text("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .context("neither XDG_CACHE_HOME nor HOME is set")?;

        let rounds = number("TIDEWATER_TEST_ROUNDS")?.unwrap_or(3);
        Ok(Self {
            seed: number("TIDEWATER_TEST_SEED")?,
            seeds: number("TIDEWATER_TEST_SEEDS")?.unwrap_or(2),
            simulation_seeds: number("TIDEWATER_TEST_SIMULATION_SEEDS")?.unwrap_or(10),
            events: text("TIDEWATER_TEST_EVENTS").map(PathBuf::from),
            rounds: usize::try_from(rounds).context("TIDEWATER_TEST_ROUNDS")?,
            postgres_bin: text("TIDEWATER_TEST_PG_BIN").map(PathBuf::from),
            localstack: text("TIDEWATER_TEST_LOCALSTACK"),
            dynamodb: text("TIDEWATER_TEST_DYNAMODB").map(PathBuf::from),
            all_sdks: text("TIDEWATER_TEST_ALL_SDKS").is_some(),
            browser: browser(),
            pictures: text("TIDEWATER_TEST_PICTURES").map(PathBuf::from),
            cache: cache.join("tidewater"),
        })
    }

    /// Returns the seeds that a random test runs. The test prints each of them.
    pub fn seed_list(&self) -> Vec<u64> {
        match self.seed {
            Some(seed) => vec![seed],
            None => (1..=self.seeds).collect(),
        }
    }
}

/// Returns the browser that the environment names, or else Chromium from the search path.
fn browser() -> Browser {
    match text("TIDEWATER_TEST_CHROMIUM") {
        Some(name) if name == "none" => Browser::LeftOut,
        Some(program) => Browser::Program(program.into()),
        None => {
            let folders = text("PATH").unwrap_or_default();
            let mut programs = std::env::split_paths(&folders)
                .flat_map(|folder| CHROMIUM.map(|name| folder.join(name)));
            programs.find(|path| path.is_file()).map_or(Browser::Missing, Browser::Program)
        }
    }
}

/// Returns a variable that is set and not empty.
#[expect(clippy::disallowed_methods, reason = "the one place where tests read the environment")]
fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Result<Option<u64>> {
    text(name)
        .map(|value| value.parse().with_context(|| format!("{name}={value} is no number")))
        .transpose()
}
