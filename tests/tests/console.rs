//! The console in a real browser.

mod browser;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tidewater_tests::{Browser, DevOptions, Postgres, Settings, Tidewater, eventually};

use browser::{Key, Page, SOON, Scheme};

const CONFIG: &str = "\
config: { edition: 3 }
streams:
  my_lists:
    auto_subscribe: true
    queries:
      - SELECT * FROM lists WHERE owner_id = auth.user_id()
      - SELECT * FROM todos WHERE list_id IN (SELECT id FROM lists WHERE owner_id = auth.user_id())
";

const TABLES: &str = "
    CREATE TABLE lists (id text PRIMARY KEY, owner_id text);
    CREATE TABLE todos (id text PRIMARY KEY, list_id text, description text);
    CREATE PUBLICATION powersync FOR TABLE lists, todos;
    INSERT INTO lists SELECT i, 'user-' || i % 7 FROM generate_series(1, 1500) AS i;
    INSERT INTO todos SELECT i, i % 90 + 1, 'water the plants' FROM generate_series(1, 400) AS i;
    ANALYZE lists, todos;
";

/// The owner's name is markup, and becomes a part of a bucket's name.
const ATTACK: &str = "
    INSERT INTO lists SELECT 'x' || i, '<img src=x onerror=document.title=''taken''>'
        FROM generate_series(1, 800) AS i;
";

/// A database, its `tidewater dev`, and a browser.
struct Scene {
    postgres: Postgres,
    tidewater: Tidewater,
    page: Page,
    pictures: Option<PathBuf>,
}

impl Scene {
    /// Starts everything; `None` where the browser is left out.
    async fn open(arguments: &[&str]) -> Result<Option<Self>> {
        let settings = Settings::from_env()?;
        let program = match settings.browser {
            Browser::Program(program) => program,
            Browser::LeftOut => return Ok(None),
            Browser::Missing => bail!("Chromium is missing: see ./test --help"),
        };
        let postgres = Postgres::start().await?;
        postgres.execute(TABLES).await?;
        let options = DevOptions::new(&postgres.url("postgres"), CONFIG).with(arguments);
        let tidewater = Tidewater::dev_ready(options).await?;
        let page = Page::open(&program).await?;
        Ok(Some(Self { postgres, tidewater, page, pictures: settings.pictures }))
    }

    /// Opens the console with a token.
    async fn sign_in(&mut self) -> Result<()> {
        let file = self.tidewater.data_dir().join("admin-token");
        let token = std::fs::read_to_string(&file).context("no token of dev")?;
        let url = format!("{}/console/#token={}", self.tidewater.url(), token.trim());
        self.page.go(&url).await?;
        self.page.wait("document.getElementById('state').textContent === 'healthy'").await
    }
}

#[tokio::test]
async fn the_console_shows_the_state_and_no_markup_of_the_data() -> Result<()> {
    let Some(mut scene) = Scene::open(&[]).await? else { return Ok(()) };

    // The address alone leads to the page, which asks for the token.
    scene.page.go(scene.tidewater.url()).await?;
    scene.page.shows("Admin token").await?;
    let text = scene.page.text().await?;
    ensure!(text.contains("signed out") && !text.contains("public.lists"), "{text}");

    scene.sign_in().await?;
    for shown in ["public.lists", "my_lists|0", "1,500", "reachable", "in use"] {
        scene.page.shows(shown).await?;
    }
    ensure!(scene.page.value("location.hash").await? == json!(""), "the token is in the address");
    scene.page.pictures(scene.pictures.as_ref(), "console").await?;

    // What users write is shown as text.
    scene.postgres.execute(ATTACK).await?;
    scene.page.shows("<img src=x onerror").await?;
    ensure!(scene.page.value("document.querySelector('img') === null").await? == json!(true));
    ensure!(scene.page.value("document.title").await? == json!("Tidewater"));

    // A wrong token shows nothing, and is forgotten.
    let wrong = format!("{}/console/#token=0123456789abcdef0123", scene.tidewater.url());
    scene.page.go("about:blank").await?;
    scene.page.go(&wrong).await?;
    scene.page.shows("does not accept the token").await?;
    let text = scene.page.text().await?;
    ensure!(!text.contains("public.lists"), "{text}");
    ensure!(scene.page.value("sessionStorage.getItem('token') === null").await? == json!(true));
    Ok(())
}

