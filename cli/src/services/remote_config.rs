//! The sync config on S3, for a worker whose container has no file of it.

use std::path::Path;

use anyhow::{Context, anyhow};
use aws_config::BehaviorVersion;
use tidewater_storage::ObjectStore;
use tidewater_storage_aws::S3Objects;

use super::config_file::ConfigFile;
use crate::terminal::failure::Failure;

const SCHEME: &str = "s3://";

/// An object that holds a sync config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteConfig {
    bucket: String,
    folder: String,
    name: String,
}

impl RemoteConfig {
    /// Returns the object if the path is `s3://BUCKET/FOLDER/NAME`, and `None` if it is that of a file.
    pub(crate) fn parse(path: &Path) -> Result<Option<Self>, Failure> {
        let Some(rest) = path.to_str().and_then(|path| path.strip_prefix(SCHEME)) else {
            return Ok(None);
        };
        let parts = rest.split_once('/').and_then(|(bucket, key)| {
            let (folder, name) = key.rsplit_once('/')?;
            let is_complete = ![bucket, folder, name].contains(&"");
            is_complete.then(|| Self {
                bucket: bucket.to_owned(),
                folder: folder.to_owned(),
                name: name.to_owned(),
            })
        });
        parts.map(Some).ok_or_else(|| {
            Failure::Usage(anyhow!(
                "'{}' is no sync config: write s3://BUCKET/FOLDER/NAME, or name a file",
                path.display()
            ))
        })
    }

    /// Reads and compiles the object. Its errors and warnings are printed to stderr.
    pub(crate) async fn read(&self) -> Result<ConfigFile, Failure> {
        let Self { bucket, folder, name } = self;
        let url = format!("{SCHEME}{bucket}/{folder}/{name}");
        let sdk = aws_config::load_defaults(BehaviorVersion::latest()).await;
        let object = S3Objects::new(&sdk, bucket, folder)
            .object_range(name, 0..u64::MAX)
            .await
            .with_context(|| format!("cannot read the sync config '{url}'"))?
            .with_context(|| format!("the sync config '{url}' does not exist"))?;
        let text = String::from_utf8(object.to_vec())
            .with_context(|| format!("the sync config '{url}' is not UTF-8"))
            .map_err(Failure::Usage)?;
        ConfigFile::compile(url, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> Option<[String; 3]> {
        let found = RemoteConfig::parse(Path::new(path)).unwrap();
        found.map(|found| [found.bucket, found.folder, found.name])
    }

    #[test]
    fn an_object_has_a_bucket_a_folder_and_a_name() {
        let expected = ["code", "tidewater/1f3a", "sync-config.yaml"].map(str::to_owned);
        assert_eq!(parsed("s3://code/tidewater/1f3a/sync-config.yaml"), Some(expected));
        assert_eq!(parsed("sync-config.yaml"), None);
        assert_eq!(parsed("/etc/s3/sync-config.yaml"), None);
        for wrong in ["s3://code", "s3://code/file.yaml", "s3:///a/b", "s3://code/a/"] {
            assert!(RemoteConfig::parse(Path::new(wrong)).is_err(), "{wrong}");
        }
    }
}
