//! The console in a real browser.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tidewater_tests::{
    Browser, DevOptions, Output, Postgres, Process, Scratch, Settings, Tidewater, eventually,
};

/// Timeout of a page: long enough for a browser on a busy machine.
const SOON: Duration = Duration::from_secs(90);

const CONFIG: &str = "
config: { edition: 3 }
streams:
  my_lists: { auto_subscribe: true, query: SELECT * FROM lists WHERE owner_id = auth.user_id() }
";

const TABLES: &str = "
    CREATE TABLE lists (id text PRIMARY KEY, owner_id text);
    CREATE PUBLICATION powersync FOR TABLE lists;
    INSERT INTO lists SELECT i, 'user-' || i % 7 FROM generate_series(1, 1500) AS i;
    ANALYZE lists;
";

/// The owner's name is markup, and becomes a part of a bucket's name.
const ATTACK: &str = "
    INSERT INTO lists SELECT 'x' || i, '<img src=x onerror=document.title=''taken''>'
        FROM generate_series(1, 800) AS i;
";

/// A browser without a window, in a folder of its own.
struct Window {
    program: PathBuf,
    folder: Scratch,
}

impl Window {
    fn new(program: PathBuf) -> Result<Self> {
        Ok(Self { program, folder: Scratch::new()? })
    }

    async fn run(&self, arguments: &[&str], url: &str) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.arg(format!("--user-data-dir={}", self.folder.path().display()));
        // Time passes as fast as the page's requests are answered.
        command.args(["--virtual-time-budget=8000", "--window-size=1100,900"]);
        command.args(arguments).arg(url);
        let output = Process::run(&mut command, SOON).await?;
        ensure!(output.code == Some(0), "the browser failed: {}", output.stderr);
        Ok(output)
    }

    /// Returns the page after its scripts have run, as HTML.
    async fn page(&self, url: &str) -> Result<String> {
        Ok(self.run(&["--dump-dom"], url).await?.stdout)
    }

    async fn screenshot(&self, url: &str, file: &Path) -> Result<()> {
        let argument = format!("--screenshot={}", file.display());
        self.run(&[&argument, "--hide-scrollbars"], url).await?;
        ensure!(std::fs::metadata(file)?.len() > 10_000, "the picture is empty");
        Ok(())
    }
}

#[tokio::test]
async fn the_console_shows_the_state_and_no_markup_of_the_data() -> Result<()> {
    let settings = Settings::from_env()?;
    let program = match settings.browser {
        Browser::Program(program) => program,
        Browser::LeftOut => return Ok(()),
        Browser::Missing => bail!("Chromium is missing: see ./test --help"),
    };
    let browser = Window::new(program)?;
    let postgres = Postgres::start().await?;
    postgres.execute(TABLES).await?;
    let options = DevOptions::new(&postgres.url("postgres"), CONFIG);
    let tidewater = Tidewater::dev_ready(options).await?;

    // The address alone leads to the page, which asks for the token.
    let page = browser.page(tidewater.url()).await?;
    ensure!(page.contains("signed out") && page.contains("Admin token"), "{page}");
    ensure!(!page.contains("public.lists"), "{page}");

    let file = tidewater.data_dir().join("admin-token");
    let token = std::fs::read_to_string(&file).context("no token of dev")?;
    let url = format!("{}/console/#token={}", tidewater.url(), token.trim());
    let page = browser.page(&url).await?;
    for shown in ["healthy", "public.lists", "my_lists|0", "1,500", "reachable", "in use"] {
        ensure!(page.contains(shown), "'{shown}' is not in\n{page}");
    }

    browser.screenshot(&url, &browser.folder.path().join("console.png")).await?;
    if let Some(pictures) = settings.pictures {
        browser.screenshot(&url, &pictures.join("console.png")).await?;
    }

    // What users write is shown as text.
    postgres.execute(ATTACK).await?;
    let page = eventually("a bucket whose name is markup", SOON, async || {
        let page = browser.page(&url).await?;
        Ok(page.contains("&lt;img src=x onerror").then_some(page))
    })
    .await?;
    ensure!(!page.contains("<img") && !page.contains("<title>taken"), "{page}");

    // A wrong token shows nothing, and is forgotten.
    let wrong = format!("{}/console/#token=0123456789abcdef0123", tidewater.url());
    let page = browser.page(&wrong).await?;
    ensure!(page.contains("does not accept the token"), "{page}");
    ensure!(!page.contains("public.lists"), "{page}");
    Ok(())
}