#[tokio::test]
async fn a_config_is_checked_as_it_is_typed_drawn_and_deployed() -> Result<()> {
    let Some(mut scene) = Scene::open(&[]).await? else { return Ok(()) };
    scene.sign_in().await?;
    let page = &mut scene.page;
    page.value("document.getElementById('link-config').click()").await?;
    page.wait("document.getElementById('verdict').textContent === 'valid'").await?;
    ensure!(page.value("document.getElementById('config-text').value").await? == json!(CONFIG));
    ensure!(page.value("document.getElementById('deploy').disabled").await? == json!(true));
    page.pictures(scene.pictures.as_ref(), "console-config").await?;

    // The picture is one stop of the Tab key, and arrow keys move within it.
    page.value("document.querySelector('#config-picture [tabindex=\"0\"]').focus()").await?;
    page.wait("document.activeElement.getAttribute('aria-label').includes('stream my_lists')")
        .await?;
    page.press(Key::Right).await?;
    page.wait("document.activeElement.classList.contains('lookup')").await?;
    page.shows("to buckets my_lists|1: one for each lists.id").await?;
    page.press(Key::Right).await?;
    page.wait("document.activeElement.classList.contains('buckets')").await?;
    page.press(Key::Down).await?;
    ensure!(
        page.value("document.querySelectorAll('#config-picture .node').length").await? == json!(6)
    );
    page.press(Key::Tab).await?;
    page.wait("document.activeElement.tagName === 'SUMMARY'").await?;

    // An error has its place, and leads there.
    let wrong = CONFIG.replace("SELECT * FROM todos", "SELEC * FROM todos");
    page.fill("config-text", &wrong).await?;
    page.wait("document.querySelectorAll('#findings button').length === 1").await?;
    page.wait("document.getElementById('verdict').textContent === '1 error'").await?;
    ensure!(page.value("document.getElementById('deploy').disabled").await? == json!(true));
    page.value("document.querySelector('#findings button').focus()").await?;
    page.press(Key::Enter).await?;
    page.wait("document.activeElement.id === 'config-text'").await?;
    page.shows("line 7, column 9").await?;

    // The database is asked, too.
    page.fill("config-text", &CONFIG.replace("FROM todos", "FROM todoes")).await?;
    page.shows("todoes").await?;
    page.wait("document.getElementById('verdict').className === 'bad'").await?;

    // A deployment is confirmed: Escape and the first button decline it.
    let next = CONFIG.replace("SELECT * FROM lists", "SELECT id FROM lists");
    page.fill("config-text", &next).await?;
    page.wait("document.getElementById('deploy').disabled === false").await?;
    page.value("document.getElementById('deploy').focus()").await?;
    for decline in [Key::Escape, Key::Enter] {
        page.press(Key::Enter).await?;
        page.wait("document.activeElement.id === 'deploy-not'").await?;
        page.press(decline).await?;
        page.wait("document.activeElement.id === 'deploy'").await?;
    }
    let file = scene.tidewater.folder().join("sync-config.yaml");
    ensure!(std::fs::read_to_string(&file)? == CONFIG);

    page.press(Key::Enter).await?;
    page.wait("document.activeElement.id === 'deploy-not'").await?;
    page.press(Key::Tab).await?;
    page.wait("document.activeElement.id === 'deploy-now'").await?;
    page.press(Key::Enter).await?;
    eventually("the deployed file", SOON, async || {
        Ok((std::fs::read_to_string(&file)? == next).then_some(()))
    })
    .await?;
    page.shows("This is the config in use.").await?;
    Ok(())
}

#[tokio::test]
async fn the_console_works_with_a_keyboard_and_a_screen_reader_in_both_schemes() -> Result<()> {
    let Some(mut scene) = Scene::open(&[]).await? else { return Ok(()) };
    scene.page.go(scene.tidewater.url()).await?;
    scene.page.shows("Admin token").await?;
    scene.page.wait("document.activeElement.id === 'token'").await?;
    scene.sign_in().await?;
    let page = &mut scene.page;

    // The first stops of the Tab key are the views, by name.
    page.value("document.activeElement.blur()").await?;
    let mut stops = Vec::new();
    for _ in 0..VIEWS.len() {
        page.press(Key::Tab).await?;
        let name = page.value("document.activeElement.textContent").await?;
        stops.push(name.as_str().unwrap_or_default().to_owned());
    }
    ensure!(stops == VIEWS, "{stops:?}");

    for view in VIEWS {
        let link = format!("link-{}", view.to_lowercase().replace(' ', "-"));
        page.value(&format!("document.getElementById('{link}').click()")).await?;
        page.wait(&format!(
            "document.getElementById('{link}').getAttribute('aria-current') === 'page'"
        ))
        .await?;
        // Whatever can be used has a name.
        for (role, name) in page.accessible().await? {
            let is_used = ["button", "link", "textbox", "checkbox", "combobox", "dialog", "group"];
            ensure!(!is_used.contains(&role.as_str()) || !name.is_empty(), "{view}: a {role}");
        }
    }

    // Text has the contrast that WCAG AA demands, in both schemes.
    for scheme in [Scheme::Light, Scheme::Dark] {
        page.prefer(scheme).await?;
        let low = page.value(LOW_CONTRAST).await?;
        ensure!(low == json!([]), "{scheme:?}: {low}");
    }
    let ground = page.value("getComputedStyle(document.body).backgroundColor").await?;
    ensure!(ground == json!("rgb(18, 24, 31)"), "the dark scheme is not dark: {ground}");
    Ok(())
}

/// The views, in the order of the Tab key.
const VIEWS: [&str; 2] = ["State", "Config"];

/// The texts whose color has less than 4.5 times the contrast of the page's ground.
const LOW_CONTRAST: &str = r"
(() => {
  const light = (color) => {
    const parts = color.match(/[\d.]+/g).slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ground = light(getComputedStyle(document.body).backgroundColor);
  const contrast = (color) => {
    const other = light(color);
    return (Math.max(ground, other) + 0.05) / (Math.min(ground, other) + 0.05);
  };
  const has = [...document.querySelectorAll('p, a, h1, h2, th, td, dt, dd, li, summary, figcaption, label')];
  return has.filter((one) => one.offsetParent && contrast(getComputedStyle(one).color) < 4.5)
    .map((one) => one.outerHTML);
})()
";
