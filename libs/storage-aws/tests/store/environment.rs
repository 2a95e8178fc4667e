//! The configuration of the store by the standard AWS environment.

use std::process::Command;

use tidewater_storage::WriteCheckpointStore;
use tidewater_storage_aws::{AwsConfig, AwsStore};

use crate::emulator;

/// The variable that this test sets for the process in which it runs again.
const PREFIX: &str = "TIDEWATER_TEST_PREFIX";

/// Runs this test in another process, with only this AWS environment.
fn again(environment: &[(&str, &str)]) -> std::process::Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "environment::the_environment_configures_the_store", "--nocapture"]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", "/nowhere");
    command.envs(environment.iter().copied()).output().unwrap()
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "set by the same test in another process")]
async fn the_environment_configures_the_store() {
    if let Ok(prefix) = std::env::var(PREFIX) {
        let config = AwsConfig { prefix, ..AwsConfig::new("objects") };
        let store = match AwsStore::connect(&config).await {
            Ok(store) => store,
            Err(error) => panic!("{:?}", std::error::Error::source(&error)),
        };
        store.create_tables().await.unwrap();
        println!("took {:?}", store.take_ticket().await.unwrap());
        return;
    }

    let prefix = crate::sdk::random_prefix();
    let prefix = (PREFIX, prefix.as_str());
    let endpoint = ("AWS_ENDPOINT_URL_DYNAMODB", emulator::endpoint());
    let id = ("AWS_ACCESS_KEY_ID", "test");
    let secret = ("AWS_SECRET_ACCESS_KEY", "test");

    let found = again(&[prefix, endpoint, id, secret, ("AWS_REGION", "eu-west-1")]);
    assert!(String::from_utf8_lossy(&found.stdout).contains("took Ticket(1)"), "{found:?}");

    let lost = again(&[prefix, endpoint, id, secret]);
    let text = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert!(!lost.status.success() && text.contains("no AWS region is configured"), "{text}");
}
