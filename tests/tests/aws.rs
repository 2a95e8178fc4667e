//! DynamoDB and S3 that refuse calls as AWS does. Behind it are the DynamoDB emulator, and objects in
//! memory: no emulator checks rights.
#![expect(clippy::unwrap_used, reason = "a helper of tests")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_RANGE, RANGE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidewater_storage_aws::{AwsConfig, AwsStore};
use tidewater_tests::{Settings, Tidewater};
use tokio::net::TcpListener;

/// The tables' prefix and the S3 bucket of a deployment.
const PREFIX: &str = "app";
const BUCKET: &str = "app-objects";

/// A call that is refused from now on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    /// The operation, such as `PutItem` or `PutObject`.
    pub(crate) call: &'static str,
    pub(crate) status: u16,
    pub(crate) code: &'static str,
}

/// The reply of AWS to a role that lacks the right to this call of DynamoDB.
pub(crate) const fn denied(call: &'static str) -> Refused {
    Refused { call, status: 400, code: "AccessDeniedException" }
}

/// The reply of AWS to a role that lacks the right to this call of S3.
pub(crate) const fn denied_by_s3(call: &'static str) -> Refused {
    Refused { call, status: 403, code: "AccessDenied" }
}

/// A call, and what it needs the right to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Recorded {
    /// The access key that signed the call.
    pub(crate) access_key: String,
    /// The action as policies name it, such as `dynamodb:PutItem`.
    pub(crate) action: String,
    /// The table without the prefix, `objects/*` or, for the S3 bucket itself, `objects`.
    pub(crate) resource: String,
    /// The partition keys of the items that the call names.
    pub(crate) partitions: BTreeSet<String>,
}

/// A deployment with empty tables. It ends with the test.
pub(crate) struct Aws {
    endpoint: String,
    service: Arc<Service>,
    _emulator: Emulator,
}

struct Service {
    dynamodb: String,
    client: reqwest::Client,
    objects: Mutex<HashMap<String, Bytes>>,
    refused: Mutex<Vec<Refused>>,
    /// All different calls so far, and how often each was made.
    recorded: Mutex<BTreeMap<Recorded, u32>>,
    consumed: Mutex<BTreeMap<String, Units>>,
}

/// Request units of a table, as the emulator counts them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Units {
    pub(crate) read: f64,
    pub(crate) written: f64,
}

/// The DynamoDB emulator, which ends when its standard input closes.
struct Emulator {
    endpoint: String,
    _child: Child,
}

impl Aws {
    pub(crate) async fn start() -> Result<Self> {
        let emulator = Emulator::start()?;
        let service = Arc::new(Service {
            dynamodb: emulator.endpoint.clone(),
            client: reqwest::Client::new(),
            objects: Mutex::default(),
            refused: Mutex::default(),
            recorded: Mutex::default(),
            consumed: Mutex::default(),
        });

        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&service));
        tokio::spawn(async move { axum::serve(listener, app).await });

        let aws = Self { endpoint, service, _emulator: emulator };
        aws.store().create_tables().await?;
        Ok(aws)
    }

    pub(crate) fn refuse(&self, refused: Refused) {
        self.service.refused.lock().unwrap().push(refused);
    }

    pub(crate) fn allow_all(&self) {
        self.service.refused.lock().unwrap().clear();
    }

    /// Returns all different calls so far.
    pub(crate) fn recorded(&self) -> BTreeSet<Recorded> {
        self.service.recorded.lock().unwrap().keys().cloned().collect()
    }

    /// Returns how often a call was made, for what it needs the right to.
    pub(crate) fn count(&self, action: &str, resource: &str) -> u32 {
        let recorded = self.service.recorded.lock().unwrap();
        let calls =
            recorded.iter().filter(|(call, _)| call.action == action && call.resource == resource);
        calls.map(|(_, count)| count).sum()
    }

    /// Returns the request units since the last call, by the name of the table.
    pub(crate) fn take_consumed(&self) -> BTreeMap<String, Units> {
        std::mem::take(&mut *self.service.consumed.lock().unwrap())
    }

    /// Makes a call of DynamoDB that the store does not make.
    pub(crate) async fn call(&self, call: &str, body: &Value) -> Result<()> {
        let credential =
            "AWS4-HMAC-SHA256 Credential=test/20261201/us-east-1/dynamodb/aws4_request";
        let request = reqwest::Client::new()
            .post(&self.service.dynamodb)
            .header("x-amz-target", format!("DynamoDB_20120810.{call}"))
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-date", "20261201T000000Z")
            .header("authorization", format!("{credential}, SignedHeaders=host, Signature=0"))
            .body(body.to_string());
        let reply = request.send().await?;
        ensure!(reply.status() == 200, "{}", reply.text().await?);
        Ok(())
    }

    /// Returns the command of a worker of the deployment.
    pub(crate) fn worker(&self, database_url: &str, sync_config: &Path) -> Result<Command> {
        let mut command = self.command("test", "ingest")?;
        command
            .env("TIDEWATER_DATABASE_URL", database_url)
            .env("TIDEWATER_SYNC_CONFIG", sync_config);
        Ok(command)
    }

    /// Returns a command on the deployment's store, whose calls this access key signs.
    pub(crate) fn command(&self, access_key: &str, command: &str) -> Result<Command> {
        let arguments = [command];
        let mut command = Tidewater::command()?;
        command.args(arguments).env("TIDEWATER_STORE", "aws").envs(self.environment(access_key));
        Ok(command)
    }

    /// Returns the variables by which a program uses the deployment's store, with this access key.
    pub(crate) fn environment(&self, access_key: &str) -> Vec<(&'static str, String)> {
        let variables = [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", access_key),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
            ("TIDEWATER_TABLE_PREFIX", PREFIX),
            ("TIDEWATER_BUCKET", BUCKET),
        ];
        variables.map(|(name, value)| (name, value.to_owned())).into()
    }

    /// Returns the deployment's store.
    pub(crate) fn store(&self) -> AwsStore {
        let credentials = Credentials::from_keys("test", "test", None);
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url(&self.endpoint)
            .build();
        let config = AwsConfig { prefix: PREFIX.to_owned(), bucket_name: BUCKET.to_owned() };
        AwsStore::with_sdk(&sdk, &config)
    }
}

