//! The DynamoDB emulator. Each test process starts one, which ends with it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tidewater_storage::Embedded;
use tidewater_storage_aws::AwsStore;

use crate::sdk;

/// A running emulator. It ends when its stdin closes, at the latest when this process ends.
struct Emulator {
    endpoint: String,
    _child: Child,
}

/// Returns the address of the emulator, which the first call starts.
pub(crate) fn endpoint() -> &'static str {
    static EMULATOR: OnceLock<Emulator> = OnceLock::new();
    &EMULATOR.get_or_init(start).endpoint
}

/// Returns a store with tables and objects that no other test uses.
pub(crate) async fn empty_store() -> AwsStore<Embedded> {
    let [store, _] = two_handles_of_an_empty_store().await;
    store
}

/// Returns two independent clients of an empty store.
pub(crate) async fn two_handles_of_an_empty_store() -> [AwsStore<Embedded>; 2] {
    two_handles(endpoint()).await
}

/// Returns two independent clients of an empty store, with DynamoDB at this endpoint.
pub(crate) async fn two_handles(endpoint: &str) -> [AwsStore<Embedded>; 2] {
    let prefix = sdk::random_prefix();
    let objects = Embedded::temporary().unwrap();
    let stores = [objects.clone(), objects]
        .map(|objects| AwsStore::with_objects(&sdk::for_endpoint(endpoint), &prefix, objects));
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

#[expect(clippy::disallowed_methods, reason = "the environment tells tests its path")]
fn binary() -> PathBuf {
    if let Ok(path) = std::env::var("TIDEWATER_TEST_DYNAMODB") {
        return path.into();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../localstack/dynamodb/build");
    let built = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
    assert!(built.status.success(), "the emulator cannot be built");
    String::from_utf8(built.stdout).unwrap().trim_end().into()
}
