//! `--store`: where synced data is kept.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use tidewater_storage::Embedded;

/// The store where none is named.
pub(crate) const DEFAULT: &str = "embedded:.tidewater";

/// A store, as it is named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreArg {
    /// SQLite and files in a directory.
    Embedded(PathBuf),
}

impl FromStr for StoreArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("embedded", dir)) if !dir.is_empty() => Ok(Self::Embedded(dir.into())),
            _ if text == "aws" => {
                Err("the store 'aws' is not in this version yet; use embedded:DIR".to_owned())
            }
            _ => Err("expected embedded:DIR, for example embedded:.tidewater".to_owned()),
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

    #[test]
    fn a_store_is_named_with_its_place() {
        let check = |text: &str| text.parse::<StoreArg>();
        assert_eq!(check("embedded:a/b"), Ok(StoreArg::Embedded("a/b".into())));
        assert!(check("aws").unwrap_err().contains("not in this version yet"));
        for bad in ["embedded", "embedded:", "sqlite:x", ""] {
            assert!(check(bad).unwrap_err().starts_with("expected embedded:DIR"), "{bad}");
        }
    }
}