impl Emulator {
    fn start() -> Result<Self> {
        let mut child = Command::new(binary()?)
            .args(["serve", "--host", "127.0.0.1", "--port", "0", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on ").context("it does not listen")?;
        Ok(Self { endpoint: format!("http://{address}"), _child: child })
    }
}

/// Returns the emulator's program. It is built if `TIDEWATER_TEST_DYNAMODB` does not name it.
fn binary() -> Result<PathBuf> {
    if let Some(binary) = Settings::from_env()?.dynamodb {
        return Ok(binary);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localstack/dynamodb/build");
    let built = Command::new(script).stderr(Stdio::inherit()).output()?;
    ensure!(built.status.success(), "the emulator cannot be built");
    Ok(String::from_utf8(built.stdout)?.trim_end().into())
}

async fn answer(
    State(service): State<Arc<Service>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let access_key = access_key(&headers, &uri);
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    match target.and_then(|target| target.rsplit('.').next()) {
        Some(call) => {
            service.record_dynamodb(&access_key, call, &body);
            service.answer_as_dynamodb(call, &headers, &body).await
        }
        None => {
            let (call, response) = service.answer_as_s3(&method, uri.path(), &headers, body);
            service.record_s3(&access_key, call, response.status());
            response
        }
    }
}

/// Returns the access key that signed a request, in its header or in a presigned URL.
fn access_key(headers: &HeaderMap, uri: &Uri) -> String {
    let header = headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    let signed = header.and_then(|header| header.split_once("Credential="));
    let presigned = uri.query().and_then(|query| query.split_once("X-Amz-Credential="));
    let found = signed.or(presigned).map_or("", |(_, credential)| credential);
    found.split(['/', '%']).next().unwrap_or_default().to_owned()
}

/// Returns the partition key of an item or a key.
fn partition(item: &Value) -> Option<String> {
    let key = &item["p"];
    key["S"].as_str().or_else(|| key["N"].as_str()).map(str::to_owned)
}

impl Service {
    fn record(&self, access_key: &str, action: String, resource: &str, keys: BTreeSet<String>) {
        let call = Recorded {
            access_key: access_key.to_owned(),
            action,
            resource: resource.to_owned(),
            partitions: keys,
        };
        *self.recorded.lock().unwrap().entry(call).or_default() += 1;
    }

    fn record_dynamodb(&self, access_key: &str, call: &str, body: &Bytes) {
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return };
        let mut items: Vec<(&str, Vec<&Value>)> = Vec::new();
        if let Some(table) = body["TableName"].as_str() {
            items.push((table, vec![&body["Key"], &body["Item"]]));
        }
        for (table, requests) in body["RequestItems"].as_object().into_iter().flatten() {
            let keys = requests["Keys"].as_array().into_iter().flatten();
            let writes = requests.as_array().into_iter().flatten();
            let written = writes
                .flat_map(|write| [&write["PutRequest"]["Item"], &write["DeleteRequest"]["Key"]]);
            items.push((table, keys.chain(written).collect()));
        }

        for (table, items) in items {
            let table = table.strip_prefix(&format!("{PREFIX}-")).unwrap_or(table);
            let partitions = items.into_iter().filter_map(partition).collect();
            self.record(access_key, format!("dynamodb:{call}"), table, partitions);
        }
    }

    fn record_s3(&self, access_key: &str, call: &str, status: StatusCode) {
        self.record(access_key, format!("s3:{call}"), "objects/*", BTreeSet::new());
        if status == StatusCode::NOT_FOUND {
            // AWS answers 403 instead to a role without this right.
            self.record(access_key, "s3:ListBucket".to_owned(), "objects", BTreeSet::new());
        }
    }

    fn refused(&self, call: &str) -> Option<Refused> {
        self.refused.lock().unwrap().iter().find(|refused| refused.call == call).copied()
    }

    async fn answer_as_dynamodb(&self, call: &str, headers: &HeaderMap, body: &Bytes) -> Response {
        if let Some(Refused { status, code, .. }) = self.refused(call) {
            let body = json!({
                "__type": format!("com.amazon.coral.service#{code}"),
                "Message": format!(
                    "User: arn:aws:sts::123456789012:assumed-role/worker/i-0 is not authorized to \
                     perform: dynamodb:{call} because no identity-based policy allows it"
                ),
            });
            let content_type = [("content-type", "application/x-amz-json-1.0")];
            let status = StatusCode::from_u16(status).unwrap();
            return (status, content_type, body.to_string()).into_response();
        }

        let mut headers = headers.clone();
        headers.remove("host");
        headers.remove("content-length");
        let request = self.client.post(&self.dynamodb).headers(headers).body(body.clone());
        let reply = request.send().await.unwrap();
        let status = reply.status();
        let reply = reply.bytes().await.unwrap();
        self.note_consumed(call, &reply);
        let content_type = [("content-type", "application/x-amz-json-1.0")];
        (status, content_type, reply).into_response()
    }

    /// Adds the units that a reply names.
    fn note_consumed(&self, call: &str, reply: &Bytes) {
        let Ok(reply) = serde_json::from_slice::<Value>(reply) else { return };
        let consumed = &reply["ConsumedCapacity"];
        let consumed = consumed.as_array().cloned().unwrap_or_else(|| vec![consumed.clone()]);
        let is_read = ["GetItem", "BatchGetItem", "Query"].contains(&call);
        let mut tables = self.consumed.lock().unwrap();
        for of_table in consumed {
            let Some(table) = of_table["TableName"].as_str() else { continue };
            let table = table.strip_prefix(&format!("{PREFIX}-")).unwrap_or(table);
            let units = of_table["CapacityUnits"].as_f64().unwrap_or_default();
            let table = tables.entry(table.to_owned()).or_default();
            if is_read {
                table.read += units;
            } else {
                table.written += units;
            }
        }
    }

    fn answer_as_s3(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> (&'static str, Response) {
        let call = match *method {
            Method::PUT => "PutObject",
            Method::GET | Method::HEAD => "GetObject",
            _ => "DeleteObject",
        };
        if let Some(Refused { status, code, .. }) = self.refused(call) {
            return (call, s3_error(status, code));
        }
        if !path.starts_with(&format!("/{BUCKET}/")) {
            return (call, s3_error(404, "NoSuchBucket"));
        }

        let mut objects = self.objects.lock().unwrap();
        let response = match call {
            "PutObject" => {
                objects.insert(path.to_owned(), content(headers, body));
                StatusCode::OK.into_response()
            }
            "GetObject" => match objects.get(path) {
                Some(content) => part(content, headers),
                None => s3_error(404, "NoSuchKey"),
            },
            _ => {
                objects.remove(path);
                StatusCode::NO_CONTENT.into_response()
            }
        };
        (call, response)
    }
}

/// Returns the content of an object that is stored. A file is sent in chunks, each after its length in
/// hexadecimal digits.
fn content(headers: &HeaderMap, body: Bytes) -> Bytes {
    let form = headers.get("x-amz-content-sha256").and_then(|form| form.to_str().ok());
    if !form.is_some_and(|form| form.starts_with("STREAMING-")) {
        return body;
    }

    let mut rest = &body[..];
    let mut content = Vec::new();
    loop {
        let line = rest.iter().position(|byte| *byte == b'\r').unwrap();
        let length = std::str::from_utf8(&rest[..line]).unwrap();
        let length = usize::from_str_radix(length.split(';').next().unwrap(), 16).unwrap();
        if length == 0 {
            return content.into();
        }
        let start = line + 2;
        content.extend_from_slice(&rest[start..start + length]);
        rest = &rest[start + length + 2..];
    }
}

/// Returns the part of an object that the header `Range` names, or all of it.
fn part(content: &Bytes, headers: &HeaderMap) -> Response {
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
    let Some((start, end)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'))
    else {
        return content.clone().into_response();
    };
    let start: usize = start.parse().unwrap();
    let end = end.parse().map_or(content.len(), |last: usize| content.len().min(last + 1));
    if start >= content.len() {
        return s3_error(416, "InvalidRange");
    }
    let range = format!("bytes {start}-{}/{}", end - 1, content.len());
    (StatusCode::PARTIAL_CONTENT, [(CONTENT_RANGE, range)], content.slice(start..end))
        .into_response()
}

fn s3_error(status: u16, code: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>as S3 says it</Message><RequestId>4442587FB7D0A2F9</RequestId></Error>"
    );
    let content_type = [("content-type", "application/xml")];
    (StatusCode::from_u16(status).unwrap(), content_type, body).into_response()
}
