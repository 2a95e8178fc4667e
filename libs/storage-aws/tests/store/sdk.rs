//! The configuration of the SDK for emulators.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;

/// Returns a configuration with this endpoint for all services.
pub(crate) fn for_endpoint(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::from_keys("test", "test", None);
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .build()
}

/// Returns a prefix that no other test uses.
pub(crate) fn random_prefix() -> String {
    format!("test-{:016x}", rand::random::<u64>())
}
