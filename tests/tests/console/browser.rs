//! A headless Chromium, driven by the DevTools protocol: what a person does with a keyboard, a pair of eyes
//! or a screen reader.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tidewater_tests::{Lodging, Process, Scratch, Signal, eventually};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Timeout of whatever a page does: long enough for a browser on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(90);

/// A color scheme of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Light,
    Dark,
}

/// A key that a person presses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Tab,
    Enter,
    Escape,
    Down,
    Right,
}

impl Key {
    /// Returns the name of the key in the DevTools protocol, and its code.
    const fn code(self) -> (&'static str, u32) {
        match self {
            Self::Tab => ("Tab", 9),
            Self::Enter => ("Enter", 13),
            Self::Escape => ("Escape", 27),
            Self::Down => ("ArrowDown", 40),
            Self::Right => ("ArrowRight", 39),
        }
    }
}

/// One page of a browser of its own. The browser ends when this is dropped.
pub(super) struct Page {
    socket: WebSocketStream<TcpStream>,
    session: Option<String>,
    last_id: u64,
    _process: Process,
    _folder: Scratch,
}

impl Page {
    /// Starts a browser with an empty page.
    pub(super) async fn open(program: &Path) -> Result<Self> {
        let folder = Scratch::new()?;
        let mut command = Command::new(program);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--hide-scrollbars", "--window-size=1100,900", "--remote-debugging-port=0"]);
        command.arg(format!("--user-data-dir={}", folder.path().display())).arg("about:blank");
        let lodging = Lodging { name: "browser", logs: folder.path(), end: Signal::Kill };
        let mut process = Process::spawn(&mut command, lodging)?;

        // The browser writes its port and its path when it listens.
        let file = folder.path().join("DevToolsActivePort");
        let place = eventually("the browser's port", SOON, async || {
            process.must_run()?;
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            Ok(<[String; 2]>::try_from(lines).ok())
        });
        let [port, path] = place.await?;
        let stream = TcpStream::connect(format!("127.0.0.1:{port}")).await?;
        let url = format!("ws://127.0.0.1:{port}{path}");
        let socket = tokio_tungstenite::client_async(url, stream).await?.0;
        let mut page =
            Self { socket, session: None, last_id: 0, _process: process, _folder: folder };

        let target = page.call("Target.createTarget", json!({ "url": "about:blank" })).await?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = page.call("Target.attachToTarget", attach).await?;
        page.session = attached["sessionId"].as_str().map(str::to_owned);
        page.size(1100, 900).await?;
        Ok(page)
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(message.to_string())).await?;
        tokio::time::timeout(SOON, self.answer(id, method)).await.context("no answer in time")?
    }

    async fn answer(&mut self, id: u64, method: &str) -> Result<Value> {
        while let Some(message) = self.socket.next().await {
            let Message::Text(text) = message? else { continue };
            let mut message: Value = serde_json::from_str(&text)?;
            // The others are events.
            if message["id"] == id {
                ensure!(message["error"].is_null(), "{method}: {}", message["error"]);
                return Ok(message["result"].take());
            }
        }
        bail!("the browser has ended")
    }

    /// Sets the size of the window, in pixels.
    pub(super) async fn size(&mut self, width: u32, height: u32) -> Result<()> {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size).await?;
        Ok(())
    }

    /// Sets the color scheme that the user prefers.
    pub(super) async fn prefer(&mut self, scheme: Scheme) -> Result<()> {
        let value = if scheme == Scheme::Dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": value });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [feature] })).await?;
        Ok(())
    }

    /// Opens an address.
    pub(super) async fn go(&mut self, url: &str) -> Result<()> {
        let went = self.call("Page.navigate", json!({ "url": url })).await?;
        ensure!(went["errorText"].is_null(), "{url}: {}", went["errorText"]);
        Ok(())
    }

    /// Returns the value of an expression.
    pub(super) async fn value(&mut self, expression: &str) -> Result<Value> {
        let params = json!({
            "expression": expression,
            "awaitPromise": true,
            "returnByValue": true,
            "userGesture": true,
        });
        let mut answer = self.call("Runtime.evaluate", params).await?;
        let failed = &answer["exceptionDetails"];
        ensure!(failed.is_null(), "{expression}: {failed}");
        Ok(answer["result"]["value"].take())
    }

    /// Waits until an expression is true.
    pub(super) async fn wait(&mut self, expression: &str) -> Result<()> {
        // A page that is being replaced has no context for a moment.
        let waited = eventually(expression, SOON, async || {
            Ok((self.value(expression).await? == json!(true)).then_some(()))
        });
        if let Err(error) = waited.await {
            let page = self.text().await.unwrap_or_default();
            return Err(error.context(format!("the page:\n{page}")));
        }
        Ok(())
    }

    /// Waits until the page shows a text.
    pub(super) async fn shows(&mut self, text: &str) -> Result<()> {
        self.wait(&format!("document.body.innerText.includes({})", json!(text))).await
    }

    /// Returns the text that the page shows.
    pub(super) async fn text(&mut self) -> Result<String> {
        let text = self.value("document.body.innerText").await?;
        text.as_str().map(str::to_owned).context("no text")
    }

    /// Presses a key.
    pub(super) async fn press(&mut self, key: Key) -> Result<()> {
        let (name, code) = key.code();
        let text = if key == Key::Enter { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": if kind == "keyDown" && text.is_empty() { "rawKeyDown" } else { kind },
                "key": name, "code": name, "windowsVirtualKeyCode": code, "text": text,
            });
            self.call("Input.dispatchKeyEvent", event).await?;
        }
        Ok(())
    }

    /// Focuses an element, and replaces its text by what a person types.
    pub(super) async fn fill(&mut self, id: &str, text: &str) -> Result<()> {
        self.value(&format!(
            "document.getElementById('{id}').focus(); document.activeElement.select()"
        ))
        .await?;
        self.call("Input.insertText", json!({ "text": text })).await?;
        Ok(())
    }

    /// Returns role and name of what a screen reader reads, of the elements that it can reach.
    pub(super) async fn accessible(&mut self) -> Result<Vec<(String, String)>> {
        let tree = self.call("Accessibility.getFullAXTree", json!({})).await?;
        let nodes = tree["nodes"].as_array().context("no tree")?;
        let read = nodes.iter().filter(|node| node["ignored"] != true).map(|node| {
            let text = |member: &str| node[member]["value"].as_str().unwrap_or_default().to_owned();
            (text("role"), text("name"))
        });
        Ok(read.collect())
    }

    /// Writes a picture of the window.
    pub(super) async fn screenshot(&mut self, file: &Path) -> Result<()> {
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png" })).await?;
        let picture = BASE64_STANDARD.decode(answer["data"].as_str().context("no picture")?)?;
        ensure!(picture.len() > 10_000, "the picture is empty");
        std::fs::write(file, picture).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Writes pictures of the window in both color schemes: `NAME.png` and `NAME-dark.png`.
    pub(super) async fn pictures(&mut self, folder: Option<&PathBuf>, name: &str) -> Result<()> {
        let Some(folder) = folder else { return Ok(()) };
        for (scheme, suffix) in [(Scheme::Dark, "-dark"), (Scheme::Light, "")] {
            self.prefer(scheme).await?;
            self.screenshot(&folder.join(format!("{name}{suffix}.png"))).await?;
        }
        Ok(())
    }
}
