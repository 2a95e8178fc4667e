//! Requests of users, honest and forged, and the markers in the replies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::BytesMut;
use futures::StreamExt;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tidewater_tests::{SigningKey, Tidewater};

use super::model::{ORGS, PROJECTS, TENANTS, USERS};

/// Time in which a reply must be complete.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Number of bucket names and addresses that are kept for attacks.
const KEPT_MAX: usize = 200;

/// The bytes that a user has received in one reply, with the files of snapshots in it.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) markers: BTreeSet<u32>,
    pub(super) snapshots: Vec<String>,
    pub(super) first_line: String,
}

impl Seen {
    /// Adds the markers of some bytes: `secret-` and six digits.
    fn add(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(at) = rest.windows(7).position(|part| part == b"secret-") {
            rest = &rest[at + 7..];
            let digits = rest.get(..6).and_then(|digits| std::str::from_utf8(digits).ok());
            self.markers.extend(digits.and_then(|digits| digits.parse::<u32>().ok()));
        }
    }
}

pub(super) struct Attacker {
    http: reqwest::Client,
    url: String,
    key: SigningKey,
    /// Buckets that any user was told of, with the highest op id that was seen in each.
    buckets: BTreeMap<String, String>,
    addresses: Vec<String>,
    pub(super) snapshots: usize,
}

