//! DynamoDB and S3 that refuse calls as AWS does. Behind it are the DynamoDB emulator, and objects in
//! memory: no emulator checks rights.
#![expect(clippy::unwrap_used, reason = "a helper of tests")]

use std::collections::HashMap;
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
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
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

    /// Returns the command of a worker of the deployment.
    pub(crate) fn worker(&self, database_url: &str, sync_config: &Path) -> Result<Command> {
        let mut command = Tidewater::command()?;
        command
            .arg("ingest")
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "us-east-1")
            .env("TIDEWATER_STORE", "aws")
            .env("TIDEWATER_TABLE_PREFIX", PREFIX)
            .env("TIDEWATER_BUCKET", BUCKET)
            .env("TIDEWATER_DATABASE_URL", database_url)
            .env("TIDEWATER_SYNC_CONFIG", sync_config);
        Ok(command)
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
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    match target.and_then(|target| target.rsplit('.').next()) {
        Some(call) => service.answer_as_dynamodb(call, &headers, &body).await,
        None => service.answer_as_s3(&method, uri.path(), body),
    }
}

impl Service {
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
        let call = self.client.post(&self.dynamodb).headers(headers).body(body.clone());
        let reply = call.send().await.unwrap();
        let status = reply.status();
        let content_type = [("content-type", "application/x-amz-json-1.0")];
        (status, content_type, reply.bytes().await.unwrap()).into_response()
    }

    fn answer_as_s3(&self, method: &Method, path: &str, body: Bytes) -> Response {
        let call = match *method {
            Method::PUT => "PutObject",
            Method::GET => "GetObject",
            _ => "DeleteObject",
        };
        if let Some(Refused { status, code, .. }) = self.refused(call) {
            return s3_error(status, code);
        }
        if !path.starts_with(&format!("/{BUCKET}/")) {
            return s3_error(404, "NoSuchBucket");
        }

        let mut objects = self.objects.lock().unwrap();
        match call {
            "PutObject" => {
                objects.insert(path.to_owned(), body);
                StatusCode::OK.into_response()
            }
            "GetObject" => match objects.get(path) {
                Some(content) => content.clone().into_response(),
                None => s3_error(404, "NoSuchKey"),
            },
            _ => {
                objects.remove(path);
                StatusCode::NO_CONTENT.into_response()
            }
        }
    }
}

fn s3_error(status: u16, code: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>as S3 says it</Message><RequestId>4442587FB7D0A2F9</RequestId></Error>"
    );
    let content_type = [("content-type", "application/xml")];
    (StatusCode::from_u16(status).unwrap(), content_type, body).into_response()
}
