//! The store: its flags, and how commands open it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, anyhow};
use clap::Args;
use tidewater_storage::Embedded;
#[cfg(feature = "aws")]
use tidewater_storage_aws::{AwsConfig, AwsStore};

use crate::terminal::failure::Failure;

/// Store without `--store`.
const DEFAULT: &str = "embedded:.tidewater";

/// The flags that select the store.
#[derive(Args, Clone, Debug)]
pub(crate) struct StoreArgs {
    /// Store for synced data: embedded:DIR, or aws (DynamoDB and S3; account, region and credentials
    /// come from the AWS environment)
    #[arg(long, env = "TIDEWATER_STORE", value_name = "STORE", default_value = DEFAULT)]
    pub(crate) store: StoreArg,
    /// Prefix of the names of the DynamoDB tables, for --store aws
    #[cfg(feature = "aws")]
    #[arg(long, env = "TIDEWATER_TABLE_PREFIX", value_name = "PREFIX",
          default_value = AwsConfig::PREFIX)]
    table_prefix: String,
    /// Name of the S3 bucket, for --store aws
    #[cfg(feature = "aws")]
    #[arg(long, env = "TIDEWATER_BUCKET", value_name = "NAME")]
    bucket: Option<String>,
}

/// The value of `--store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreArg {
    /// SQLite database and files in a directory.
    Embedded(PathBuf),
    /// DynamoDB tables and an S3 bucket.
    #[cfg(feature = "aws")]
    Aws,
}

impl StoreArgs {
    /// Connects to the store on AWS.
    #[cfg(feature = "aws")]
    pub(crate) async fn aws(&self) -> Result<AwsStore, Failure> {
        let bucket = self.bucket.clone().ok_or_else(|| {
            Failure::Usage(anyhow::anyhow!(
                "--store aws needs --bucket: the S3 bucket of the deployment (an output of its \
                 stack)"
            ))
        })?;
        let config = AwsConfig { prefix: self.table_prefix.clone(), bucket_name: bucket };
        Ok(AwsStore::connect(&config).await.context("cannot use the store on AWS")?)
    }

    /// Fails if the store is to be in a directory that has none. Opening it would create one.
    pub(crate) fn must_exist(&self) -> Result<(), Failure> {
        match &self.store {
            StoreArg::Embedded(dir) if !dir.join("tidewater.db").exists() => {
                let error = anyhow!("there is no store in '{}' (--store)", dir.display());
                Err(Failure::Usage(error))
            }
            StoreArg::Embedded(_) => Ok(()),
            #[cfg(feature = "aws")]
            StoreArg::Aws => Ok(()),
        }
    }

    /// Opens the store once more if it is embedded, for its size.
    pub(crate) fn embedded(&self) -> anyhow::Result<Option<Embedded>> {
        match &self.store {
            StoreArg::Embedded(dir) => Ok(Some(open(dir)?)),
            #[cfg(feature = "aws")]
            StoreArg::Aws => Ok(None),
        }
    }

    /// Returns a text that distinguishes this deployment from others on this machine.
    pub(crate) fn place(&self) -> String {
        match &self.store {
            StoreArg::Embedded(dir) => dir.display().to_string(),
            #[cfg(feature = "aws")]
            StoreArg::Aws => format!("aws {}", self.table_prefix),
        }
    }
}

/// Evaluates an expression with the selected store. The stores have different types, so this is a
/// macro.
macro_rules! with_store {
    ($args:expr, $storage:ident => $body:expr) => {
        match &$args.store {
            $crate::services::store::StoreArg::Embedded(dir) => {
                let $storage =
                    tidewater_storage::Measured::new($crate::services::store::open(dir)?);
                $body
            }
            #[cfg(feature = "aws")]
            $crate::services::store::StoreArg::Aws => {
                let $storage = tidewater_storage::Measured::new($args.aws().await?);
                $body
            }
        }
    };
}
pub(crate) use with_store;

impl FromStr for StoreArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("embedded", dir)) if !dir.is_empty() => Ok(Self::Embedded(dir.into())),
            #[cfg(feature = "aws")]
            None if text == "aws" => Ok(Self::Aws),
            #[cfg(not(feature = "aws"))]
            None if text == "aws" => {
                Err("this tidewater was built without the 'aws' feature, which --store aws needs; \
                     build it with default features"
                    .to_owned())
            }
            _ => Err("expected embedded:DIR (embedded:.tidewater), or aws".to_owned()),
        }
    }
}

/// Opens the store of a data directory.
pub(crate) fn open(dir: &Path) -> anyhow::Result<Embedded> {
    Embedded::open(dir).with_context(|| format!("cannot open the store in '{}'", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<StoreArg, String> {
        text.parse()
    }

    #[test]
    fn a_store_is_embedded_in_a_directory_or_on_aws() {
        assert_eq!(check("embedded:a/b"), Ok(StoreArg::Embedded("a/b".into())));
        #[cfg(feature = "aws")]
        assert_eq!(check("aws"), Ok(StoreArg::Aws));
        #[cfg(not(feature = "aws"))]
        assert!(check("aws").unwrap_err().contains("without the 'aws' feature"));
        for bad in ["embedded", "embedded:", "sqlite:x", "aws:x", ""] {
            assert!(check(bad).unwrap_err().starts_with("expected embedded:DIR"), "{bad}");
        }
    }
}