impl Attacker {
    pub(super) fn new(tidewater: &Tidewater) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(REPLY_TIMEOUT).build()?;
        Ok(Self {
            http,
            url: tidewater.url().to_owned(),
            key: tidewater.key().clone(),
            buckets: BTreeMap::new(),
            addresses: Vec::new(),
            snapshots: 0,
        })
    }

    fn token(&self, user: usize) -> Result<String> {
        let (name, tenant) = USERS[user];
        self.key.token(name).claim("tenant", tenant).sign()
    }

    /// Syncs everything of a user, as snapshots where there are some.
    pub(super) async fn honest(&mut self, user: usize) -> Result<Seen> {
        let subscriptions: Vec<Value> = PROJECTS
            .iter()
            .map(|project| json!({"stream": "project", "parameters": {"project": project}}))
            .collect();
        let request = json!({
            "raw_data": true, "client_id": "honest", "tidewater": {"snapshots": 1},
            "streams": {"subscriptions": subscriptions},
        });
        let token = self.token(user)?;
        let (status, seen) = self.stream(&token, &request.to_string()).await?;
        ensure!(status == 200, "an honest request got {status}: {}", seen.first_line);
        Ok(seen)
    }

    /// Sends a random request with a token of the user. Returns its description.
    pub(super) async fn attack(
        &mut self,
        user: usize,
        random: &mut StdRng,
    ) -> Result<(String, Seen)> {
        let (name, tenant) = USERS[user];
        let victim = USERS[random.random_range(0..USERS.len())];
        let token = self
            .key
            .token(name)
            .claim("tenant", tenant)
            // Claims that other systems read.
            .claim("user_id", victim.0)
            .claim("parameters", json!({"user_id": victim.0, "tenant": victim.1}))
            .claim("\"; DROP", json!(["'"]))
            .sign()?;

        let request = self.request(victim, random).to_string();
        let (status, seen) = self.stream(&token, &request).await?;
        Ok((format!("{status} to {request}"), seen))
    }

    fn request(&self, victim: (&str, &str), random: &mut StdRng) -> Value {
        let stolen = json!({
            "user_id": victim.0, "sub": victim.0, "tenant": victim.1, "aud": "x",
            "org": ORGS[random.random_range(0..ORGS.len())],
            "auth": {"user_id": victim.0}, "parameters": {"tenant": victim.1},
        });
        let count = random.random_range(0..6);
        let subscriptions: Vec<Value> = (0..count).map(|_| subscription(&stolen, random)).collect();

        let mut buckets = Vec::new();
        for (bucket, op) in &self.buckets {
            if random.random_ratio(1, 3) {
                let after = match random.random_range(0..5) {
                    0 => "0".to_owned(),
                    1 => "1".to_owned(),
                    2 => op.clone(),
                    // Above 2^62 a position names a place within a base.
                    3 => (4_611_686_018_427_387_905_u64 + random.random_range(0..9)).to_string(),
                    _ => "9223372036854775806".to_owned(),
                };
                buckets.push(json!({"name": bucket, "after": after}));
            }
        }

        let mut request = json!({
            "raw_data": random.random_bool(0.5), "client_id": "honest", "buckets": buckets,
            "parameters": stolen, "user_id": victim.0, "token": "x", "only": ["own"],
            "streams": {
                "include_defaults": random.random_bool(0.8),
                "subscriptions": subscriptions,
            },
        });
        if random.random_bool(0.5) {
            request["tidewater"] = json!({"snapshots": 1});
        }
        request
    }

    /// Tries addresses of snapshots that nobody was given.
    pub(super) async fn forge_addresses(&mut self, random: &mut StdRng) -> Result<()> {
        let mut forged = vec![
            "/sync/snapshot/..%2f..%2fcontrol".to_owned(),
            "/sync/snapshot/%2e%2e/objects".to_owned(),
            "/sync/snapshot/".to_owned(),
            "/sync/snapshots".to_owned(),
        ];
        for _ in 0..20.min(self.addresses.len()) {
            let address = &self.addresses[random.random_range(0..self.addresses.len())];
            let other = &self.addresses[random.random_range(0..self.addresses.len())];
            let mut parts: Vec<&str> = address.split('.').collect();

            // The object of one address with the signature of another.
            if let ([_, _, signature], [_, _, mine]) =
                (other.split('.').collect::<Vec<_>>().as_slice(), parts.as_mut_slice())
                && signature != mine
            {
                *mine = signature;
                forged.push(parts.join("."));
            }

            let start = address.rfind('/').map_or(0, |slash| slash + 1);
            let at = random.random_range(start..address.len());
            let mut bytes = address.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes)?;
            // The last character of base64 has bits that do not count.
            if at + 1 < address.len() && !address[at + 1..].starts_with('.') {
                forged.push(changed);
            }
        }

        for address in forged {
            let response = self.http.get(format!("{}{address}", self.url)).send().await?;
            let status = response.status();
            let mut seen = Seen::default();
            seen.add(&response.bytes().await?);
            ensure!(!status.is_success() && seen.markers.is_empty(), "{address}: {status}");
        }
        Ok(())
    }

    /// Tries tokens that are not valid, at each path.
    pub(super) async fn unauthorised(&mut self, random: &mut StdRng) -> Result<()> {
        let victim = random.random_range(0..USERS.len());
        let (name, tenant) = USERS[victim];
        let good = self.token(victim)?;
        let parts: Vec<&str> = good.split('.').collect();
        let other = self.token((victim + 1) % USERS.len())?;
        let theirs: Vec<&str> = other.split('.').collect();
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);

        let tokens = [
            format!("{}.{}.{}", parts[0], parts[1], theirs[2]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{none}.{}.", parts[1]),
            SigningKey::random("test").token(name).claim("tenant", tenant).sign()?,
            self.key.token(name).claim("tenant", tenant).valid_seconds(-120).sign()?,
            self.key.token(name).claim("tenant", tenant).claim("aud", "other").sign()?,
            "garbage".to_owned(),
        ];
        for token in tokens {
            let (status, seen) = self.stream(&token, r#"{"raw_data":true}"#).await?;
            ensure!(status == 401 && seen.markers.is_empty(), "{token}: {}", seen.first_line);

            for path in ["/write-checkpoint2.json?client_id=honest", "/probes/readiness", "/"] {
                let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&token);
                let mut seen = Seen::default();
                seen.add(&request.send().await?.bytes().await?);
                ensure!(seen.markers.is_empty(), "{path} with {token}");
            }
        }
        Ok(())
    }

    /// Sends a stream request, and reads its reply up to a complete checkpoint, with the files that
    /// it names.
    async fn stream(&mut self, token: &str, request: &str) -> Result<(u16, Seen)> {
        let response = self
            .http
            .post(format!("{}/sync/stream", self.url))
            .bearer_auth(token)
            .header("content-type", "application/json")
            .body(request.to_owned())
            .send()
            .await?;
        let status = response.status().as_u16();
        let mut stream = response.bytes_stream();
        let mut received = BytesMut::new();
        let mut seen = Seen::default();

        'lines: while let Some(chunk) = stream.next().await {
            // A stream is cut where it exceeds a quota. What arrived before counts.
            let Ok(chunk) = chunk else { break };
            received.extend_from_slice(&chunk);
            while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
                let line = received.split_to(end + 1);
                seen.add(&line);
                if self.read_line(&line, &mut seen)? {
                    break 'lines;
                }
            }
        }
        seen.add(&received);
        if seen.first_line.is_empty() {
            seen.first_line = String::from_utf8_lossy(&received).into_owned();
        }

        for address in seen.snapshots.clone() {
            let file = self.http.get(format!("{}{address}", self.url)).send().await?;
            ensure!(file.status() == 200, "{address}: {}", file.status());
            let file = zstd::decode_all(file.bytes().await?.as_ref()).context("no zstd")?;
            seen.add(&file);
            self.snapshots += 1;
        }
        Ok((status, seen))
    }

    /// Keeps what attacks can use. Returns whether the line completes a checkpoint.
    fn read_line(&mut self, line: &[u8], seen: &mut Seen) -> Result<bool> {
        if seen.first_line.is_empty() {
            seen.first_line = String::from_utf8_lossy(line).into_owned();
        }
        let line: Value = serde_json::from_slice(line).context("a line is not JSON")?;

        for bucket in line["checkpoint"]["buckets"].as_array().into_iter().flatten() {
            let name = bucket["bucket"].as_str().context("no name")?;
            if self.buckets.len() < KEPT_MAX {
                self.buckets.entry(name.to_owned()).or_insert_with(|| "0".to_owned());
            }
        }
        if let (Some(name), Some(op)) =
            (line["data"]["bucket"].as_str(), line["data"]["next_after"].as_str())
        {
            self.buckets.insert(name.to_owned(), op.to_owned());
        }
        for file in line["snapshot"]["files"].as_array().into_iter().flatten() {
            let address = file["url"].as_str().context("no address")?.to_owned();
            if self.addresses.len() < KEPT_MAX {
                self.addresses.push(address.clone());
            }
            seen.snapshots.push(address);
        }
        Ok(line.get("checkpoint_complete").is_some())
    }
}

/// Returns a subscription that asks for rows of others.
fn subscription(stolen: &Value, random: &mut StdRng) -> Value {
    let stream = ["project", "own", "org", "claimed", "open", "nothing", "project|0"];
    let project = match random.random_range(0..6) {
        0 => json!(PROJECTS),
        1 => json!(null),
        2 => json!({"project": PROJECTS[0]}),
        3 => json!(format!(
            "{}\",\"{}",
            PROJECTS[random.random_range(0..PROJECTS.len())],
            TENANTS[random.random_range(0..TENANTS.len())]
        )),
        _ => json!(PROJECTS[random.random_range(0..PROJECTS.len())]),
    };
    let mut parameters = stolen.clone();
    parameters["project"] = project;
    json!({
        "stream": stream[random.random_range(0..stream.len())],
        "parameters": parameters,
        "override_priority": random.random_range(0..4),
    })
}
