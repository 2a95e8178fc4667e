//! The DynamoDB emulator: one for the process of a test, which ends with it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tidewater_storage::Embedded;
use tidewater_storage_aws::AwsStore;

use crate::sdk;

/// It ends when its stdin closes, which the end of this process does.
struct Emulator {
    endpoint: String,
    _child: Child,
}

/// Where the emulator answers.
pub(crate) fn endpoint() -> &'static str {
    static EMULATOR: OnceLock<Emulator> = OnceLock::new();
    &EMULATOR.get_or_init(start).endpoint
}

/// A store whose tables and objects no other test has.
pub(crate) async fn empty_store() -> AwsStore<Embedded> {
    let [store, _] = two_handles_of_an_empty_store().await;
    store
}

/// The same, opened by two clients that know nothing of each other.
pub(crate) async fn two_handles_of_an_empty_store() -> [AwsStore<Embedded>; 2] {
    two_handles(endpoint()).await
}

/// The same, with DynamoDB at this endpoint.
pub(crate) async fn two_handles(endpoint: &str) -> [AwsStore<Embedded>; 2] {
    let (prefix, objects) = (sdk::random_prefix(), Embedded::temporary().unwrap());
    let open = || AwsStore::with_objects(&sdk::for_endpoint(endpoint), &prefix, objects.clone());
    let stores = [open(), open()];
    stores[0].create_tables().await.unwrap();
    stores
}

fn start() -> Emulator {
    let mut child = Command::new(binary())
        .args(["serve", "--host", "127.0.0.1", "--port", "0", "--until-stdin-closes"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap();
    Emulator { endpoint: format!("http://{address}"), _child: child }
}

#[expect(clippy::disallowed_methods, reason = "tests are told where it is by the environment")]
fn binary() -> PathBuf {
    if let Ok(path) = std::env::var("TIDEWATER_TEST_DYNAMODB") {
        return path.into();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../localstack/dynamodb/build");
    let built = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
    assert!(built.status.success(), "the emulator cannot be built");
    String::from_utf8(built.stdout).unwrap().trim_end().into()
}
